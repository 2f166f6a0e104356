//! The server: axum over a UNIX socket that only the owner may open.

use crate::admin::latency;
use crate::admin::query::{Answer, METRIC_PARTS, Mailbox, Query, QueryError};
use crate::admin::report::StatusReport;
use crate::explain::{Explanation, Question};
use crate::metrics::exposition::{self, Form};
use crate::metrics::family::Family;
use axum::extract::{Query as Parameters, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use core::fmt::Write as _;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Flows listed where the caller names no limit.
const FLOWS_DEFAULT: usize = 1_000;
/// Flows listed at most: about 30 MB of JSON.
const FLOWS_MAX: usize = 100_000;
/// A worker that has not beaten for so long makes `/livez` fail; T2 drops the link at 10 s.
const HEARTBEAT_MAX: Duration = Duration::from_secs(10);

/// The socket, listening. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "admin socket was gone already");
        }
    }
}

/// Why the socket could not be made. Text fits "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("listen on {}: another tidegate answers there", path.display())]
    Taken {
        /// The socket's path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("listen on {}: {source}", path.display())]
    Refused {
        /// The socket's path.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

impl Listening {
    /// Makes the socket (mode 0600) and its folder. A socket that nobody listens on any more, as
    /// a crash leaves it, is replaced.
    ///
    /// # Errors
    /// Another daemon answers there, or the path cannot be written.
    pub async fn try_new(path: &Path) -> Result<Self, ListenError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::Taken { path: path.to_owned() });
        }
        let refused = |source| ListenError::Refused { path: path.to_owned(), source };
        let listener = bind(path).map_err(refused)?;
        Ok(Self { listener, file: SocketFile(path.to_owned()) })
    }

    /// Serves for ever; dropping the future removes the socket.
    ///
    /// # Errors
    /// None in practice: accept errors are retried.
    pub async fn serve(self, mailbox: Mailbox) -> io::Result<()> {
        let Self { listener, file } = self;
        let served =
            axum::serve(listener, read_only(mailbox.clone()).merge(changes(mailbox))).await;
        drop(file);
        served
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Only a socket is replaced: a typo in the config must not delete a file.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The routes that only tell, for a listener on the network.
pub fn read_only(mailbox: Mailbox) -> Router {
    Router::new()
        .route("/api/v1/status", get(|s| json(s, Query::Status)))
        .route("/api/v1/services", get(|s| json(s, Query::Services)))
        .route("/api/v1/backends", get(|s| json(s, Query::Backends)))
        .route("/api/v1/flows", get(flows))
        .route("/api/v1/interfaces", get(|s| json(s, Query::Interfaces)))
        .route("/api/v1/workers", get(|s| json(s, Query::Workers)))
        .route("/api/v1/drops", get(|s| json(s, Query::Drops)))
        .route("/api/v1/kubernetes/services", get(|s| json(s, Query::ServiceObjects)))
        .route("/api/v1/kubernetes/endpoints", get(|s| json(s, Query::EndpointsObjects)))
        .route("/api/v1/events", get(|s| json(s, Query::Events)))
        .route("/api/v1/neighbors", get(|s| json(s, Query::Neighbors)))
        .route("/api/v1/explain", post(explain))
        .route("/livez", get(livez))
        .route("/metrics", get(scrape))
        .route("/readyz", get(readyz))
        .with_state(mailbox.clone())
        .merge(latency::routes(mailbox))
}

/// The routes that change something: on the socket alone.
fn changes(mailbox: Mailbox) -> Router {
    let reset = post(|s| json(s, Query::ResetLatency));
    Router::new().route("/api/v1/latency/reset", reset).with_state(mailbox)
}

/// The route that the kubelet asks, for a listener of its own.
pub fn readiness(mailbox: Mailbox) -> Router {
    Router::new().route("/readyz", get(readyz)).with_state(mailbox)
}

/// The route that scrapers ask, for a listener of its own.
pub fn metrics(mailbox: Mailbox) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(mailbox)
}

/// Written on a thread of its own: with ten thousand Services it takes longer than a change may.
async fn scrape(
    State(mailbox): State<Mailbox>,
    headers: HeaderMap,
) -> Result<Response, QueryError> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let form = Form::accepted(&accepted.collect::<Vec<_>>().join(","));
    let (mut families, is_native) = mailbox.ask(Query::Metrics).await?;
    for part in 0..METRIC_PARTS {
        let more = mailbox.ask(|answer| Query::ServiceMetrics(part, answer)).await?;
        Family::merge(&mut families, more);
    }
    let writing = tokio::task::spawn_blocking(move || exposition::write(families, form, is_native));
    Ok(match writing.await {
        Ok(Ok(body)) => ([(CONTENT_TYPE, form.content_type())], body).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "cannot write the metrics").into_response(),
    })
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.to_string()).into_response()
    }
}

