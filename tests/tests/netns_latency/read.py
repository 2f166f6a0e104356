"""Reads a .hlog from stdin with HdrHistogram's Python implementation; prints JSON: for each tag and
for "all" the count, the maximum and the values at some quantiles."""

import json
import math
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

QUANTILES = [0.5, 0.9, 0.99, 0.999, 0.9999]


def at(histogram, quantile):
    """The smallest value that so many of all are at most, as its bucket's highest one."""
    wanted = max(1, math.ceil(quantile * histogram.total_count))
    seen = 0
    for step in histogram.get_recorded_iterator():
        seen += step.count_at_value_iterated_to
        if seen >= wanted:
            return histogram.get_highest_equivalent_value(step.value_iterated_to)
    return 0


def figures(histogram):
    return {
        "count": histogram.total_count,
        "max": histogram.get_max_value(),
        "values": [at(histogram, quantile) for quantile in QUANTILES],
    }


reader = HistogramLogReader("/dev/stdin", HdrHistogram(1, 1_000_000_000, 2))
sums = {}
while (interval := reader.get_next_interval_histogram()) is not None:
    for tag in ("all", interval.get_tag()):
        sums.setdefault(tag, HdrHistogram(1, 1_000_000_000, 2)).add(interval)
print(json.dumps({tag: figures(histogram) for tag, histogram in sums.items()}))
