//! The server inside a pod: HTTP and a UDP echo that say who they are and whom they saw.

use super::rig::families;
use super::{PodArgs, pattern_chunks};
use crate::model::Family;
use anyhow::{Context as _, Result};
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing::get};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use futures::{TryStreamExt as _, stream};
use std::io::Write as _;
use tokio::net::{TcpListener, UdpSocket};

/// Longest UDP payload that the echo takes; more is cut.
const DATAGRAM_BYTES_MAX: usize = 16_384;

/// Bytes of the longest `/bytes/N`: 1 GiB.
const DOWNLOAD_BYTES_MAX: u64 = 1 << 30;

/// Serves until it is killed. Prints `ready` on its standard output once both ports are bound.
///
/// # Errors
/// A port is taken, or a socket fails.
pub fn run_pod(args: &PodArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &PodArgs) -> Result<()> {
    // The unspecified IPv6 address serves IPv4 too.
    let has_ipv6 = families().contains(&Family::V6);
    let any: IpAddr =
        if has_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let bind = |port| SocketAddr::from((any, port));
    let listener = TcpListener::bind(bind(args.http)).await.context("bind the HTTP port")?;
    let socket = UdpSocket::bind(bind(args.udp)).await.context("bind the UDP port")?;
    writeln!(std::io::stdout(), "ready").context("tell that both ports are bound")?;
    let service = router(&args.name).into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        result = axum::serve(listener, service) => result.context("serve HTTP"),
        result = echo(&args.name, &socket) => result.context("serve UDP"),
    }
}

fn router(name: &str) -> Router {
    Router::new()
        .route("/", get(who))
        .route("/bytes/{len}", get(download).put(upload))
        .with_state(name.to_owned())
}

async fn who(
    State(pod): State<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "pod": pod, "peer": canonical(peer) }))
}

/// An IPv4 client as itself, not in IPv6's mapped form.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

async fn download(Path(len): Path<u64>) -> Body {
    let chunks = pattern_chunks(len.min(DOWNLOAD_BYTES_MAX));
    Body::from_stream(stream::iter(
        chunks.map(|c| Ok::<_, core::convert::Infallible>(Bytes::from(c))),
    ))
}

/// Takes what `/bytes/N` would give, and says who it is; conflict if it differs.
async fn upload(
    State(pod): State<String>,
    Path(len): Path<u64>,
    body: Body,
) -> Result<Json<serde_json::Value>, StatusCode> {
    match is_pattern(len.min(DOWNLOAD_BYTES_MAX), body.into_data_stream()).await {
        Ok(true) => Ok(Json(serde_json::json!({ "pod": pod, "bytes": len }))),
        Ok(false) => Err(StatusCode::CONFLICT),
        Err(_cut_short) => Err(StatusCode::BAD_REQUEST),
    }
}

async fn is_pattern(len: u64, mut body: BodyDataStream) -> Result<bool, axum::Error> {
    let mut expected = pattern_chunks(len).flatten();
    while let Some(piece) = body.try_next().await? {
        if !piece.iter().all(|byte| expected.next() == Some(*byte)) {
            return Ok(false);
        }
    }
    Ok(expected.next().is_none())
}

/// Answers `NAME PEER PAYLOAD`.
async fn echo(name: &str, socket: &UdpSocket) -> std::io::Result<()> {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer).await?;
        let payload = buffer.get(..len).unwrap_or_default();
        let answer = [format!("{name} {} ", canonical(peer)).as_bytes(), payload].concat();
        // The peer may be gone already; the next datagram is another matter.
        if let Err(error) = socket.send_to(&answer, peer).await {
            tracing::debug!(%peer, %error, "no answer sent");
        }
    }
}
