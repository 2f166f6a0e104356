//! One YAML document to Kubernetes' own objects. The kinds are told by a first pass over the text
//! and the objects read by a second, so that errors keep their line and column inside Lists too.

use super::locate;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess};
use serde::de::{SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// One document of a YAML stream.
pub(super) struct Document<'a> {
    /// Lines before it in the file.
    pub(super) lines_before: usize,
    pub(super) text: &'a str,
}

/// A line that starts with `---` starts a document; YAML allows it nowhere else, not even inside
/// a block of text (YAML 1.2.2 section 9.1.2).
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_marker {
            documents.push(Document { lines_before: start_line, text: &text[start..at] });
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    documents.push(Document { lines_before: start_line, text: &text[start..] });
    documents.retain(|document| document.text.lines().any(has_content));
    documents
}

fn has_content(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    !line.is_empty() && !line.starts_with('#') && line != "..."
}

/// Kubernetes' own form of an object that tidegate reads.
pub(super) enum Raw {
    Service(Box<core::Service>),
    EndpointSlice(Box<discovery::EndpointSlice>),
    Pod(Box<core::Pod>),
    Node(Box<core::Node>),
}

impl Raw {
    /// Kind and name, for people.
    pub(super) fn title(&self) -> String {
        let (kind, metadata) = match self {
            Self::Service(object) => ("Service", &object.metadata),
            Self::EndpointSlice(object) => ("EndpointSlice", &object.metadata),
            Self::Pod(object) => ("Pod", &object.metadata),
            Self::Node(object) => ("Node", &object.metadata),
        };
        format!("{kind} {}", metadata.name.as_deref().unwrap_or("without a name"))
    }
}

/// An object of a document.
pub(super) struct Entry {
    /// Its place in a List.
    pub(super) item: Option<usize>,
    /// Its first line within the document, from 1.
    pub(super) line: u64,
    pub(super) raw: Raw,
}

/// The objects of a document that tidegate reads, in their order.
///
/// # Errors
/// Not YAML, or not of the form of its kind.
pub(super) fn read_document(text: &str) -> Result<Vec<Entry>, serde_saphyr::Error> {
    let header: Spanned<Header> = serde_saphyr::from_str_with_options(text, locate::options())?;
    let line = header.referenced.line();
    let header = header.value;
    if let Some(items) = &header.items {
        let stem = header.kind.as_deref().and_then(|kind| kind.strip_suffix("List"));
        let kinds: Vec<_> = items.iter().map(|item| Kind::of(item, stem)).collect();
        return with_seed(text, ListSeed(&kinds));
    }
    match Kind::of(&header, None) {
        Kind::Other(kind) => {
            tracing::debug!(kind, "a kind that tidegate does not read");
            Ok(Vec::new())
        }
        kind => {
            let raw = with_seed(text, ObjectSeed(&kind))?;
            Ok(raw.into_iter().map(|(_, raw)| Entry { item: None, line, raw }).collect())
        }
    }
}

fn with_seed<T>(
    text: &str,
    seed: impl for<'de> DeserializeSeed<'de, Value = T>,
) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::with_deserializer_from_str_with_options(text, locate::options(), |deserializer| {
        seed.deserialize(deserializer)
    })
}

/// What tells a document's kind.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: Option<String>,
    kind: Option<String>,
    items: Option<Vec<Header>>,
}

/// The kinds that tidegate reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Service,
    EndpointSlice,
    Pod,
    Node,
    List,
    Other(String),
}

impl Kind {
    /// The kind that a header tells; in a typed list (`ServiceList`) an item may leave its own
    /// out. Other groups have a Service of their own (Knative): not ours.
    fn of(header: &Header, stem: Option<&str>) -> Self {
        if header.items.is_some() {
            return Self::List;
        }
        let kind = header.kind.as_deref().or(stem).unwrap_or_default();
        let group = header.api_version.as_deref().and_then(|version| version.split_once('/'));
        match (kind, group.map(|(group, _)| group)) {
            ("Service", None) => Self::Service,
            ("Pod", None) => Self::Pod,
            ("Node", None) => Self::Node,
            ("EndpointSlice", None | Some("discovery.k8s.io")) => Self::EndpointSlice,
            _ => Self::Other(kind.to_owned()),
        }
    }
}

/// Reads one object of a known kind; `None` for a kind that tidegate does not read.
struct ObjectSeed<'a>(&'a Kind);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Option<(u64, Raw)>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        fn read<'de, T, D>(input: D, wrap: fn(T) -> Raw) -> Result<Option<(u64, Raw)>, D::Error>
        where
            T: Deserialize<'de>,
            D: Deserializer<'de>,
        {
            let object = Spanned::<T>::deserialize(input)?;
            Ok(Some((object.referenced.line(), wrap(object.value))))
        }
        match self.0 {
            Kind::Service => read(input, |object| Raw::Service(Box::new(object))),
            Kind::EndpointSlice => read(input, |object| Raw::EndpointSlice(Box::new(object))),
            Kind::Pod => read(input, |object| Raw::Pod(Box::new(object))),
            Kind::Node => read(input, |object| Raw::Node(Box::new(object))),
            // kubectl never writes one, so nobody misses it; left out in silence it would be.
            Kind::List => {
                Err(D::Error::custom("a List inside a List: put its items into the outer one"))
            }
            Kind::Other(_) => IgnoredAny::deserialize(input).map(|_| None),
        }
    }
}

/// Reads the items of a List, whose kinds are known from a first pass.
struct ListSeed<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<Entry>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                entries = map.next_value_seed(ItemsSeed(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(entries)
    }
}

struct ItemsSeed<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Entry>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        for (i, kind) in self.0.iter().enumerate() {
            let item = items.next_element_seed(ObjectSeed(kind))?;
            let item = item.ok_or_else(|| A::Error::invalid_length(i, &self))?;
            entries.extend(item.map(|(line, raw)| Entry { item: Some(i), line, raw }));
        }
        items.next_element::<IgnoredAny>()?;
        Ok(entries)
    }
}
