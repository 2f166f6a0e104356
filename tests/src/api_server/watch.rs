//! Watch streams: initial events, changes, bookmarks, and the end.

use super::fault::Interruption;
use super::query::Query;
use super::resource::Resource;
use super::shared::Shared;
use super::status::status;
use super::store::Change;
use axum::body::{Body, Bytes};
use axum::http::{Response, header};
use futures::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

/// Which watch.
pub(super) struct Asked {
    pub(super) resource: Resource,
    pub(super) namespace: Option<String>,
    pub(super) query: Query,
    /// Whether `sendInitialEvents` is understood.
    pub(super) knows_streaming: bool,
}

/// The answer: a stream of JSON lines.
pub(super) fn answer(shared: &Arc<Shared>, asked: Asked) -> Response<Body> {
    let stream = stream::unfold(Stream::new(shared, asked), |mut stream| async move {
        let line = stream.next().await?;
        Some((line, stream))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

struct Stream {
    shared: Arc<Shared>,
    asked: Asked,
    /// Lines that are ready.
    ready: VecDeque<Value>,
    /// What was sent.
    version: u64,
    changed: watch::Receiver<u64>,
    interruptions: broadcast::Receiver<Interruption>,
    bookmark_at: Instant,
    end_at: Instant,
    is_over: bool,
}

impl Stream {
    fn new(shared: &Arc<Shared>, asked: Asked) -> Self {
        let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse().ok());
        let now = Instant::now();
        let mut stream = Self {
            shared: Arc::clone(shared),
            asked,
            ready: VecDeque::new(),
            version: 0,
            changed: shared.changed.subscribe(),
            interruptions: shared.interruptions.subscribe(),
            bookmark_at: now + shared.bookmark_interval(),
            end_at: now + Duration::from_secs(seconds.unwrap_or(1800)),
            is_over: false,
        };
        stream.begin();
        stream
    }

    fn begin(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        let asked = self.asked.query.get("resourceVersion").unwrap_or("0");
        let asked: u64 = asked.parse().unwrap_or(0);
        let wants_list = self.asked.query.is_set("sendInitialEvents") && self.asked.knows_streaming;
        if asked != 0 && asked < store.compacted() && !wants_list {
            let (current, message) = (store.compacted(), "too old resource version");
            let status = status(410, &format!("{message}: {asked} ({current})"));
            self.ready.push_back(json!({"type": "ERROR", "object": status}));
            self.is_over = true;
            return;
        }
        if asked == 0 || wants_list {
            self.version = store.version();
            let objects = store.at(self.asked.resource.plural, self.version);
            let selected = objects.into_values().filter(|object| self.selects(object));
            let lines = selected.map(|object| json!({"type": "ADDED", "object": object}));
            self.ready = lines.collect();
        } else {
            drop(store);
            self.version = asked;
            self.changes();
        }
        if wants_list {
            let mut line = self.bookmark();
            line["object"]["metadata"]["annotations"] =
                json!({"k8s.io/initial-events-end": "true"});
            self.ready.push_back(line);
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(Bytes::from(format!("{line}\n"))));
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                interruption = self.interruptions.recv() => match interruption {
                    Ok(Interruption::Cut) => {
                        return Some(Err(io::ErrorKind::ConnectionReset.into()));
                    }
                    Ok(Interruption::Error(code)) => {
                        let status = status(code, "too old resource version");
                        self.ready.push_back(json!({"type": "ERROR", "object": status}));
                        self.is_over = true;
                    }
                    Err(_gone) => return None,
                },
                _ = self.changed.changed() => self.changes(),
                () = sleep_until(self.bookmark_at) => {
                    self.bookmark_at = Instant::now() + self.shared.bookmark_interval();
                    if self.asked.query.is_set("allowWatchBookmarks") {
                        self.ready.push_back(self.bookmark());
                    }
                }
                () = sleep_until(self.end_at) => self.is_over = true,
            }
        }
    }

    fn changes(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        let changes = store.since(self.asked.resource.plural, self.version);
        self.version = store.version();
        let lines: Vec<_> = changes.iter().filter_map(|change| self.line(change)).collect();
        self.ready.extend(lines);
    }

    /// A change as this watch sees it: what leaves the selection is deleted to it.
    fn line(&self, change: &Change) -> Option<Value> {
        let was_seen = change.before.as_ref().is_some_and(|object| self.selects(object));
        let is_seen = !change.is_deletion && self.selects(&change.after);
        let word = match (was_seen, is_seen) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(json!({"type": word, "object": change.after}))
    }

    fn selects(&self, object: &Value) -> bool {
        let namespace = self.asked.namespace.as_deref();
        let is_inside = namespace.is_none_or(|name| object["metadata"]["namespace"] == name);
        is_inside && self.asked.query.selects(object)
    }

    fn bookmark(&self) -> Value {
        let resource = self.asked.resource;
        json!({"type": "BOOKMARK", "object": {"kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.version.to_string(), "creationTimestamp": null}}})
    }
}
