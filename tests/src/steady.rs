//! Traffic that never stops while the network changes: sessions of HTTP that must not break, and
//! datagrams that tell how soon packets pass again.

use crate::lab::{FAMILIES, Lab, front};
use crate::load::{Session, any_like};
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two requests of a flow: five hundred packets a second each way, and idle cores.
const PACE: Duration = Duration::from_millis(2);

/// How long a datagram's answer is waited for before the next is sent.
const ANSWER_MAX: Duration = Duration::from_millis(20);

/// How long a flow may take to go on, on a busy machine.
const GOES_ON_MAX: Duration = Duration::from_secs(30);

/// The flows, while they go on.
#[derive(Debug)]
pub struct Steady<'a> {
    lab: &'a Lab,
    flows: Vec<Flow>,
    clock: Instant,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Flow {
    kind: Kind,
    to: SocketAddr,
    /// When the last request that was answered had been sent; nanoseconds of the clock, never 0.
    answered: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Udp,
}

/// Lets requests go on to an HTTP and a UDP node port, in both families, while `work` lasts.
///
/// # Errors
/// `work` fails, or a session breaks.
pub fn steadily(
    lab: &Lab,
    (http, udp): (u16, u16),
    work: impl FnOnce(&Steady<'_>) -> Result<()>,
) -> Result<()> {
    let flow = |kind, to| Flow { kind, to, answered: AtomicU64::new(0) };
    let flows = FAMILIES.into_iter().flat_map(|family| {
        [flow(Kind::Http, front(family, http)), flow(Kind::Udp, front(family, udp))]
    });
    let steady = Steady {
        lab,
        flows: flows.collect(),
        clock: Instant::now(),
        is_over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let on = &steady;
        let start = |flow| scope.spawn(move || on.go_on(flow));
        let threads: Vec<_> = steady.flows.iter().map(start).collect();
        let begun = steady.until_answered("begin", Duration::ZERO);
        let worked = begun.and_then(|_| work(&steady));
        steady.is_over.store(true, Ordering::Relaxed);
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // All are waited for; why a flow ended tells more than that it did.
        ends.fold(Ok(()), Result::and).and(worked)
    })
}

impl Steady<'_> {
    /// Makes a change, waits until every flow is answered again, and prints how long after the
    /// change that was. No session may have broken.
    ///
    /// # Errors
    /// The change fails, or a flow does not go on.
    pub fn change(&self, what: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
        change().with_context(|| what.to_owned())?;
        let [http, udp] = self.until_answered(what, self.clock.elapsed())?;
        eprintln!("{what}: datagrams pass after {udp:.1?}, sessions go on after {http:.1?}");
        Ok(())
    }

    /// How long after `since` the last flow of each kind was answered what it asked after it.
    fn until_answered(&self, what: &str, since: Duration) -> Result<[Duration; 2]> {
        let deadline = since + GOES_ON_MAX;
        let mut took = [Duration::ZERO; 2];
        let mut waiting: Vec<&Flow> = self.flows.iter().collect();
        while !waiting.is_empty() {
            let now = self.clock.elapsed();
            ensure!(now < deadline, "{what}: not answered within {GOES_ON_MAX:?}: {waiting:?}");
            waiting.retain(|flow| {
                let is_answered = flow.answered() > since;
                if is_answered {
                    took[usize::from(flow.kind == Kind::Udp)] = now.saturating_sub(since);
                }
                !is_answered
            });
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(took)
    }

    fn go_on(&self, flow: &Flow) -> Result<()> {
        match flow.kind {
            Kind::Http => self.ask(flow).with_context(|| format!("the session with {}", flow.to)),
            Kind::Udp => self.lab.rig().client().enter(|| self.echo(flow))?,
        }
    }

    fn ask(&self, flow: &Flow) -> Result<()> {
        let mut session = Session::open(self.lab.rig().client(), flow.to)?;
        let pod = session.ask()?;
        while !self.is_over.load(Ordering::Relaxed) {
            let sent = self.clock.elapsed();
            let answer = session.ask()?;
            ensure!(answer == pod, "it moved from {pod} to {answer}");
            flow.answer(sent);
            std::thread::sleep(PACE);
        }
        session.reset()
    }

    /// A datagram that is lost, or refused on the way, is followed by the next.
    fn echo(&self, flow: &Flow) -> Result<()> {
        let socket = UdpSocket::bind((any_like(flow.to), 0))?;
        socket.connect(flow.to)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        while !self.is_over.load(Ordering::Relaxed) {
            let sent = self.clock.elapsed();
            let payload = format!("#{}", sent.as_nanos());
            if socket.send(payload.as_bytes()).is_ok() && await_echo(&socket, &payload) {
                flow.answer(sent);
            }
            std::thread::sleep(PACE);
        }
        Ok(())
    }
}

/// Reads up to the answer to `payload`; earlier ones may come late.
fn await_echo(socket: &UdpSocket, payload: &str) -> bool {
    let mut buffer = [0; 256];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if buffer[..length].ends_with(payload.as_bytes()) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return false,
        }
    }
}

impl Flow {
    fn answer(&self, sent: Duration) {
        let sent = u64::try_from(sent.as_nanos()).unwrap_or(u64::MAX);
        self.answered.store(sent.max(1), Ordering::Relaxed);
    }

    fn answered(&self) -> Duration {
        Duration::from_nanos(self.answered.load(Ordering::Relaxed))
    }
}
