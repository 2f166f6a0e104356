//! Accepting and serving, with limits: these ports are open to the network.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections of one listener at a time; further ones wait in the kernel's backlog. Balancers and
/// scrapers need a handful; more would let a stranger use up the process's descriptors.
const CONNECTIONS_MAX: usize = 64;

/// How long a peer may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may live: one request and its answer.
const CONNECTION_MAX: Duration = Duration::from_secs(15);

/// The pause after a refused `accept`, as when descriptors run out: no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever. Dropping the future closes the listener and every connection.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(exchange(stream, router.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// One request, one answer, no further one: nothing idles.
async fn exchange(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).keep_alive(false);
    let exchange = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_MAX, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a health or metrics client went away"),
        Err(_elapsed) => tracing::debug!("a health or metrics client was too slow"),
    }
}
