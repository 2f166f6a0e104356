//! Objects, and the log of their changes, under one resource version.

use super::resource::{RESOURCES, Resource};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Kind's plural, namespace, name: the order in which lists are sent.
pub(super) type Key = (&'static str, String, String);

/// A change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The version that it made.
    pub(super) version: u64,
    /// Whose.
    pub(super) key: Key,
    /// As it was.
    pub(super) before: Option<Value>,
    /// As it is; for a deletion as it was last, with the deletion's version.
    pub(super) after: Value,
    /// Whether it is gone.
    pub(super) is_deletion: bool,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Store {
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<Change>,
}

impl Store {
    /// The newest version.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The newest version whose changes are forgotten.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets all changes, as etcd's compaction does.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.log.clear();
    }

    /// The object of a key.
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// The objects of a kind as they were at `version`, which is not compacted.
    pub(super) fn at(&self, plural: &str, version: u64) -> BTreeMap<Key, Value> {
        let of_kind = |key: &Key| key.0 == plural;
        let mut objects: BTreeMap<Key, Value> = self
            .objects
            .iter()
            .filter(|(key, _)| of_kind(key))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let later = self.log.iter().rev().take_while(|change| change.version > version);
        for change in later.filter(|change| of_kind(&change.key)) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    /// The changes of a kind after `version`, in order.
    pub(super) fn since(&self, plural: &str, version: u64) -> Vec<Change> {
        let of_kind = self.log.iter().filter(|change| change.key.0 == plural);
        of_kind.filter(|change| change.version > version).cloned().collect()
    }

    /// Creates or replaces an object; what the server owns is filled in. Returns it as stored.
    pub(super) fn put(&mut self, key: &Key, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(key).cloned();
        fill_in(&mut object, key, before.as_ref(), self.version);
        self.objects.insert(key.clone(), object.clone());
        self.record(key, before, object.clone(), false);
        object
    }

    /// Removes an object and returns its last form.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Value> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.record(key, Some(before), after.clone(), true);
        Some(after)
    }

    fn record(&mut self, key: &Key, before: Option<Value>, after: Value, is_deletion: bool) {
        let version = self.version;
        self.log.push(Change { version, key: key.clone(), before, after, is_deletion });
    }
}

/// The key of an object by its own words; `None` where its kind is not known or it has no name.
pub(super) fn key_of(object: &Value) -> Option<Key> {
    let api_version = object["apiVersion"].as_str()?;
    let is_kind = |r: &Resource| r.kind == object["kind"] && r.api_version() == api_version;
    let resource = RESOURCES.into_iter().find(is_kind)?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let namespace = if resource.is_namespaced { namespace } else { "" };
    Some((resource.plural, namespace.to_owned(), metadata["name"].as_str()?.to_owned()))
}

fn fill_in(object: &mut Value, key: &Key, before: Option<&Value>, version: u64) {
    let (plural, namespace, name) = key;
    if let Some(resource) = RESOURCES.into_iter().find(|r| r.plural == *plural) {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.into();
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata["name"] = name.as_str().into();
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.as_str().into();
    }
    metadata["resourceVersion"] = version.to_string().into();
    let uid = format!("00000000-0000-0000-0000-{version:012}");
    metadata["uid"] = before.map_or(uid.into(), |object| object["metadata"]["uid"].clone());
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("services", "default".to_owned(), name.to_owned())
    }

    #[test]
    fn an_earlier_state_is_found_again() {
        let mut store = Store::default();
        store.put(&key("a"), json!({"n": 1}));
        store.put(&key("b"), json!({}));
        let version = store.version();
        store.put(&key("a"), json!({"n": 2}));
        store.delete(&key("b"));
        store.put(&key("c"), json!({}));
        let then: Vec<_> = store.at("services", version).into_keys().map(|key| key.2).collect();
        assert_eq!(then, ["a", "b"]);
        assert_eq!(store.at("services", version)[&key("a")]["n"], 1);
        assert_eq!(store.since("services", version).len(), 3);
    }
}
