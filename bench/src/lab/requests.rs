//! Requests and answers on TCP connections of the kernel's own sockets: the load that a proxy can
//! forward too. Client and servers take turns on one CPU, in one thread.

use super::trial::{Counts, Trial};
use super::wire::account::Arrivals;
use crate::rivals::{Rig, rig::BACKEND_PORT};
use anyhow::{Context as _, Result, ensure};
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tidegate_dataplane::stats::latency::empty_histogram;

/// Bytes of a request, and of its answer: its time, its trial, nothing.
const REQUEST_BYTES: usize = 64;

/// An answer that has not come by then, after the last request's time, is late for good.
const GRACE: Duration = Duration::from_millis(10);

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
    clients: usize,
    /// Tells this trial's answers from late ones of another.
    trial: u64,
    lateness_max: Duration,
}

/// A trial's books.
struct Course {
    start: Instant,
    trial: u64,
    answered: u64,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
}

impl Requests {
    /// Opens `clients` connections by way of the gateway; the backends' sockets listen on all of
    /// their addresses.
    pub(super) fn open(
        rig: &Rig,
        target: SocketAddrV4,
        clients: usize,
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
        let mut all =
            Self { epoll, listener, sockets: Vec::new(), clients, trial: 0, lateness_max };
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
    pub(super) fn trial(&mut self, rate: f64, duration: Duration) -> Result<Trial> {
        self.trial += 1;
        let spacing = Duration::from_secs_f64(1.0 / rate);
        let (mut due, mut intended, mut sent) = (Duration::ZERO, 0, 0);
        let mut course = Course {
            start: Instant::now(),
            trial: self.trial,
            answered: 0,
            latency: empty_histogram(),
            lateness: empty_histogram(),
        };
        loop {
            let now = course.start.elapsed();
            while due <= now && due < duration {
                let is_sent = self.send(intended, due)?;
                course
                    .lateness
                    .saturating_record(nanoseconds(course.start.elapsed().saturating_sub(due)));
                (intended, sent) = (intended + 1, sent + u64::from(is_sent));
                due = spacing.mul_f64(crate::numbers::float(intended));
            }
            self.hear(&mut course)?;
            let is_all = due >= duration && course.answered >= sent;
            if is_all || now > duration + GRACE {
                break;
            }
        }
        let counts = Counts {
            rate_pps: rate,
            intended,
            sent,
            seconds: duration.as_secs_f64(),
            lateness_p99_ns: course.lateness.value_at_quantile(0.99),
            lateness_p99_ns_max: nanoseconds(self.lateness_max),
            ..Counts::default()
        };
        let arrivals = Arrivals { packets: course.answered, ..Arrivals::default() };
        Ok(Trial::new(&counts, arrivals, course.latency))
    }

    /// Whether the socket had room for the request.
    fn send(&mut self, number: u64, due: Duration) -> Result<bool> {
        let mut request = [0; REQUEST_BYTES];
        request[..8].copy_from_slice(&nanoseconds(due).to_le_bytes());
        request[8..16].copy_from_slice(&self.trial.to_le_bytes());
        let at = usize::try_from(number)? % self.clients;
        write(&mut self.sockets[at].stream, &request)
    }

    /// Takes what has come, on both sides.
    fn hear(&mut self, course: &mut Course) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NO_WAIT))?;
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                number => {
                    let socket = &mut self.sockets[usize::try_from(number)?];
                    if !socket.hear(course)? {
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
    fn hear(&mut self, course: &mut Course) -> Result<bool> {
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
            course.take(answer);
        }
        Ok(true)
    }
}

impl Course {
    fn take(&mut self, answer: &[u8]) {
        let word = |at: usize| answer[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        if word(8) == self.trial {
            let now = nanoseconds(self.start.elapsed());
            self.latency.saturating_record(now.saturating_sub(word(0)));
            self.answered += 1;
        }
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

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_trials_answers_count() {
        let mut course = Course {
            start: Instant::now(),
            trial: 7,
            answered: 0,
            latency: empty_histogram(),
            lateness: empty_histogram(),
        };
        let mut answer = [0; REQUEST_BYTES];
        for trial in [6_u64, 7, 8] {
            answer[8..16].copy_from_slice(&trial.to_le_bytes());
            course.take(&answer);
        }
        assert_eq!((course.answered, course.latency.len()), (1, 1));
    }

    #[test]
    fn answers_in_pieces_are_put_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut socket = Socket { stream, is_server: false, partial: Vec::new() };
        let mut course = Course {
            start: Instant::now(),
            trial: 0,
            answered: 0,
            latency: empty_histogram(),
            lateness: empty_histogram(),
        };
        for (bytes, answered) in [(100, 1), (27, 1), (1, 2)] {
            far.write_all(&vec![0; bytes]).unwrap();
            assert!(socket.hear(&mut course).unwrap());
            assert_eq!(course.answered, answered);
        }
    }
}
