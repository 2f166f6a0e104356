//! A client of the API server that finds its way back: credentials and certificates are read anew
//! after a refusal or a broken connection, requests keep to `clientConnection.qps`, and the
//! server's wish to be left alone (`Retry-After`) is kept.

use super::pace::Pace;
use crate::config::ClientConnection;
use crate::fault::chain;
use crate::source::SourceError;
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::{self, Instant};
use tower::{BoxError, service_fn};

/// How long an answer may take to begin: the API server itself gives a request 60 s. Shorter
/// gives up lists of a server that is only slow, longer delays noticing one that is silent.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a watch may be silent. The API server sends a bookmark each minute, so this is a dead
/// connection; the watch is then resumed on a new one.
const SILENCE_MAX: Duration = Duration::from_secs(100);

/// The longest `Retry-After` that is kept.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// A client of the API server that `connection` names. It stays usable when the server goes away
/// or credentials change; the requests made meanwhile fail.
///
/// # Errors
/// There is no such kubeconfig or service account, or it cannot be used. Whether the server
/// answers is not tried.
pub async fn connect(connection: &ClientConnection) -> Result<kube::Client, SourceError> {
    let link = Link::new(connection);
    link.current().await?;
    Ok(link.client(None))
}

/// What clients of one API server share.
#[derive(Debug)]
pub(super) struct Link {
    connection: ClientConnection,
    pace: Mutex<Pace>,
    open: Mutex<Option<Open>>,
}

/// A connection's settings as last read.
#[derive(Clone)]
struct Open {
    client: kube::Client,
    server: String,
    /// A refusal or a broken connection came since: the next request reads the settings anew.
    is_stale: bool,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Link {
    /// Nothing is read yet.
    pub(super) fn new(connection: &ClientConnection) -> Arc<Self> {
        Arc::new(Self {
            connection: connection.clone(),
            pace: Mutex::new(Pace::new(connection, Instant::now())),
            open: Mutex::new(None),
        })
    }

    /// A client; `answered` is told of each good answer.
    pub(super) fn client(self: &Arc<Self>, answered: Option<Arc<Notify>>) -> kube::Client {
        let link = Arc::clone(self);
        let send = move |request: Request<Body>| {
            let (link, answered) = (Arc::clone(&link), answered.clone());
            async move {
                let answer = link.send(request).await?;
                if let Some(answered) = answered.filter(|_| answer.status().is_success()) {
                    answered.notify_one();
                }
                Ok::<_, BoxError>(answer)
            }
        };
        kube::Client::new(service_fn(send), "default")
    }

    /// The server's address, read now; `None` where the settings cannot be read.
    pub(super) async fn current_server(&self) -> Option<String> {
        self.current().await.ok().map(|open| open.server)
    }

    /// The server's address as last read.
    pub(super) async fn server(&self) -> Option<String> {
        self.open.lock().await.as_ref().map(|open| open.server.clone())
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let due = self.pace.lock().await.take(Instant::now());
        time::sleep_until(due).await;
        let open = self.current().await?;
        let answer = time::timeout(ANSWER_MAX, open.client.send(request)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.heed(answer.status(), retry_after(&answer)).await;
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.forget().await;
                Err(error.into())
            }
            Err(_elapsed) => {
                self.forget().await;
                let words = format!("no answer within {} s", ANSWER_MAX.as_secs());
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, words).into())
            }
        }
    }

    async fn heed(&self, status: StatusCode, retry_after: Option<Duration>) {
        if status == StatusCode::UNAUTHORIZED {
            self.forget().await;
        }
        if let Some(pause) = retry_after.filter(|_| !status.is_success()) {
            self.pace.lock().await.pause(Instant::now() + pause.min(PAUSE_MAX));
        }
    }

    /// The next request reads credentials and certificates anew. Streams that are open go on.
    async fn forget(&self) {
        if let Some(open) = self.open.lock().await.as_mut() {
            open.is_stale = true;
        }
    }

    async fn current(&self) -> Result<Open, SourceError> {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| !open.is_stale) {
            return Ok(open.clone());
        }
        let opened = open(&self.connection).await?;
        Ok(slot.insert(opened).clone())
    }
}

fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn open(connection: &ClientConnection) -> Result<Open, SourceError> {
    let mut config = match connection.kubeconfig.as_str() {
        "" => kube::Config::incluster().map_err(|error| {
            let fix = "outside a pod, name a kubeconfig in clientConnection.kubeconfig";
            let words = format!("{}; {fix}", chain(&error));
            SourceError::Server { what: "use the pod's service account".to_owned(), words }
        })?,
        path => from_kubeconfig(path).await?,
    };
    // Ours retry by the watchers' back-off, told in the status; kube's own would hide for minutes
    // that the server refuses.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_MAX);
    config.read_timeout = Some(SILENCE_MAX);
    config.reset_reader_on_write = true;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    // A credential plugin is a program: waited for beside the event loop.
    let made = tokio::task::spawn_blocking(move || kube::Client::try_from(config)).await;
    let refused = |words: String| SourceError::Server {
        what: format!("use the credentials for {server}"),
        words,
    };
    let client = made.map_err(|error| refused(chain(&error)))?;
    let client = client.map_err(|error| refused(chain(&error)))?;
    Ok(Open { client, server, is_stale: false })
}

async fn from_kubeconfig(path: &str) -> Result<kube::Config, SourceError> {
    let refused = |error: &dyn std::error::Error| SourceError::Server {
        what: format!("read the kubeconfig {path}"),
        words: chain(error),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let connection = ClientConnection {
            kubeconfig: "/nonexistent/kubeconfig".to_owned(),
            ..ClientConnection::default()
        };
        let error = connect(&connection).await.err().unwrap().to_string();
        assert!(error.starts_with("read the kubeconfig /nonexistent/kubeconfig: "), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }
}
