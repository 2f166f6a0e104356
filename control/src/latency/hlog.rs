//! `.hlog`: `HdrHistogram`'s interval log, one line for each worker and interval, nanoseconds.

use crate::latency::interval::Interval;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate_dataplane::stats::{Stage, Traffic};

/// What the lines of one log are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The stage.
    pub stage: Stage,
    /// The kind of packets; `None` is all.
    pub kind: Option<Traffic>,
}

impl Subject {
    /// Whole stays of all packets.
    pub const ALL: Self = Self { stage: Stage::Total, kind: None };
}

/// The head of a log whose times count from `base`.
pub fn head(subject: Subject, sampled_every: u32, base: SystemTime) -> String {
    let kind = subject.kind.map_or("all packets", Traffic::name);
    let about = format!(
        "[tidegate {}: {}, {kind}, one packet in {sampled_every}, nanoseconds]",
        env!("CARGO_PKG_VERSION"),
        subject.stage.name()
    );
    written(&headed(&about, base), |_| Ok(()))
}

fn headed(about: &str, base: SystemTime) -> IntervalLogWriterBuilder {
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(about)
        .add_comment("[MaxValueDivisor: 1.000]")
        .with_start_time(base)
        .with_base_time(base);
    builder
}

/// A load's tag (no blanks), its histogram, and when after the log's base it was and for how long.
pub type OfLoad = (String, Histogram<u64>, (Duration, Duration));

/// A whole log of loads that a generator measured; `about` is its second comment.
pub fn of_loads(about: &str, base: SystemTime, loads: &[OfLoad]) -> String {
    written(&headed(about, base), |line| {
        loads.iter().try_for_each(|(tag, histogram, time)| line(tag, histogram, *time))
    })
}

/// The lines of an interval in a log whose times count from `base`.
pub fn lines(interval: &Interval, subject: Subject, base: SystemTime) -> String {
    // A clock that was set back: the log's times stay in order as well as they can.
    let at = interval.start.duration_since(base).unwrap_or_default();
    let each = interval.workers.iter().map(|(worker, packed)| {
        (format!("worker{}", worker.0), packed.histogram(subject.stage, subject.kind))
    });
    let each: Vec<_> = each.collect();
    written(&IntervalLogWriterBuilder::new(), |line| {
        each.iter().try_for_each(|(tag, histogram)| line(tag, histogram, (at, interval.length)))
    })
}

/// A whole log: these intervals, oldest first.
pub fn text(intervals: &[Arc<Interval>], subject: Subject, sampled_every: u32) -> String {
    let base = intervals.first().map_or_else(SystemTime::now, |first| first.start);
    let ends = intervals.first().zip(intervals.last());
    let numbers =
        ends.map(|(first, last)| format!("#[Intervals {} to {}]\n", first.number, last.number));
    let mut text = head(subject, sampled_every, base) + &numbers.unwrap_or_default();
    text.extend(intervals.iter().map(|interval| lines(interval, subject, base)));
    text
}

/// The number of the last interval of a whole log.
pub fn last_interval(text: &str) -> Option<u64> {
    let comment = text.lines().find_map(|line| line.strip_prefix("#[Intervals "))?;
    comment.trim_end_matches(']').rsplit(' ').next()?.parse().ok()
}

type Line<'a> = dyn FnMut(&str, &Histogram<u64>, (Duration, Duration)) -> Result<(), ()> + 'a;

fn written(
    builder: &IntervalLogWriterBuilder,
    fill: impl FnOnce(&mut Line<'_>) -> Result<(), ()>,
) -> String {
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    // Writing to a vector cannot fail, no count reaches 2^63, and our tags have no blank.
    if let Ok(mut writer) = builder.begin_log_with(&mut bytes, &mut serializer) {
        fill(&mut |tag, histogram, (at, length)| {
            writer.write_histogram(histogram, at, length, Tag::new(tag)).map_err(|_never| ())
        })
        .ok();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::interval::tests::interval;

    #[test]
    fn a_log_has_a_head_and_a_line_for_each_worker_and_interval() {
        let intervals: Vec<_> = [7, 8].map(|n| Arc::new(interval(n, 2, &[1_000, 5_000]))).into();
        let text = text(&intervals, Subject::ALL, 64);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "#[Histogram log format version 1.3]");
        assert!(lines[1].ends_with("total, all packets, one packet in 64, nanoseconds]"));
        assert_eq!(lines[3], "#[StartTime: 1000007.000 (seconds since epoch)]");
        assert_eq!(lines[4], "#[BaseTime: 1000007.000 (seconds since epoch)]");
        assert_eq!(lines[5], "#[Intervals 7 to 8]");
        assert!(lines[6].starts_with("Tag=worker0,0.000,1.000,5023.000,HISTFAAAA"), "{text}");
        assert!(lines[9].starts_with("Tag=worker1,1.000,1.000,5023.000,HISTFAAAA"), "{text}");
        assert_eq!((lines.len(), last_interval(&text)), (10, Some(8)));
        assert_eq!(last_interval(&head(Subject::ALL, 1, SystemTime::now())), None);
    }
}
