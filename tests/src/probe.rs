//! One flow's first packets from a namespace, and what became of them as seen from there: an
//! answer, an ICMP error, or nothing.

use crate::load::parse_http;
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use tidegate_control::demo::rig::NetNs;
use tidegate_dataplane::types::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long nothing must come where silence is expected.
const SILENCE: Duration = Duration::from_millis(300);

/// What the sender saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A server answered.
    Answer {
        /// Its name.
        who: String,
        /// The client's end as it saw it.
        peer: SocketAddr,
    },
    /// An ICMP error that quotes our packet.
    Icmp {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// Who sent it.
        from: IpAddr,
    },
    /// Nothing.
    Silence,
}

/// A flow to be begun.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// TCP with a request of HTTP, or UDP.
    pub protocol: Protocol,
    /// The sender's address.
    pub source: IpAddr,
    /// The front.
    pub to: SocketAddr,
    /// Whether an answer is waited for until it comes.
    pub is_answer_expected: bool,
}

impl Probe {
    /// Begins the flow from `netns`. Gives the sender's end and what it saw.
    ///
    /// # Errors
    /// The packet cannot be sent, or what came back is not understood: a refusal without ICMP is
    /// not.
    pub fn send(&self, netns: &NetNs) -> Result<(SocketAddr, Seen)> {
        netns.enter(|| {
            // Before the packet, so that no error is missed.
            let icmp = hear_icmp(self.to)?;
            let (local, seen) = match self.protocol {
                Protocol::Tcp => self.tcp()?,
                Protocol::Udp => self.udp()?,
            };
            let seen = match seen {
                Some(seen) => seen,
                None => self.error(&icmp, local.port())?,
            };
            Ok((local, seen))
        })?
    }

    fn patience(&self) -> Duration {
        if self.is_answer_expected { ANSWER_MAX } else { SILENCE }
    }

    /// `None` where the kernel says that the packet was refused.
    fn udp(&self) -> Result<(SocketAddr, Option<Seen>)> {
        let socket = UdpSocket::bind((self.source, 0)).context("bind")?;
        socket.set_read_timeout(Some(self.patience()))?;
        socket.connect(self.to)?;
        socket.send(b"who are you").context("send")?;
        let mut buffer = [0; 256];
        let seen = match socket.recv(&mut buffer) {
            Ok(len) => {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                let mut words = text.split(' ');
                let who = words.next().unwrap_or_default().to_owned();
                let peer = words.next().unwrap_or_default().parse();
                Some(Seen::Answer { who, peer: peer.with_context(|| text.clone())? })
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Seen::Silence),
            Err(error) => return Err(error).context("receive"),
        };
        Ok((socket.local_addr()?, seen))
    }

    fn tcp(&self) -> Result<(SocketAddr, Option<Seen>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let socket =
                if self.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((self.source, 0).into()).context("bind")?;
            let local = socket.local_addr()?;
            let exchange = async {
                let mut stream = socket.connect(self.to).await?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.map(|_| answer)
            };
            let seen = match tokio::time::timeout(self.patience(), exchange).await {
                Err(_elapsed) => Some(Seen::Silence),
                Ok(Ok(answer)) => {
                    let (who, peer) = parse_http(&answer)?;
                    Some(Seen::Answer { who, peer })
                }
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => None,
                Ok(Err(error)) => return Err(error).context("exchange"),
            };
            Ok((local, seen))
        })
    }

    /// The ICMP error that quotes the packet from our `port`.
    fn error(&self, icmp: &UdpSocket, port: u16) -> Result<Seen> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let (len, from) = icmp.recv_from(&mut buffer).context("hear an ICMP error")?;
            let Some(error) = Quoting::parse(&buffer[..len], self.to.is_ipv4()) else { continue };
            if error.destination == self.to && error.source_port == port {
                return Ok(Seen::Icmp { kind: error.kind, code: error.code, from: from.ip() });
            }
        }
        anyhow::bail!("refused, but not by ICMP")
    }
}

/// A raw socket hears all that the namespace receives; the standard library reads from it as it
/// does from any datagram socket.
fn hear_icmp(like: SocketAddr) -> Result<UdpSocket> {
    let (family, protocol) = match like {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = UdpSocket::from(socket(family, SocketType::RAW, Some(protocol))?);
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    Ok(socket)
}

/// An ICMP error (RFC 792, RFC 4443 section 3) and whom the packet in it was for.
#[derive(Debug, PartialEq, Eq)]
struct Quoting {
    kind: u8,
    code: u8,
    source_port: u16,
    destination: SocketAddr,
}

impl Quoting {
    /// Of IPv4 a raw socket gives the IP header too.
    fn parse(bytes: &[u8], is_v4: bool) -> Option<Self> {
        let header = |bytes: &[u8]| Some(usize::from(bytes.first()? & 15) * 4);
        let icmp = if is_v4 { bytes.get(header(bytes)?..)? } else { bytes };
        let (kind, code, quoted) = (*icmp.first()?, *icmp.get(1)?, icmp.get(8..)?);
        let (destination, ports): (IpAddr, _) = if is_v4 {
            let address = <[u8; 4]>::try_from(quoted.get(16..20)?).ok()?;
            (Ipv4Addr::from(address).into(), quoted.get(header(quoted)?..)?)
        } else {
            let address = <[u8; 16]>::try_from(quoted.get(24..40)?).ok()?;
            (Ipv6Addr::from(address).into(), quoted.get(40..)?)
        };
        let port = |at| Some(u16::from_be_bytes([*ports.get(at)?, *ports.get(at + 1)?]));
        let destination = SocketAddr::new(destination, port(2)?);
        Some(Self { kind, code, source_port: port(0)?, destination })
    }
}

/// Fails unless `seen` is an ICMP port unreachable from the address that was contacted
/// (semantics D4).
///
/// # Errors
/// It is anything else.
pub fn ensure_port_unreachable(seen: &Seen, contacted: IpAddr) -> Result<()> {
    let (kind, code) = if contacted.is_ipv4() { (3, 3) } else { (1, 4) };
    let expected = Seen::Icmp { kind, code, from: contacted };
    ensure!(*seen == expected, "the client saw {seen:?}, and not {expected:?}");
    Ok(())
}
