//! Requests and answers on TCP connections of the kernel's own sockets: the load that a proxy can
//! forward too. Client and servers take turns on one CPU, in one thread.

use super::trial::{Counts, Trial};
use super::wire::account::Account;
use super::wire::clock::now_ns;
use super::wire::frame::Stamp;
use super::wire::schedule::Schedule;
use crate::rivals::{Rig, rig::BACKEND_PORT};
use anyhow::{Context as _, Result, ensure};
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tidegate_dataplane::stats::latency::empty_histogram;

/// Bytes of a request, and of its answer: a stamp, and nothing.
const REQUEST_BYTES: usize = 64;

/// An answer that has not come by then, after the last request's time, is late for good.
const GRACE_NS: u64 = 10_000_000;

/// A connection that is not there by then never is.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// The listener's number; those of the sockets are below.
const LISTENER: u64 = u64::MAX;

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A client's end, with the part of an answer that has come so far; or a server's.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    is_server: bool,
    partial: Vec<u8>,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Requests {
    epoll: OwnedFd,
    listener: TcpListener,
    /// The clients' first, in the order in which requests go; then the servers'.
    sockets: Vec<Socket>,
    clients: u32,
    account: Account,
    lateness_p99_ns_max: u64,
}

impl Requests {
    /// Opens `clients` connections by way of the gateway; the backends' sockets listen on all of
    /// their addresses.
    pub(super) fn open(
        rig: &Rig,
        target: SocketAddrV4,
        clients: u32,
        lateness_max: Duration,
    ) -> Result<Self> {
        for backend in &rig.backends {
            rig.backends_ns().ip(&format!("address replace {backend}/24 dev eth0"))?;
        }
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, BACKEND_PORT));
        let listener = rig.backends_ns().enter(listen)?.context("listen as a backend")?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        let mut all = Self {
            epoll,
            listener,
            sockets: Vec::new(),
            clients,
            account: Account::new(clients),
            lateness_p99_ns_max: u64::try_from(lateness_max.as_nanos()).unwrap_or(u64::MAX),
        };
        let target = SocketAddr::V4(target);
        for _ in 0..clients {
            let connect = || TcpStream::connect_timeout(&target, CONNECT_MAX);
            let stream = rig.client_ns().enter(connect)?.context("connect through the gateway")?;
            all.add(stream, false)?;
        }
        let first = all.trial(1_000.0, Duration::from_millis(500))?;
        ensure!(first.lost == Some(0), "{:?} of the first requests have no answer", first.lost);
        Ok(all)
    }

    fn add(&mut self, stream: TcpStream, is_server: bool) -> Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.sockets.push(Socket { stream, is_server, partial: Vec::new() });
        Ok(())
    }

    /// Sends requests at a rate, each when it is due whatever became of those before. An answer's
    /// latency counts from the time when its request was to go.
    pub(super) fn trial(&mut self, rate_pps: f64, duration: Duration) -> Result<Trial> {
        let schedule = Schedule::new(now_ns(), rate_pps, duration);
        self.account.reset(schedule.start_ns);
        let mut lateness = empty_histogram();
        let (mut number, mut sent) = (0, 0);
        loop {
            let now = now_ns();
            while number < schedule.owed(now) {
                let due_ns = schedule.due_ns(number);
                sent += u64::from(self.send(number, due_ns)?);
                lateness.saturating_record(now_ns().saturating_sub(due_ns));
                number += 1;
            }
            self.hear()?;
            let is_all = number == schedule.total && self.account.arrivals.packets >= sent;
            if is_all || now > schedule.end_ns() + GRACE_NS {
                break;
            }
        }
        let counts = Counts {
            rate_pps,
            intended: schedule.total,
            sent,
            seconds: Duration::from_nanos(schedule.end_ns() - schedule.start_ns).as_secs_f64(),
            lateness_p99_ns: lateness.value_at_quantile(0.99),
            lateness_p99_ns_max: self.lateness_p99_ns_max,
            ..Counts::default()
        };
        Ok(Trial::new(&counts, self.account.arrivals, self.account.latency.clone()))
    }

    /// Whether the socket had room for the request.
    fn send(&mut self, number: u64, due_ns: u64) -> Result<bool> {
        let clients = u64::from(self.clients);
        let flow = u32::try_from(number % clients)?;
        let sequence = u32::try_from(number / clients)?;
        let stamp = Stamp { flow, sequence, due_ns }.bytes();
        let mut request = [0; REQUEST_BYTES];
        request[..stamp.len()].copy_from_slice(&stamp);
        write(&mut self.sockets[flow as usize].stream, &request)
    }

    /// Takes what has come, on both sides.
    fn hear(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NO_WAIT))?;
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                number => {
                    let socket = &mut self.sockets[usize::try_from(number)?];
                    if !socket.hear(&mut self.account)? {
                        epoll::delete(&self.epoll, &socket.stream)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => self.add(stream, true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("accept a connection"),
        }
    }
}

impl Socket {
    /// Whether more may come.
    fn hear(&mut self, account: &mut Account) -> Result<bool> {
        let mut bytes = [0; 16 * 1024];
        let count = match self.stream.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error).context("read from a connection"),
        };
        if self.is_server {
            // A proxy that only looked whether it listens is gone again.
            ensure!(write(&mut self.stream, &bytes[..count])?, "an answer found no room");
            return Ok(count > 0);
        }
        ensure!(count > 0, "a connection was closed");
        self.partial.extend_from_slice(&bytes[..count]);
        let whole = self.partial.len() / REQUEST_BYTES * REQUEST_BYTES;
        for answer in self.partial.drain(..whole).as_slice().chunks_exact(REQUEST_BYTES) {
            let stamp = Stamp::of_payload(answer).context("an answer is no request of ours")?;
            account.enter(&stamp, now_ns());
        }
        Ok(true)
    }
}

/// All of it, or nothing.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<bool> {
    match stream.write(bytes) {
        Ok(count) => {
            ensure!(count == bytes.len(), "a socket took {count} of {} bytes", bytes.len());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).context("write to a connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that were due at these times, in one piece.
    fn requests(due: &[u64]) -> Vec<u8> {
        let request = |(sequence, due_ns): (u32, &u64)| {
            let mut bytes = Stamp { flow: 0, sequence, due_ns: *due_ns }.bytes().to_vec();
            bytes.resize(REQUEST_BYTES, 0);
            bytes
        };
        (0..).zip(due).flat_map(request).collect()
    }

    /// A server's end, and a client's.
    fn connection() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (far, Socket { stream, is_server: false, partial: Vec::new() })
    }

    #[test]
    fn answers_in_pieces_are_put_together_and_only_this_trials_count() {
        let (mut far, mut socket) = connection();
        let mut account = Account::new(1);
        account.reset(1_000);
        let mut bytes = requests(&[1_000, 1_001, 999]).into_iter();
        for (count, answered, stale) in [(100, 1, 0), (27, 1, 0), (1, 2, 0), (64, 2, 1)] {
            let piece: Vec<u8> = bytes.by_ref().take(count).collect();
            far.write_all(&piece).unwrap();
            assert!(socket.hear(&mut account).unwrap());
            assert_eq!((account.arrivals.packets, account.arrivals.stale), (answered, stale));
        }
        assert_eq!(account.latency.len(), 2);
    }

    #[test]
    fn what_is_no_answer_of_ours_is_an_error() {
        let (mut far, mut socket) = connection();
        far.write_all(&[0; REQUEST_BYTES]).unwrap();
        assert!(socket.hear(&mut Account::new(1)).is_err());
    }
}
