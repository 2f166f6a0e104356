//! What comes from outside, spoilt: manifests, and objects as the API server sends them. Either
//! it becomes a state or it is an error that says where; never a panic.
//!
//! In an ordinary test run bolero replays the corpus and tries some random inputs; `make fuzz`
//! goes on for as long as it is told.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod spoil;

use bolero::check;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spoil::{JsonEdit, TextEdit};
use tidegate_control::model::{
    Change, EndpointSlice, Node, Object, ObjectError, Pod, Service, Store,
};
use tidegate_control::source::load_once;

/// Good manifests of every kind to begin with.
const MANIFESTS: &[&str] = &[
    include_str!("../../testdata/explain.yaml"),
    include_str!("../../testdata/frontend-svc.yaml"),
    include_str!("../../../configs/demo/echo-svc.yaml"),
    include_str!("../../../configs/demo/nodes.yaml"),
    include_str!("../../../configs/demo/pod.yaml"),
];

/// Objects as an API server sent them, in one array.
const OBJECTS: &str = include_str!("objects.json");

/// Edits of one input that are looked at.
const EDITS_MAX: usize = 12;

/// Reads a text as the file source does: nothing, or the error as it is shown.
fn load(name: &str, text: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    load_once(&[path]).err().map(|error| error.to_string())
}

#[test]
fn the_manifests_are_good_before_they_are_spoilt() {
    for text in MANIFESTS {
        // The template of a pod has a word where its address will be.
        let text = text.replace("ADDRESS-V6", "fd00::9").replace("ADDRESS", "10.0.0.9");
        assert_eq!(load("good.yaml", text.as_bytes()), None, "{text}");
    }
}

#[test]
fn any_bytes_are_a_state_or_an_error() {
    check!().for_each(|bytes: &[u8]| {
        if let Some(error) = load("any.yaml", bytes) {
            assert!(error.contains("any.yaml"), "{error}");
        }
    });
}

#[test]
fn spoilt_manifests_are_a_state_or_an_error_with_its_place() {
    check!().with_type::<(u8, Vec<TextEdit>)>().for_each(|(number, edits)| {
        let text = MANIFESTS[usize::from(*number) % MANIFESTS.len()];
        let edits = edits.iter().take(EDITS_MAX);
        let text = edits.fold(text.to_owned(), |text, edit| edit.apply(&text));
        if let Some(error) = load("spoilt.yaml", text.as_bytes()) {
            assert!(error.contains("spoilt.yaml"), "{error}\n{text}");
        }
    });
}

/// An alias costs a few bytes and may stand for all that came before it.
#[test]
fn aliases_of_aliases_are_refused_before_they_fill_the_memory() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        text.extend([format!("a{level}: &a{level} [{list}]\n")]);
    }
    text.push_str("apiVersion: v1\nkind: Service\nmetadata: {name: bomb, labels: *a29}\n");
    let error = load("bomb.yaml", text.as_bytes()).unwrap();
    assert!(error.contains("bomb.yaml"), "{error}");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow_of_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text =
            format!("kind: Service\nx: {}1{}\n", open.repeat(100_000), close.repeat(100_000));
        assert!(load("deep.yaml", text.as_bytes()).is_some());
    }
}

/// The model's object, as the watch makes it.
fn to_model(value: Value) -> Option<Object> {
    let kind = value.get("kind")?.as_str()?.to_owned();
    match kind.as_str() {
        "Service" => convert::<core::Service, Service>(value).map(Object::Service),
        "EndpointSlice" => {
            convert::<discovery::EndpointSlice, EndpointSlice>(value).map(Object::EndpointSlice)
        }
        "Pod" => convert::<core::Pod, Pod>(value).map(Object::Pod),
        _ => convert::<core::Node, Node>(value).map(Object::Node),
    }
}

fn convert<R, M>(value: Value) -> Option<M>
where
    R: DeserializeOwned,
    M: for<'r> TryFrom<&'r R, Error = ObjectError>,
{
    let raw = serde_json::from_value::<R>(value).ok()?;
    match M::try_from(&raw) {
        Ok(object) => Some(object),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

#[test]
fn spoilt_objects_of_the_api_server_are_objects_or_errors() {
    let objects: Vec<Value> = serde_json::from_str(OBJECTS).unwrap();
    assert!(objects.iter().all(|object| to_model(object.clone()).is_some()));
    check!().with_type::<Vec<(u8, JsonEdit)>>().for_each(|edits| {
        let mut objects = objects.clone();
        for (number, edit) in edits.iter().take(EDITS_MAX) {
            let number = usize::from(*number) % objects.len();
            edit.apply(&mut objects[number]);
        }
        let mut store = Store::new("gw");
        for object in objects.into_iter().filter_map(to_model) {
            store.apply(Change::Upserted(object));
        }
        let whole = store.state().clone();
        store.replace(&whole);
    });
}
