//! Finds the line of a field, so that a refusal points at it and not at the object's start.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};
use std::fmt;

/// The YAML parser's limits. Its defaults are for configuration files; a cluster's state has
/// millions of nodes. Nesting and aliases keep their small limits: manifests need neither.
pub(super) fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 200_000_000,
            max_nodes: 100_000_000,
            max_total_scalar_bytes: 1 << 30,
        },
    }
}

/// The line (from 1, within `text`) of the field `path` of the document, or of the List's item
/// `item`. A field that is missing has its nearest parent's line.
pub(super) fn line_of(text: &str, item: Option<usize>, path: &str) -> Option<u64> {
    let mut steps: Vec<Step> = Vec::new();
    if let Some(i) = item {
        steps.extend([Step::Key("items".to_owned()), Step::Index(i)]);
    }
    let object_depth = steps.len();
    steps.extend(path.split('.').flat_map(steps_of));
    (object_depth.max(1)..=steps.len()).rev().find_map(|depth| find(text, steps.get(..depth)?))
}

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// `ports[0]` is two steps.
fn steps_of(part: &str) -> Vec<Step> {
    let (name, index) = part.split_once('[').unwrap_or((part, ""));
    let index = index.strip_suffix(']').and_then(|digits| digits.parse().ok());
    [Step::Key(name.to_owned())].into_iter().chain(index.map(Step::Index)).collect()
}

fn find(text: &str, steps: &[Step]) -> Option<u64> {
    let found = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |input| {
        Locate(steps).deserialize(input)
    });
    found.ok().flatten()
}

/// Follows the steps; gives the line where they end.
#[derive(Clone, Copy)]
struct Locate<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        match self.0.first() {
            None => Spanned::<IgnoredAny>::deserialize(input).map(|s| Some(s.referenced.line())),
            Some(_) => input.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((Step::Key(wanted), rest)) if *wanted == key => {
                    found = map.next_value_seed(Locate(rest))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((Step::Index(wanted), rest)) = self.0.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element_seed(Locate(rest))?.flatten();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
