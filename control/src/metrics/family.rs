//! What is told at one scrape, before it has a form.

use super::distribution::Distribution;
use prometheus_client::metrics::MetricType;
use std::borrow::Cow;
use std::sync::Arc;

/// All series of one name.
#[derive(Debug, Clone)]
pub struct Family {
    /// The name; a counter's without `_total`.
    pub name: &'static str,
    /// What is counted; a sentence.
    pub help: &'static str,
    /// What the values mean.
    pub kind: Kind,
    /// One for each combination of labels.
    pub series: Vec<Series>,
}

/// What the values of a family mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Values by size.
    Histogram,
}

impl Kind {
    pub(super) fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

/// One value with its labels.
#[derive(Debug, Clone)]
pub struct Series {
    /// Names and values. Never a client's address, a pod's name or a flow.
    pub labels: Vec<(&'static str, Label)>,
    /// The value.
    pub value: Value,
}

/// A label's value. Names that come with each scrape are shared, not copied.
#[derive(Debug, Clone)]
pub enum Label {
    /// One of ours.
    Word(Cow<'static, str>),
    /// The cluster's.
    Name(Arc<str>),
}

impl Label {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Name(name) => name,
        }
    }
}

impl From<&'static str> for Label {
    fn from(word: &'static str) -> Self {
        Self::Word(Cow::Borrowed(word))
    }
}

impl From<String> for Label {
    fn from(word: String) -> Self {
        Self::Word(Cow::Owned(word))
    }
}

impl From<&Arc<str>> for Label {
    fn from(name: &Arc<str>) -> Self {
        Self::Name(Arc::clone(name))
    }
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Whole.
    Whole(u64),
    /// Seconds, ratios.
    Real(f64),
    /// Values by size.
    Distribution(Box<Distribution>),
}

impl Family {
    /// A counter without series yet.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, series: Vec::new() }
    }

    /// A gauge without series yet.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, series: Vec::new() }
    }

    /// A histogram without series yet.
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, series: Vec::new() }
    }

    /// Adds the series of `more` to the families of their names in `all`, and what that lacks.
    pub fn merge(all: &mut Vec<Self>, more: Vec<Self>) {
        for family in more {
            match all.iter_mut().find(|known| known.name == family.name) {
                Some(known) => known.series.extend(family.series),
                None => all.push(family),
            }
        }
    }

    /// Adds a whole value.
    pub fn push<const N: usize>(&mut self, labels: [(&'static str, Label); N], value: u64) {
        self.series.push(Series { labels: labels.into(), value: Value::Whole(value) });
    }

    /// Adds a whole value with labels that were gathered.
    pub fn push_labelled(&mut self, labels: Vec<(&'static str, Label)>, value: u64) {
        self.series.push(Series { labels, value: Value::Whole(value) });
    }

    /// Adds a value that has a fraction.
    pub fn push_real<const N: usize>(&mut self, labels: [(&'static str, Label); N], value: f64) {
        self.series.push(Series { labels: labels.into(), value: Value::Real(value) });
    }

    /// This family with one value and no label.
    #[must_use]
    pub fn with(mut self, value: u64) -> Self {
        self.push([], value);
        self
    }

    /// This family with one value that has a fraction, and no label.
    #[must_use]
    pub fn with_real(mut self, value: f64) -> Self {
        self.push_real([], value);
        self
    }

    /// This histogram with one series of these labels.
    #[must_use]
    pub fn with_distribution<const N: usize>(
        mut self,
        labels: [(&'static str, Label); N],
        distribution: Distribution,
    ) -> Self {
        let value = Value::Distribution(Box::new(distribution));
        self.series.push(Series { labels: labels.into(), value });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_family_become_one() {
        let part = |name, value| Family::gauge(name, "Something.").with(value);
        let mut all = vec![part("a", 1)];
        Family::merge(&mut all, vec![part("b", 2), part("a", 3)]);
        let found: Vec<_> = all.iter().map(|f| (f.name, f.series.len())).collect();
        assert_eq!(found, [("a", 2), ("b", 1)]);
    }
}
