//! From a request to its answer.

use super::discovery;
use super::fault::{Effect, Verb};
use super::query::Query;
use super::resource::{Resource, Target};
use super::shared::{Request, Shared};
use super::status::{answer, refusal, status, too_many};
use super::store::Key;
use super::watch::{self, Asked};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request as HttpRequest, Response, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Answers any request.
pub(super) async fn handle(shared: Arc<Shared>, request: HttpRequest<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if !shared.lets_in(authorization) {
        return refusal(401, "Unauthorized");
    }
    let path = parts.uri.path();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let Some(target) = Target::parse(path) else {
        return refusal(404, "the server could not find the requested resource");
    };
    let (resource, verb) = match (&target, &parts.method) {
        (Target::Discovery, _) => return discovery::answer_to(path),
        (Target::Collection(resource, _), &Method::POST) => (*resource, Verb::Create),
        (Target::Collection(resource, _), _) if query.is_set("watch") => (*resource, Verb::Watch),
        (Target::Collection(resource, _), _) => (*resource, Verb::List),
        (Target::Object(resource, ..), &Method::PUT) => (*resource, Verb::Update),
        (Target::Object(resource, ..), &Method::PATCH) => (*resource, Verb::Patch),
        (Target::Object(resource, ..), &Method::DELETE) => (*resource, Verb::Delete),
        (Target::Object(resource, ..), _) => (*resource, Verb::Get),
    };
    let (group, plural) = (resource.group.to_owned(), resource.plural.to_owned());
    shared.log(Request { group, plural, verb, path: parts.uri.to_string() });
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let effect = shared.fault(resource, verb);
    match &effect {
        Some(Effect::Status(429)) => return too_many(1),
        Some(Effect::Status(code)) => return refusal(*code, "refused by the test"),
        Some(Effect::NoStreaming) if query.is_set("sendInitialEvents") => {
            return refusal(
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: \
                Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature \
                gate is enabled",
            );
        }
        // The permit is used up when the answer is on its way.
        Some(Effect::Hold(gate)) => match gate.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return refusal(500, "the gate is gone"),
        },
        _ => {}
    }
    let knows_streaming = !matches!(effect, Some(Effect::IgnoreStreaming));
    match (target, verb) {
        (Target::Collection(resource, namespace), Verb::Watch) => {
            let without_match = query.get("resourceVersionMatch") != Some("NotOlderThan");
            if query.is_set("sendInitialEvents") && without_match {
                return refusal(422, "resourceVersionMatch: Forbidden: is required");
            }
            watch::answer(&shared, Asked { resource, namespace, query, knows_streaming })
        }
        (Target::Collection(resource, namespace), Verb::List) => {
            list(&shared, resource, namespace.as_deref(), &query)
        }
        (Target::Collection(resource, namespace), _) => create(&shared, resource, namespace, &body),
        (Target::Object(resource, namespace, name), verb) => {
            object(&shared, verb, &(resource.plural, namespace, name), &body)
        }
        (Target::Discovery, _) => refusal(404, "not found"),
    }
}

/// A page from where the token of the last one ends: `VERSION/NAMESPACE/NAME`.
fn list(
    shared: &Shared,
    resource: Resource,
    namespace: Option<&str>,
    query: &Query,
) -> Response<Body> {
    let store = shared.store();
    let (mut version, mut after) = (store.version(), None);
    if let Some(token) = query.get("continue") {
        let mut parts = token.splitn(3, '/');
        let first = parts.next().and_then(|text| text.parse().ok());
        let (Some(of), Some(space), Some(name)) = (first, parts.next(), parts.next()) else {
            return refusal(400, "continue key is not valid");
        };
        if of < store.compacted() {
            let mut expired = status(410, "The provided continue parameter is too old");
            expired["metadata"]["continue"] = format!("{version}/{space}/{name}").into();
            return answer(410, &expired);
        }
        (version, after) = (of, Some((resource.plural, space.to_owned(), name.to_owned())));
    } else if let Some(asked) = query.get("resourceVersion") {
        match asked.parse::<u64>() {
            Err(_) => return refusal(400, "resourceVersion: Invalid value"),
            Ok(asked) if asked > version => {
                return refusal(
                    504,
                    &format!("Too large resource version: {asked}, current: {version}"),
                );
            }
            Ok(asked) if query.get("resourceVersionMatch") == Some("Exact") => {
                if asked < store.compacted() {
                    return refusal(410, "The resourceVersion for the provided list is too old.");
                }
                version = asked;
            }
            Ok(_) => {}
        }
    }
    let limit = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let objects = store.at(resource.plural, version);
    let is_inside = |key: &Key| namespace.is_none_or(|name| key.1 == name);
    let mut selected = objects.into_iter().filter(|(key, object)| {
        after.as_ref().is_none_or(|after| key > after) && is_inside(key) && query.selects(object)
    });
    let page: Vec<_> = selected.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (Some(((_, space, name), _)), rest @ 1..) = (page.last(), selected.count()) {
        metadata["continue"] = format!("{version}/{space}/{name}").into();
        metadata["remainingItemCount"] = rest.into();
    }
    let items: Vec<Value> = page.into_iter().map(|(_, object)| without_kind(object)).collect();
    answer(
        200,
        &json!({"kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(), "metadata": metadata, "items": items}),
    )
}

/// Items of a list do not say their kind.
fn without_kind(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn create(
    shared: &Shared,
    resource: Resource,
    namespace: Option<String>,
    body: &Bytes,
) -> Response<Body> {
    let Ok(mut object) = serde_json::from_slice::<Value>(body) else {
        return refusal(400, "the body is not JSON");
    };
    let generated = object["metadata"]["generateName"]
        .as_str()
        .map(|stem| format!("{stem}{}", shared.store().version() + 1));
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned).or(generated) else {
        return refusal(422, "metadata.name: Required value");
    };
    let space = namespace.unwrap_or_else(|| "default".to_owned());
    let key = (resource.plural, if resource.is_namespaced { space } else { String::new() }, name);
    if shared.store().get(&key).is_some() {
        return refusal(409, &format!("{} \"{}\" already exists", key.0, key.2));
    }
    object["metadata"]["name"] = key.2.clone().into();
    answer(201, &shared.change(|store| store.put(&key, object)))
}

fn object(shared: &Shared, verb: Verb, key: &Key, body: &Bytes) -> Response<Body> {
    let Some(before) = shared.store().get(key).cloned() else {
        return refusal(404, &format!("{} \"{}\" not found", key.0, key.2));
    };
    let sent = serde_json::from_slice::<Value>(body);
    match (verb, sent) {
        (Verb::Get, _) => answer(200, &before),
        (Verb::Delete, _) => {
            let last = shared.change(|store| store.delete(key));
            answer(200, &last.unwrap_or_default())
        }
        (Verb::Update, Ok(object)) => answer(200, &shared.change(|store| store.put(key, object))),
        (Verb::Patch, Ok(patch)) if patch.is_object() => {
            let mut object = before;
            merge(&mut object, patch);
            answer(200, &shared.change(|store| store.put(key, object)))
        }
        _ => refusal(400, "the body is not a JSON object"),
    }
}

/// A merge patch (RFC 7396); a strategic one is taken for it, so that lists are replaced.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(&name));
        } else {
            merge(&mut target[&name], value);
        }
    }
}
