//! One request of each kind, as a client makes it.

use crate::load::{any_like, fetch_over, parse_http};
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long an answer may take, lost segments and all.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How long a download may take on a busy machine.
const DOWNLOAD_MAX: Duration = Duration::from_mins(1);

/// How long a client of UDP waits before it asks again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often a client of UDP asks. Names are looked up as often by the resolver's default.
const TRIES: u32 = 3;

/// A connection of HTTP that stays open.
#[derive(Debug)]
pub(super) struct Session(BufReader<TcpStream>);

impl Session {
    pub(super) async fn open(to: SocketAddr) -> Result<Self> {
        let stream = timeout(ANSWER_MAX, TcpStream::connect(to)).await.context("not in time")?;
        Ok(Self(BufReader::new(stream.context("connect")?)))
    }

    /// Asks who serves it.
    pub(super) async fn ask(&mut self) -> Result<String> {
        timeout(ANSWER_MAX, self.exchange()).await.context("no answer in time")?
    }

    async fn exchange(&mut self) -> Result<String> {
        let request = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
        self.0.get_mut().write_all(request).await.context("send")?;
        let (mut answer, mut length) = (String::new(), 0);
        while !answer.ends_with("\r\n\r\n") {
            let start = answer.len();
            let read = self.0.read_line(&mut answer).await.context("receive")?;
            ensure!(read > 0, "closed after {answer:?}");
            let line = answer[start..].to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.context("receive")?;
        Ok(parse_http(&(answer + &String::from_utf8(body)?))?.0)
    }
}

/// How much of a download may be on its way at once, in bytes: its packets shall not fill the ring
/// of a pod's veth on a machine that has other things to do.
const WINDOW_BYTES: u32 = 32 << 10;

/// Length and SHA-256 of a download.
pub(super) async fn download(from: SocketAddr, path: &str) -> Result<(u64, String)> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(WINDOW_BYTES)?;
    let whole = async { fetch_over(socket.connect(from).await.context("connect")?, path).await };
    timeout(DOWNLOAD_MAX, whole).await.context("not in time")?
}

/// A socket of UDP that asks one front.
#[derive(Debug)]
pub(super) struct Asker {
    socket: UdpSocket,
    asked: u64,
    /// How often it had to ask again.
    pub(super) again: u64,
}

impl Asker {
    pub(super) async fn open(to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((any_like(to), 0)).await?;
        socket.connect(to).await?;
        Ok(Self { socket, asked: 0, again: 0 })
    }

    /// Sends a datagram of at least `bytes` and returns the pod that sent it back.
    pub(super) async fn ask(&mut self, bytes: usize) -> Result<String> {
        self.asked += 1;
        let question = format!("{:0bytes$}", self.asked);
        for attempt in 0..TRIES {
            self.again += u64::from(attempt > 0);
            self.socket.send(question.as_bytes()).await.context("send")?;
            match timeout(AGAIN_AFTER, self.answer(&question)).await {
                Ok(pod) => return pod,
                Err(_elapsed) => {}
            }
        }
        anyhow::bail!("no answer in {TRIES} tries")
    }

    /// Late answers to earlier questions are passed over.
    async fn answer(&self, question: &str) -> Result<String> {
        let mut buffer = vec![0; question.len() + 200];
        loop {
            let length = self.socket.recv(&mut buffer).await.context("receive")?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let mut words = text.splitn(3, ' ');
            let (pod, _peer) = (words.next().unwrap_or_default(), words.next());
            let said = words.next().with_context(|| format!("answer {text:?}"))?;
            if said == question {
                return Ok(pod.to_owned());
            }
            ensure!(said.len() == question.len(), "answer {said:?}");
        }
    }
}

/// Pings of one address.
#[derive(Debug)]
pub(super) struct Pinger {
    socket: UdpSocket,
    is_v4: bool,
    sequence: u16,
}

impl Pinger {
    /// The kernel gives such a socket's messages their number and checksum (icmp(7)); the group of
    /// root must stand in `net.ipv4.ping_group_range`.
    pub(super) async fn open(to: SocketAddr) -> Result<Self> {
        let (family, protocol) = match to {
            SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket(family, SocketType::DGRAM, Some(protocol)).context("open")?;
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect((to.ip(), 0)).await?;
        Ok(Self { socket, is_v4: to.is_ipv4(), sequence: 0 })
    }

    /// Asks, and awaits the answer to this very question.
    pub(super) async fn ask(&mut self) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let [high, low] = self.sequence.to_be_bytes();
        let (request, reply) = if self.is_v4 { (8, 0) } else { (128, 129) };
        self.socket.send(&[request, 0, 0, 0, 0, 0, high, low]).await.context("send")?;
        let mut buffer = [0; 64];
        let answer = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.context("receive")?;
                let is_it = length == 8 && buffer[0] == reply && buffer[6..8] == [high, low];
                if is_it {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(ANSWER_MAX, answer).await.context("no answer in time")?
    }
}
