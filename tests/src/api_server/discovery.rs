//! What kubectl and client libraries ask before anything else.

use super::resource::{RESOURCES, Resource};
use super::status::{answer, refusal};
use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The answer to `/version`, `/api`, `/apis` and what lies directly below.
pub(super) fn answer_to(path: &str) -> Response<Body> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let groups: BTreeSet<&str> =
        RESOURCES.iter().map(|r| r.group).filter(|group| !group.is_empty()).collect();
    match *words.as_slice() {
        ["version"] => answer(
            200,
            &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "",
                "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.26",
                "compiler": "gc", "platform": "linux/amd64"}),
        ),
        ["api"] => answer(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []}),
        ),
        ["apis"] => {
            let groups: Vec<Value> = groups.into_iter().map(group).collect();
            answer(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups.contains(name) => {
            let mut group = group(name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            answer(200, &group)
        }
        ["api", "v1"] => answer(200, &resources("")),
        ["apis", name, "v1"] if groups.contains(name) => answer(200, &resources(name)),
        _ => refusal(404, "the server could not find the requested resource"),
    }
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str) -> Value {
    let of_group = RESOURCES.iter().filter(|r| r.group == group);
    let of_group = of_group.collect::<Vec<&Resource>>();
    let version = of_group.first().map(|r| r.api_version());
    let resources: Vec<Value> = of_group.into_iter().map(resource).collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": resources})
}

fn resource(resource: &Resource) -> Value {
    json!({"name": resource.plural, "singularName": resource.kind.to_lowercase(),
        "namespaced": resource.is_namespaced, "kind": resource.kind,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        "shortNames": resource.short})
}