async fn json<T: Serialize>(
    State(mailbox): State<Mailbox>,
    query: fn(Answer<T>) -> Query,
) -> Result<Json<T>, QueryError> {
    mailbox.ask(query).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct FlowParameters {
    limit: Option<usize>,
}

async fn flows(
    State(mailbox): State<Mailbox>,
    Parameters(parameters): Parameters<FlowParameters>,
) -> Result<Response, QueryError> {
    let limit = parameters.limit.unwrap_or(FLOWS_DEFAULT).min(FLOWS_MAX);
    let list = mailbox.ask(|answer| Query::Flows(limit, answer)).await?;
    Ok(Json(list).into_response())
}

async fn explain(
    State(mailbox): State<Mailbox>,
    Json(question): Json<Question>,
) -> Result<Json<Explanation>, QueryError> {
    mailbox.ask(|answer| Query::Explain(question, answer)).await.map(Json)
}

async fn livez(State(mailbox): State<Mailbox>) -> Result<Response, QueryError> {
    let workers = mailbox.ask(Query::Workers).await?.items;
    let is_silent = |age_ms: u64| Duration::from_millis(age_ms) > HEARTBEAT_MAX;
    let silent = workers.iter().filter(|worker| is_silent(worker.heartbeat_milliseconds));
    let names: Vec<_> = silent.map(|worker| worker.worker.to_string()).collect();
    if names.is_empty() {
        return Ok("ok\n".into_response());
    }
    let text = format!("workers without heartbeat: {}\n", names.join(", "));
    Ok((StatusCode::SERVICE_UNAVAILABLE, text).into_response())
}

#[derive(Debug, Deserialize)]
struct VerboseParameter {
    verbose: Option<String>,
}

/// Each check where one fails or `?verbose` asks, as Kubernetes' components answer.
async fn readyz(
    State(mailbox): State<Mailbox>,
    Parameters(parameters): Parameters<VerboseParameter>,
) -> Result<Response, QueryError> {
    let status = mailbox.ask(Query::Status).await?;
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_short = status.ready && parameters.verbose.is_none();
    let text = if is_short { "ok\n".to_owned() } else { checks_text(&status) };
    Ok((code, text).into_response())
}

/// The checks as Kubernetes components list them.
fn checks_text(status: &StatusReport) -> String {
    let mut text = String::new();
    for check in &status.checks {
        let (sign, word) = if check.ok { ('+', "ok") } else { ('-', "failed") };
        // Writing to a String cannot fail.
        writeln!(text, "[{sign}]{} {word}: {}", check.name, check.detail).ok();
    }
    text + if status.ready { "readyz check passed\n" } else { "readyz check failed\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::client::{Client, ClientError};
    use crate::admin::query::mailbox;
    use crate::admin::report::{FlowReport, List, ServiceReport};
    use crate::cli::view::fixtures;
    use crate::explain::{Answer, Outcome};
    use crate::fault::{Exit, Fault};
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tokio::sync::mpsc::Receiver;
    use tower::ServiceExt as _;

    /// A control thread with fixed reports.
    async fn answer(mut queries: Receiver<Query>) {
        while let Some(query) = queries.recv().await {
            let answered = match query {
                Query::Status(answer) => answer.send(fixtures::status()).is_ok(),
                Query::Services(answer) => {
                    answer.send(List { items: vec![fixtures::service("shop")] }).is_ok()
                }
                Query::Flows(limit, answer) => {
                    let items = (0..3).map(|_| fixtures::flow()).take(limit).collect();
                    answer.send(List { items }).is_ok()
                }
                Query::Workers(answer) => {
                    answer.send(List { items: vec![fixtures::worker()] }).is_ok()
                }
                Query::Latency(answer) => answer.send(fixtures::measured()).is_ok(),
                Query::LatencyIntervals(span, answer) => {
                    answer.send(fixtures::intervals(span)).is_ok()
                }
                Query::ResetLatency(answer) => answer.send(()).is_ok(),
                Query::Explain(question, answer) => answer.send(explanation(question)).is_ok(),
                // The others fall: their callers see a control thread that stops.
                _ => false,
            };
            tracing::trace!(answered);
        }
    }

    /// One that only repeats the question.
    fn explanation(question: Question) -> Explanation {
        let answer = Answer {
            verdict: Outcome::Pass,
            reason: "NO_SERVICE".to_owned(),
            service: None,
            candidates: vec![question.source.to_string(), question.destination.to_string()],
            backend: None,
            masquerade: false,
        };
        let (steps, others) = (vec![], vec![]);
        Explanation { answer, pod: None, steps, next_step: None, others, others_left: 0 }
    }

    /// A served socket in a folder of its own, and a client of it.
    async fn served() -> (tempfile::TempDir, Client, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let (mailbox, queries) = mailbox();
        let listening = Listening::try_new(&path).await.unwrap();
        tokio::spawn(listening.serve(mailbox));
        tokio::spawn(answer(queries));
        let client = Client::new(&path);
        (folder, client, path)
    }

    #[tokio::test]
    async fn reports_arrive_as_they_were_sent() {
        let (_folder, client, _) = served().await;
        assert_eq!(client.get::<StatusReport>("/api/v1/status").await.unwrap(), fixtures::status());
        let services: List<ServiceReport> = client.get("/api/v1/services").await.unwrap();
        assert_eq!(services.items, [fixtures::service("shop")]);
    }

    #[tokio::test]
    async fn parameters_and_posts_arrive() {
        let (_folder, client, _) = served().await;
        let flows: List<FlowReport> = client.get("/api/v1/flows?limit=2").await.unwrap();
        assert_eq!(flows.items.len(), 2);
        client.post("/api/v1/latency/reset").await.unwrap();
    }

    #[tokio::test]
    async fn a_question_arrives_and_one_that_names_no_packet_is_refused() {
        let (_folder, client, _) = served().await;
        let question = Question::from_words("tcp", "10.0.0.1:1", "[::ffff:10.0.0.2]:2").unwrap();
        let heard: Explanation = client.ask("/api/v1/explain", &question).await.unwrap();
        assert_eq!(heard.answer.candidates, ["10.0.0.1:1", "10.0.0.2:2"]);
        let wrong = serde_json::json!({"proto": "icmp", "src": "10.0.0.1:1", "dst": "10.0.0.2:2"});
        let refused = client.ask::<_, Explanation>("/api/v1/explain", &wrong).await.unwrap_err();
        assert!(refused.to_string().contains("`icmp` is no protocol"), "{refused}");
    }

    #[tokio::test]
    async fn changes_need_a_post() {
        let (_folder, client, _) = served().await;
        let error = client.get_text("/api/v1/latency/reset").await.unwrap_err();
        assert!(error.to_string().contains("405"), "{error}");
    }

    #[tokio::test]
    async fn the_network_may_read_and_not_change() {
        let (mailbox, queries) = mailbox();
        tokio::spawn(answer(queries));
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty());
            let router = read_only(mailbox.clone());
            let response = router.oneshot(request.unwrap()).await.unwrap();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(ask("POST", "/api/v1/latency/reset").await.0, 404);
        assert_eq!(ask("GET", "/api/v1/status").await.0, 200);
        let (_, hlog) = ask("GET", "/api/v1/latency.hlog?stage=queue-wait&after=1").await;
        assert!(hlog.contains("queue wait") && hlog.contains("#[Intervals 2 to 3]"), "{hlog}");
        assert_eq!(hlog.matches("Tag=worker0,").count(), 2);
        let (_, hgrm) = ask("GET", "/api/v1/latency.hgrm?kind=reply&window=1m").await;
        assert!(hgrm.contains("Total count    =            3]"), "{hgrm}");
        let (_, json) = ask("GET", "/api/v1/latency.json").await;
        assert!(json.contains("\"lastInterval\":3") && json.contains("\"kind\":\"reply\""));
        let (status, words) = ask("GET", "/api/v1/latency.hgrm?stage=x").await;
        assert!(status == 400 && words.contains("forwarding"), "{words}");
    }

    #[tokio::test]
    async fn readiness_lists_its_checks_and_liveness_does_not_ask_for_it() {
        let (_folder, client, _) = served().await;
        let error = client.get_text("/readyz").await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("[-]interfaces failed"), "{error}");
        assert_eq!(client.get_text("/livez").await.unwrap(), "ok\n");
    }

    #[tokio::test]
    async fn a_silent_control_thread_is_an_error_not_a_hang() {
        let (_folder, client, _) = served().await;
        let error = client.get_text("/api/v1/drops").await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("stopping"), "{error}");
    }

    #[tokio::test]
    async fn the_socket_is_the_owners_alone_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listening = Listening::try_new(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listening::try_new(&path).await, Err(ListenError::Taken { .. })));
        drop(listening);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_crashed_daemons_socket_is_replaced_but_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listening::try_new(&path).await.unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listening::try_new(&path).await, Err(ListenError::Refused { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn no_daemon_is_exit_code_69() {
        let client = Client::new(Path::new("/nonexistent/admin.sock"));
        let error = client.get::<StatusReport>("/api/v1/status").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }));
        assert_eq!(Fault::from(error).exit, Exit::Unavailable);
    }
}
