//! Real clients: many TCP connections with HTTP, UDP flows, a download; from inside a namespace.

use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use rustix::net::sockopt::set_socket_linger;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;
use tidegate_control::demo::pattern_chunks;
use tidegate_control::demo::rig::NetNs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How long one request may take, lost packets and all.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// How long one UDP answer may take.
const DATAGRAM_MAX: Duration = Duration::from_secs(5);

/// Failures that are kept word by word; the rest are only counted.
const FAILURES_KEPT: usize = 5;

/// What came back.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    /// Answers by the pod that gave them.
    pub by_pod: BTreeMap<String, u32>,
    /// The client addresses that the pods saw.
    pub peers: BTreeSet<IpAddr>,
    /// Requests without a right answer.
    pub failed: u32,
    /// What was wrong with the first of them.
    pub failures: Vec<String>,
}

impl Answers {
    /// How many requests were answered.
    pub fn answered(&self) -> u32 {
        self.by_pod.values().sum()
    }

    /// Fails, with the first reasons, unless each of `count` requests was answered.
    ///
    /// # Errors
    /// At least one was not.
    pub fn ensure_all(&self, count: u32) -> Result<&Self> {
        let Self { failed, failures, .. } = self;
        ensure!(*failed == 0, "{failed} of {count} requests failed: {}", failures.join("; "));
        ensure!(self.answered() == count, "{} of {count} answers", self.answered());
        Ok(self)
    }

    fn add(&mut self, result: Result<(String, IpAddr)>) {
        match result {
            Ok((pod, peer)) => {
                *self.by_pod.entry(pod).or_default() += 1;
                self.peers.insert(peer);
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_KEPT {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }

    /// Adds what another run brought.
    pub fn merge(&mut self, other: Self) {
        for (pod, count) in other.by_pod {
            *self.by_pod.entry(pod).or_default() += count;
        }
        self.peers.extend(other.peers);
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
    }
}

/// `count` HTTP requests, each on a TCP connection of its own, `at_once` at a time.
///
/// # Errors
/// The namespace cannot be entered. Failed requests are counted, not returned.
pub fn http(netns: &NetNs, to: SocketAddr, count: u32, at_once: u32) -> Result<Answers> {
    spread(netns, count, at_once, move || http_request(to))
}

/// `count` datagrams, each from a socket of its own, `at_once` at a time.
///
/// # Errors
/// As [`http`].
pub fn udp(netns: &NetNs, to: SocketAddr, count: u32, at_once: u32) -> Result<Answers> {
    spread(netns, count, at_once, move || udp_request(to))
}

/// Length and SHA-256 of what HTTP GET `path` brings.
///
/// # Errors
/// The connection fails, or stalls for 60 s.
pub fn download(netns: &NetNs, from: SocketAddr, path: &str) -> Result<(u64, String)> {
    inside(netns, async {
        let work = fetch(from, path);
        tokio::time::timeout(Duration::from_mins(1), work).await.context("download")?
    })?
}

/// Sends `/bytes/LEN` by HTTP PUT. Returns the pod that took it whole and unchanged.
///
/// # Errors
/// The connection fails or stalls for 60 s, or other bytes arrived.
pub fn upload(netns: &NetNs, to: SocketAddr, len: u64) -> Result<String> {
    inside(netns, async {
        let work = put(to, len);
        tokio::time::timeout(Duration::from_mins(1), work).await.context("upload")?
    })?
}

/// A connection that stays open, for one request after the other.
#[derive(Debug)]
pub struct Session(BufReader<std::net::TcpStream>);

impl Session {
    /// Connects from `netns`.
    ///
    /// # Errors
    /// The connection fails.
    pub fn open(netns: &NetNs, to: SocketAddr) -> Result<Self> {
        let dial = || std::net::TcpStream::connect_timeout(&to, REQUEST_MAX);
        Self::over(netns.enter(dial)?.context("connect")?)
    }

    /// Connects from an address and port of `netns`.
    ///
    /// # Errors
    /// The connection fails.
    pub fn open_from(netns: &NetNs, from: SocketAddr, to: SocketAddr) -> Result<Self> {
        let dial = async {
            let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.bind(from).context("bind")?;
            let connected = tokio::time::timeout(REQUEST_MAX, socket.connect(to)).await;
            let stream = connected.context("no answer in time")?.context("connect")?.into_std()?;
            stream.set_nonblocking(false)?;
            anyhow::Ok(stream)
        };
        Self::over(inside(netns, dial)??)
    }

    fn over(stream: std::net::TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(REQUEST_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The client's end.
    ///
    /// # Errors
    /// The kernel has forgotten the socket.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.0.get_ref().local_addr()?)
    }

    /// Ends it by a reset, so that nobody has to remember it.
    ///
    /// # Errors
    /// The kernel has forgotten the socket.
    pub fn reset(self) -> Result<()> {
        Ok(set_socket_linger(self.0.get_ref(), Some(Duration::ZERO))?)
    }

    /// Asks who serves it.
    ///
    /// # Errors
    /// The connection broke, or the answer is not a pod's.
    pub fn ask(&mut self) -> Result<String> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n").context("send")?;
        let (mut head, mut len) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            ensure!(self.0.read_line(&mut head).context("receive")? > 0, "closed after {head:?}");
            let line = head[start..].to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                len = value.trim().parse()?;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).context("receive")?;
        Ok(parse_http(&(head + &String::from_utf8(body)?))?.0)
    }
}

fn spread<F>(
    netns: &NetNs,
    count: u32,
    at_once: u32,
    request: impl Fn() -> F + Copy + Send + 'static,
) -> Result<Answers>
where
    F: Future<Output = Result<(String, IpAddr)>> + Send,
{
    inside(netns, async move {
        let mut lanes = JoinSet::new();
        for lane in 0..at_once {
            let share = count / at_once + u32::from(lane < count % at_once);
            lanes.spawn(async move {
                let mut answers = Answers::default();
                for _ in 0..share {
                    answers.add(request().await);
                }
                answers
            });
        }
        let mut all = Answers::default();
        while let Some(answers) = lanes.join_next().await {
            all.merge(answers?);
        }
        Ok(all)
    })?
}

/// Runs a future on a thread inside `netns`.
pub(crate) fn inside<T: Send>(netns: &NetNs, work: impl Future<Output = T> + Send) -> Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(work))
    };
    netns.enter(run)?
}

