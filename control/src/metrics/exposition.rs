//! The forms in which metrics leave: Prometheus' classic text, OpenMetrics text, and protobuf,
//! which alone has native histograms.

use super::distribution::Distribution;
use super::family::{Family, Kind, Label, Series, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder,
    NativeHistogram, NativeHistogramBuckets, NoLabelSet, prometheus_protobuf, text,
};
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::fmt;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/plain; version=0.0.4`: for everybody who asks for nothing else.
    Classic,
    /// `application/openmetrics-text`.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily`.
    Protobuf,
}

impl Form {
    /// The `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// The form that an `Accept` header likes best; classic text where it names none of ours.
    pub fn accepted(header: &str) -> Self {
        let mut best = (0.0, Self::Classic);
        for entry in header.split(',') {
            let Some(form) = Self::of_media_type(entry) else { continue };
            let quality = quality(entry);
            // Of two that are liked as much, the first one counts.
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }

    fn of_media_type(entry: &str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = parts.next()?;
        let has = |wanted: &str| entry.split(';').any(|part| part.trim() == wanted);
        match media_type {
            "application/vnd.google.protobuf"
                if has("proto=io.prometheus.client.MetricFamily") && has("encoding=delimited") =>
            {
                Some(Self::Protobuf)
            }
            "application/openmetrics-text" if has("version=1.0.0") || has("version=0.0.1") => {
                Some(Self::OpenMetrics)
            }
            "text/plain" | "text/*" | "*/*" => Some(Self::Classic),
            _ => None,
        }
    }
}

fn quality(entry: &str) -> f64 {
    let given = entry.split(';').find_map(|part| part.trim().strip_prefix("q="));
    given.map_or(1.0, |q| q.parse().unwrap_or(0.0))
}

/// Writes `families` in a form; with native buckets where the form has them and `is_native`.
///
/// # Errors
/// A label or name that the encoder cannot take; ours all can.
pub fn write(families: Vec<Family>, form: Form, is_native: bool) -> Result<Vec<u8>, fmt::Error> {
    let counters: BTreeSet<_> =
        families.iter().filter(|f| f.kind == Kind::Counter).map(|f| f.name).collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { families, is_native }));
    if form == Form::Protobuf {
        return prometheus_protobuf::encode_to_vec(&registry).map_err(|_refused| fmt::Error);
    }
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    let written = if form == Form::Classic { classic(&written, &counters) } else { written };
    Ok(written.into_bytes())
}

/// OpenMetrics names a counter's family without `_total`; the classic form names it with it.
fn classic(text: &str, counters: &BTreeSet<&str>) -> String {
    let mut classic = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                for part in ["# ", what, " ", name, "_total ", rest] {
                    classic.push_str(part);
                }
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}

/// One scrape's families.
#[derive(Debug)]
struct Scrape {
    families: Vec<Family>,
    is_native: bool,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.families.iter().filter(|family| !family.series.is_empty()) {
            let kind = family.kind.metric_type();
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for series in &family.series {
                encode(series, family.kind, self.is_native, &mut metric)?;
            }
        }
        Ok(())
    }
}

fn encode(
    series: &Series,
    kind: Kind,
    is_native: bool,
    metric: &mut MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    if series.labels.is_empty() {
        // An empty label set would be written as `{}`.
        return encode_value(&series.value, kind, is_native, metric);
    }
    let labels = Labels(&series.labels);
    encode_value(&series.value, kind, is_native, &mut metric.encode_family(&labels)?)
}

fn encode_value(
    value: &Value,
    kind: Kind,
    is_native: bool,
    metric: &mut MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    match (value, kind) {
        (Value::Whole(value), Kind::Counter) => {
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (Value::Real(value), Kind::Counter) => {
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (Value::Whole(value), _) => metric.encode_gauge(value),
        (Value::Real(value), _) => metric.encode_gauge(value),
        (Value::Distribution(seen), _) if is_native => encode_native(seen, metric),
        (Value::Distribution(seen), _) => {
            let (sum, count) = seen.sum_and_count();
            metric.encode_histogram::<NoLabelSet>(sum, count, seen.classic(), None)
        }
    }
}

fn encode_native(seen: &Distribution, metric: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
    let (sum, count) = seen.sum_and_count();
    let (schema, zero_threshold, zero_count) = seen.native_head();
    let buckets = seen.native();
    let positive = NativeHistogramBuckets { spans: &buckets.spans, deltas: &buckets.deltas };
    let negative = NativeHistogramBuckets { spans: &[], deltas: &[] };
    let created = None;
    let native =
        NativeHistogram { schema, zero_threshold, zero_count, negative, positive, created };
    metric.encode_histogram_with_native::<NoLabelSet>(sum, count, seen.classic(), None, native)
}

struct Labels<'a>(&'a [(&'static str, Label)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in self.0 {
            (*name, value.text()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let mut packets = Family::counter("a_packets", "Packets.");
        packets.push([("interface", "eth0".into()), ("reason", "X\"Y".to_owned().into())], 3);
        let mut seconds = Distribution::new([0.5, 1.0]);
        seconds.observe(0.75, 2);
        vec![
            packets,
            Family::gauge("a_ready", "Whether it is ready.").with(1),
            Family::counter("a_gone", "Nothing."),
            Family::histogram("a_seconds", "Time.").with_distribution([], seconds),
        ]
    }

    fn text(form: Form) -> String {
        String::from_utf8(write(families(), form, true).unwrap()).unwrap()
    }

    const SAMPLES: &str = "a_packets_total{interface=\"eth0\",reason=\"X\\\"Y\"} 3\n";
    const REST: &str = "# HELP a_ready Whether it is ready.\n# TYPE a_ready gauge\na_ready 1\n\
                        # HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_sum 1.5\n\
                        a_seconds_count 2\na_seconds_bucket{le=\"0.5\"} 0\n\
                        a_seconds_bucket{le=\"1.0\"} 2\na_seconds_bucket{le=\"+Inf\"} 2\n";

    #[test]
    fn both_texts_say_the_same_in_their_own_form() {
        let head = |name: &str| format!("# HELP {name} Packets.\n# TYPE {name} counter\n");
        let open = format!("{}{SAMPLES}{REST}# EOF\n", head("a_packets"));
        assert_eq!(text(Form::OpenMetrics), open);
        let classic = format!("{}{SAMPLES}{REST}", head("a_packets_total"));
        assert_eq!(text(Form::Classic), classic);
    }

    #[test]
    fn protobuf_has_native_buckets_only_where_they_are_wanted() {
        let length = |is_native| write(families(), Form::Protobuf, is_native).unwrap().len();
        assert!(length(true) > length(false));
    }

    #[test]
    fn the_form_that_the_scraper_likes_best_is_chosen() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                        encoding=delimited";
        for (accept, form) in [
            ("", Form::Classic),
            ("*/*", Form::Classic),
            ("text/html", Form::Classic),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
                Form::OpenMetrics,
            ),
            ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.3", Form::Classic),
            (
                &format!("{protobuf};q=0.7,application/openmetrics-text;version=1.0.0;q=0.5"),
                Form::Protobuf,
            ),
            (protobuf, Form::Protobuf),
            ("application/vnd.google.protobuf;proto=x;encoding=text", Form::Classic),
            ("application/openmetrics-text;version=1.0.0;q=nonsense", Form::Classic),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }
}
