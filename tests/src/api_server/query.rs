//! The query of a request: options and selectors.

use serde_json::Value;
use std::collections::BTreeMap;

/// The parameters, decoded.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Of the text after the question mark.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether it is `true` or `1`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// Whether the selectors let an object through: `metadata.name=`, `metadata.namespace=`, and
    /// labels with `=`, `==`, `!=`, `NAME` and `!NAME`.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let terms = |name| self.get(name).unwrap_or_default().split(',').filter(|t| !t.is_empty());
        let is_field = |term: &str| {
            let (path, value) = term.split_once('=').unwrap_or((term, ""));
            let pointer = format!("/{}", path.replace('.', "/"));
            object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default()
                == value.trim_start_matches('=')
        };
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let is_label = |term: &str| {
            if let Some((name, value)) = term.split_once("!=") {
                return label(name) != Some(value);
            }
            match term.split_once('=') {
                Some((name, value)) => label(name) == Some(value.trim_start_matches('=')),
                None => match term.strip_prefix('!') {
                    Some(name) => label(name).is_none(),
                    None => label(term).is_some(),
                },
            }
        };
        terms("fieldSelector").all(is_field) && terms("labelSelector").all(is_label)
    }
}

/// Percent decoding; what is malformed stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let object = json!({"metadata": {"name": "gw-1", "labels": {"a": "1"}}});
        for (text, is_selected) in [
            ("fieldSelector=metadata.name%3Dgw-1", true),
            ("fieldSelector=metadata.name%3Dgw-2", false),
            ("labelSelector=a%3D1,!b", true),
            ("labelSelector=a!%3D1", false),
            ("labelSelector=b", false),
            ("limit=3", true),
        ] {
            assert_eq!(Query::parse(text).selects(&object), is_selected, "{text}");
        }
    }
}