async fn http_request(to: SocketAddr) -> Result<(String, IpAddr)> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.context("connect")?;
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("receive")?;
        parse_http(&answer).map(|(pod, peer)| (pod, peer.ip()))
    };
    tokio::time::timeout(REQUEST_MAX, exchange).await.context("no answer in time")?
}

/// The pod that answered, and the client's end as it saw it.
pub(crate) fn parse_http(answer: &str) -> Result<(String, SocketAddr)> {
    ensure!(answer.starts_with("HTTP/1.1 200 "), "answer {answer:?}");
    let (_, body) = answer.split_once("\r\n\r\n").context("an HTTP body")?;
    let body: serde_json::Value = serde_json::from_str(body)?;
    let text = |key: &str| body[key].as_str().with_context(|| format!("{key} in {body}"));
    Ok((text("pod")?.to_owned(), text("peer")?.parse()?))
}

/// The address that means any of `like`'s family.
pub fn any_like(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

async fn udp_request(to: SocketAddr) -> Result<(String, IpAddr)> {
    let socket = UdpSocket::bind((any_like(to), 0)).await?;
    socket.connect(to).await?;
    let question = format!("ping from {}", socket.local_addr()?.port());
    socket.send(question.as_bytes()).await.context("send")?;
    let mut buffer = [0; 512];
    let received = tokio::time::timeout(DATAGRAM_MAX, socket.recv(&mut buffer));
    let len = received.await.context("no answer in time")?.context("receive")?;
    let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
    let mut words = answer.splitn(3, ' ');
    let (pod, peer) = (words.next().unwrap_or(""), words.next().context("a peer")?);
    ensure!(words.next() == Some(question.as_str()), "answer {answer:?}");
    Ok((pod.to_owned(), peer.parse::<SocketAddr>()?.ip()))
}

async fn put(to: SocketAddr, len: u64) -> Result<String> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    let head = format!("PUT /bytes/{len} HTTP/1.1\r\nHost: pod\r\nContent-Length: {len}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await?;
    for chunk in pattern_chunks(len) {
        stream.write_all(&chunk).await.context("send")?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("receive")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an HTTP body")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "answer {answer:?}");
    let body: serde_json::Value = serde_json::from_str(body)?;
    Ok(body["pod"].as_str().context("a pod")?.to_owned())
}

async fn fetch(from: SocketAddr, path: &str) -> Result<(u64, String)> {
    fetch_over(TcpStream::connect(from).await.context("connect")?, path).await
}

/// Length and SHA-256 of what HTTP GET `path` brings over a new connection.
pub(crate) async fn fetch_over(mut stream: TcpStream, path: &str) -> Result<(u64, String)> {
    // HTTP/1.0: the body is all that follows the head, without chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut head, mut is_body, mut len) = (Vec::new(), false, 0);
    let mut digest = Sha256::new();
    loop {
        let count = stream.read(&mut buffer).await.context("receive")?;
        let mut piece = &buffer[..count];
        if count == 0 {
            break;
        }
        if !is_body {
            head.extend_from_slice(piece);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            ensure!(head.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&head));
            (is_body, piece) = (true, &head[end + 4..]);
        }
        digest.update(piece);
        len += piece.len() as u64;
    }
    Ok((len, format!("{:x}", digest.finalize())))
}

/// The digest of the first `len` bytes that the demo's server sends for `/bytes/len`.
pub fn pattern_digest(len: u64) -> String {
    let mut digest = Sha256::new();
    pattern_chunks(len).for_each(|chunk| digest.update(chunk));
    format!("{:x}", digest.finalize())
}
