//! The answers, as kube-proxy gives them: balancers and dashboards already read them.

use super::freshness::Freshness;
use super::view::HealthView;
use crate::model::ObjectKey;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

/// The header by which balancers may weigh nodes (semantics H6).
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// For durations.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

impl Clock {
    /// Both clocks, read.
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// An answer. Its body is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the status is 200; 503 else.
    pub is_good: bool,
    /// Local endpoints, for the answer about a Service.
    pub weight: Option<usize>,
    /// The body.
    pub body: String,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = if self.is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = (status, headers, self.body).into_response();
        if let Some(weight) = self.weight {
            response.headers_mut().insert(WEIGHT, HeaderValue::from(weight));
        }
        response
    }
}

/// About a Service, at its `healthCheckNodePort` (semantics H4-H7). A Service that is gone has no
/// endpoints here.
pub fn service(view: &HealthView, key: &ObjectKey, clock: Clock) -> Answer {
    let count = view.services.get(key).map_or(0, |check| check.local_ready);
    let is_healthy = view.freshness.is_healthy(clock.instant);
    let (namespace, name) = (quoted(&key.namespace), quoted(&key.name));
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace},\n\t\t\"name\": {name}\n\t}},\n\t\
         \"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {is_healthy}\n}}"
    );
    Answer { is_good: count > 0 && is_healthy, weight: Some(count), body }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `/healthz`: whether outer load balancers should send traffic to this node (semantics H9).
pub fn healthz(view: &HealthView, clock: Clock) -> Answer {
    node(view, clock, Some(view.is_eligible))
}

/// `/livez`: whether this process does its work, also on a node that is about to go (H12).
pub fn livez(view: &HealthView, clock: Clock) -> Answer {
    node(view, clock, None)
}

/// The body of both (semantics H13).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeHealth {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: BTreeMap<&'static str, FamilyHealth>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyHealth {
    last_updated: String,
    healthy: bool,
}

fn node(view: &HealthView, clock: Clock, node_eligible: Option<bool>) -> Answer {
    let healthy = view.freshness.is_healthy(clock.instant);
    let is_good = healthy && node_eligible.unwrap_or(true);
    let (current_time, published) = (stamp(clock.wall), last_published(view.freshness));
    let family = FamilyHealth { last_updated: published.clone(), healthy };
    let health = NodeHealth {
        // kube-proxy's tradition: what is healthy was updated just now.
        last_updated: if is_good { current_time.clone() } else { published },
        current_time,
        node_eligible,
        healthy,
        // One publication is for both.
        status: BTreeMap::from([("IPv4", family.clone()), ("IPv6", family)]),
    };
    // Text and booleans are always JSON.
    let body = serde_json::to_string(&health).unwrap_or_default();
    Answer { is_good, weight: None, body }
}

/// Go's zero time before anything was published, as kube-proxy has it.
fn last_published(freshness: Freshness) -> String {
    freshness.last_published().map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), stamp)
}

fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn clock(seconds: u64) -> Clock {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Clock { instant: Instant::now(), wall }
    }

    #[test]
    fn h13_what_is_healthy_was_updated_now_and_what_is_not_when_it_was_published() {
        let mut view = HealthView { is_eligible: true, ..HealthView::default() };
        let now = "1970-01-01T00:01:40.000000Z";
        let first = healthz(&view, clock(100)).body;
        assert!(
            first.starts_with(&format!("{{\"lastUpdated\":\"{now}\",\"currentTime\":\"{now}\""))
        );
        assert!(first.contains("\"IPv4\":{\"lastUpdated\":\"0001-01-01T00:00:00Z\""), "{first}");
        view.freshness.published(SystemTime::UNIX_EPOCH + Duration::from_secs(40));
        view.is_eligible = false;
        let leaving = healthz(&view, clock(100)).body;
        let published = "1970-01-01T00:00:40.000000Z";
        let begin = format!("{{\"lastUpdated\":\"{published}\",\"currentTime\":\"{now}\"");
        assert!(leaving.starts_with(&begin), "{leaving}");
    }

    #[test]
    fn a_service_that_is_gone_has_no_endpoints() {
        let answer = service(&HealthView::default(), &ObjectKey::new("a", "b"), clock(0));
        assert_eq!((answer.is_good, answer.weight), (false, Some(0)));
    }
}
