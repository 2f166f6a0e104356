//! Events for the API server, by a task of their own: the control loop never waits for it.

use super::event::{Event, Subject};
use crate::config::ClientConnection;
use crate::source::kubernetes::connect;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Who reports, to the API server.
const CONTROLLER: &str = "tidegate.dev/node";

/// Events that wait at most; further ones are lost and counted. A start with many Services that
/// ask for what is not done makes as many.
const WAITING_MAX: usize = 1_024;

/// The pause after each event: five a second, for the API server's sake.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the API server may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event and its object's UID.
type Queued = (Event, Option<Arc<str>>);
type Waiting = mpsc::Receiver<Queued>;

/// The control loop's end.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Queued>,
    lost: Arc<AtomicU64>,
}

impl Publisher {
    /// Publishes to the API server that `connection` names, once its settings can be read.
    pub fn connect(connection: ClientConnection, node: &str) -> Self {
        let (publisher, waiting) = Self::new();
        let (lost, node) = (Arc::clone(&publisher.lost), node.to_owned());
        tokio::spawn(async move {
            let client = connected(&connection).await;
            publish(recorder(client, node), waiting, lost).await;
        });
        publisher
    }

    /// Publishes through `client` for as long as the publisher lives.
    pub fn start(client: kube::Client, node: &str) -> Self {
        let (publisher, waiting) = Self::new();
        let recorder = recorder(client, node.to_owned());
        tokio::spawn(publish(recorder, waiting, Arc::clone(&publisher.lost)));
        publisher
    }

    fn new() -> (Self, Waiting) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        (Self { queue, lost: Arc::default() }, waiting)
    }

    /// Hands an event over; `uid` is its object's. Where too many wait it is lost.
    pub fn publish(&self, event: Event, uid: Option<Arc<str>>) {
        if self.queue.try_send((event, uid)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that the API server did not get.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Settings that cannot be read, as a kubeconfig that is yet to be written, are read again.
async fn connected(connection: &ClientConnection) -> kube::Client {
    loop {
        match connect(connection).await {
            Ok(client) => return client,
            Err(error) => tracing::debug!(%error, "events wait for the API server"),
        }
        sleep(PATIENCE).await;
    }
}

fn recorder(client: kube::Client, node: String) -> Recorder {
    Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance: Some(node) })
}

async fn publish(recorder: Recorder, mut waiting: Waiting, lost: Arc<AtomicU64>) {
    while let Some((event, uid)) = waiting.recv().await {
        let (subject, reason) = (event.subject.clone(), event.reason.name());
        let (told, about) = (told(event), reference(&subject, uid));
        let sent = timeout(PATIENCE, recorder.publish(&told, &about)).await;
        let refused = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if let Some(error) = refused {
            lost.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%subject, reason, error, "the API server did not take an event");
        }
        sleep(PAUSE).await;
    }
}

fn told(event: Event) -> events::Event {
    let type_ = if event.reason.is_warning() { EventType::Warning } else { EventType::Normal };
    events::Event {
        type_,
        reason: event.reason.name().to_owned(),
        note: Some(event.note),
        action: event.reason.action().to_owned(),
        secondary: None,
    }
}

fn reference(subject: &Subject, uid: Option<Arc<str>>) -> ObjectReference {
    let (kind, namespace, name) = match subject {
        Subject::Service(key) => ("Service", Some(key.namespace.to_string()), &key.name),
        Subject::Node(name) => ("Node", None, name),
    };
    // `kubectl describe node` looks for the node's name as its UID, as kubelets report.
    let uid = match subject {
        Subject::Node(name) => Some(Arc::clone(name)),
        Subject::Service(_) => uid,
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace,
        name: Some(name.to_string()),
        uid: uid.map(|uid| uid.to_string()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Reason;
    use crate::model::ObjectKey;
    use hyper::{Request, Response};
    use kube::client::Body;

    /// What an API server was asked: method, path and body.
    type Asked = mpsc::UnboundedReceiver<(String, serde_json::Value)>;

    /// A client of an API server that takes everything.
    fn client() -> (kube::Client, Asked) {
        let (asked, seen) = mpsc::unbounded_channel();
        let answer = move |request: Request<Body>| {
            let asked = asked.clone();
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect_bytes().await?;
                let body: serde_json::Value = serde_json::from_slice(&body)?;
                assert!(asked.send((line, body.clone())).is_ok());
                Ok::<_, Box<dyn core::error::Error + Send + Sync>>(Response::new(Body::from(
                    serde_json::to_vec(&body)?,
                )))
            }
        };
        (kube::Client::new(tower::service_fn(answer), "default"), seen)
    }

    fn service_event() -> Event {
        let subject = Subject::Service(ObjectKey::new("shop", "web"));
        Event::new(subject, Reason::NoReadyBackends, "no ready endpoint for port 80/TCP")
    }

    #[tokio::test]
    async fn an_event_is_created_where_its_object_is_and_counted_when_it_comes_again() {
        let (client, mut asked) = client();
        let publisher = Publisher::start(client, "gw");
        publisher.publish(service_event(), Some("u-1".into()));
        publisher.publish(service_event(), Some("u-1".into()));
        let (line, body) = asked.recv().await.unwrap();
        assert_eq!(line, "POST /apis/events.k8s.io/v1/namespaces/shop/events");
        let told = [
            ("type", "Warning"),
            ("reason", "NoReadyBackends"),
            ("action", "Programming"),
            ("note", "no ready endpoint for port 80/TCP"),
            ("reportingController", "tidegate.dev/node"),
            ("reportingInstance", "gw"),
        ];
        told.iter().for_each(|(field, value)| assert_eq!(body[*field], *value));
        let regarding = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web", "uid": "u-1"
        });
        assert_eq!(body["regarding"], regarding);
        let (line, body) = asked.recv().await.unwrap();
        assert!(line.starts_with("PATCH /apis/events.k8s.io/v1/namespaces/shop/events/web."));
        assert_eq!(body["series"]["count"], 2);
        assert_eq!(publisher.lost(), 0);
    }

    #[tokio::test]
    async fn a_nodes_events_are_in_the_default_namespace() {
        let (client, mut asked) = client();
        let publisher = Publisher::start(client, "gw");
        let event = Event::new(Subject::Node("gw".into()), Reason::XdpAttached, "eth0: native");
        publisher.publish(event, None);
        let (line, body) = asked.recv().await.unwrap();
        assert_eq!(line, "POST /apis/events.k8s.io/v1/namespaces/default/events");
        assert_eq!((&body["regarding"]["uid"], &body["type"]), (&"gw".into(), &"Normal".into()));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_lost_and_counted() {
        let (client, _asked) = client();
        let publisher = Publisher::start(client, "gw");
        // The task had no turn yet: nothing was taken out.
        (0..WAITING_MAX + 3).for_each(|_| publisher.publish(service_event(), None));
        assert_eq!(publisher.lost(), 3);
    }
}
