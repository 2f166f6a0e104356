//! The client side of the admin socket: one request, one connection.

use core::time::Duration;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Longer than the server waits for its control thread, so that its own words arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the daemon behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why the daemon's answer is missing. Text fits "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or we may not ask.
    #[error("reach the daemon at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// The connection broke.
    #[error("talk to the daemon: {0}")]
    Http(#[from] hyper::Error),
    /// The path is no path.
    #[error("ask the daemon: {0}")]
    Path(#[from] hyper::http::Error),
    /// It took too long.
    #[error("get an answer from the daemon within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The daemon could not answer.
    #[error("get {path}: {status}: {text}")]
    Refused {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: StatusCode,
        /// The daemon's words.
        text: String,
    },
    /// The answer is of another version.
    #[error("read the daemon's answer (is it of another version?): {0}")]
    Schema(#[from] serde_json::Error),
}

impl Client {
    /// A client of the daemon behind `socket`. Connects only when asked something.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The daemon is away or could not answer, or its answer has another shape.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.request(&Method::GET, path, Bytes::new()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Reads text.
    ///
    /// # Errors
    /// The daemon is away or could not answer.
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let body = self.request(&Method::GET, path, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// The daemon is away or refused.
    pub async fn post(&self, path: &str) -> Result<(), ClientError> {
        self.request(&Method::POST, path, Bytes::new()).await.map(drop)
    }

    /// Asks a question that is more than a path.
    ///
    /// # Errors
    /// The daemon is away or refused, or its answer has another shape.
    pub async fn ask<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<T, ClientError> {
        let question = serde_json::to_vec(question)?;
        let body = self.request(&Method::POST, path, question.into()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    async fn request(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        tracing::debug!(%method, path, socket = %self.socket.display(), "asking");
        let exchange = self.exchange(method, path, body);
        tokio::time::timeout(TIMEOUT, exchange).await.or(Err(ClientError::Timeout))?
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header(HOST, "tidegate");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        Err(ClientError::Refused { path: path.to_owned(), status, text })
    }
}
