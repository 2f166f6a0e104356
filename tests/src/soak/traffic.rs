//! What clients ask all the time, each at its own pace: the machine is not theirs alone.

use super::journal::{Event, Failure, Move};
use super::requests::{Asker, Pinger, Session, download};
use super::stage::{CLUSTER, LOCAL};
use crate::lab::{FAMILIES, front};
use crate::load::{inside, pattern_digest};
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tidegate_control::demo::rig::NetNs;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// What is asked, and how often by each client.
const KINDS: [(&str, Duration); 7] = [
    ("HTTP on a connection of its own", Duration::from_millis(100)),
    ("HTTP on a connection that stays", Duration::from_millis(200)),
    ("a datagram from a socket of its own", Duration::from_millis(100)),
    ("a datagram of a long-lived flow", Duration::from_millis(50)),
    ("a datagram in fragments", Duration::from_millis(400)),
    ("a download", Duration::from_secs(2)),
    ("a ping of the gateway itself", Duration::from_millis(200)),
];
const SHORT: usize = 0;
const SESSION: usize = 1;
const DATAGRAM: usize = 2;
const STREAM: usize = 3;
const LARGE: usize = 4;
const DOWNLOAD: usize = 5;
const PING: usize = 6;

/// A connection that stays is closed after this many requests, so that others come.
const SESSION_REQUESTS: u32 = 40;

/// More than any link takes at once.
const LARGE_BYTES: usize = 8192;

const DOWNLOAD_BYTES: u64 = 1 << 20;

/// A lost segment shows as a second's delay or more: told, not judged.
const SLOW: Duration = Duration::from_millis(900);

/// Who serves what nothing happens to: the gateway, and the pods of the demo's own Services.
const STEADY: &str = "one that stays";

/// What was answered so far, and whether more shall be asked.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answered: [AtomicU64; KINDS.len()],
    /// Answers that took more than [`SLOW`].
    slow: AtomicU64,
    is_over: AtomicBool,
}

impl Tally {
    /// The clients end what they have begun.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// How many datagrams were answered.
    pub(super) fn datagrams(&self) -> u64 {
        [DATAGRAM, STREAM, LARGE].into_iter().map(|kind| self.answered(kind)).sum()
    }

    /// How many of each kind were answered.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().enumerate().map(|(kind, (name, _))| (*name, self.answered(kind)))
    }

    /// How many answers were late.
    pub(super) fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }

    fn answered(&self, kind: usize) -> u64 {
        self.answered[kind].load(Ordering::Relaxed)
    }
}

/// Asks from `netns` until the tally is over.
///
/// # Errors
/// The namespace cannot be entered. Requests that fail are told, not returned.
pub(super) fn go_on(netns: &NetNs, tally: &Arc<Tally>, events: &Sender<Event>) -> Result<()> {
    netns.sysctl("net.ipv4.ping_group_range=0 0")?;
    inside(netns, async {
        let mut clients = JoinSet::new();
        for family in FAMILIES {
            let pairs = [(CLUSTER, HTTP_CLUSTER), (LOCAL, HTTP_LOCAL)];
            for ([http, udp], steady) in pairs {
                let client = |kind, port| {
                    let (tally, events) = (Arc::clone(tally), events.clone());
                    Client { kind, to: front(family, port), tally, events }
                };
                clients.spawn(client(SHORT, http).short());
                clients.spawn(client(SESSION, http).session());
                clients.spawn(client(SESSION, http).session());
                clients.spawn(client(DATAGRAM, udp).datagrams());
                clients.spawn(client(STREAM, udp).stream());
                clients.spawn(client(LARGE, udp).large());
                clients.spawn(client(DOWNLOAD, steady).downloads());
                clients.spawn(client(PING, 0).pings());
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.context("a client")?;
        }
        anyhow::Ok(())
    })?
}

/// One client of one front.
struct Client {
    kind: usize,
    to: SocketAddr,
    tally: Arc<Tally>,
    events: Sender<Event>,
}

impl Client {
    async fn short(self) {
        let mut pace = self.pace();
        while self.next(&mut pace).await {
            let began = Instant::now();
            let asked = async { Session::open(self.to).await?.ask().await };
            let result = asked.await;
            self.settle(began, None, result);
        }
    }

    async fn session(self) {
        let mut pace = self.pace();
        while self.next(&mut pace).await {
            let began = Instant::now();
            let Some(mut session) = self.settle(began, None, Session::open(self.to).await) else {
                continue;
            };
            let mut pod: Option<String> = None;
            for _ in 0..SESSION_REQUESTS {
                let began = Instant::now();
                let asked = session.ask().await;
                let asked = asked.and_then(|name| {
                    let is_same = pod.as_ref().is_none_or(|pod| *pod == name);
                    ensure!(is_same, "the connection moved to {name}");
                    Ok(name)
                });
                pod = self.settle(began, pod, asked);
                if pod.is_none() || !self.next(&mut pace).await {
                    break;
                }
            }
        }
    }

    async fn datagrams(self) {
        self.ask_anew(16).await;
    }

    async fn large(self) {
        self.ask_anew(LARGE_BYTES).await;
    }

    async fn ask_anew(self, bytes: usize) {
        let mut pace = self.pace();
        while self.next(&mut pace).await {
            let began = Instant::now();
            let asked = async {
                let mut asker = Asker::open(self.to).await?;
                let pod = asker.ask(bytes).await;
                self.note_again(&mut asker, None, began);
                pod
            };
            let result = asked.await;
            self.settle(began, None, result);
        }
    }

    /// As QUIC's: one socket from the beginning to the end.
    async fn stream(self) {
        let Some(mut asker) = self.settle(Instant::now(), None, Asker::open(self.to).await) else {
            return;
        };
        let (mut pod, mut last, mut pace) = (None::<String>, Instant::now(), self.pace());
        while self.next(&mut pace).await {
            let began = Instant::now();
            let asked = asker.ask(200).await;
            self.note_again(&mut asker, pod.clone(), began);
            let Some(name) = self.settle(began, pod.clone(), asked) else { continue };
            let at = Instant::now();
            if let Some(from) = pod.replace(name.clone()).filter(|from| *from != name) {
                self.tell(Event::Moved(Move { from, to: name, last, at }));
            }
            last = at;
        }
    }

    /// Tells of datagrams without an answer.
    fn note_again(&self, asker: &mut Asker, pod: Option<String>, began: Instant) {
        let times = core::mem::take(&mut asker.again);
        if times > 0 {
            let why = format!("asked {times} times more");
            self.tell(Event::Again(self.failure(pod, began, why)));
        }
    }

    async fn downloads(self) {
        let expected = pattern_digest(DOWNLOAD_BYTES);
        let (path, mut pace) = (format!("/bytes/{DOWNLOAD_BYTES}"), self.pace());
        while self.next(&mut pace).await {
            let began = Instant::now();
            let whole = download(self.to, &path).await.and_then(|(length, digest)| {
                ensure!(length == DOWNLOAD_BYTES && digest == expected, "{length} bytes, {digest}");
                Ok(())
            });
            self.settle(began, Some(STEADY.into()), whole);
        }
    }

    async fn pings(self) {
        let Some(mut pinger) = self.settle(Instant::now(), None, Pinger::open(self.to).await)
        else {
            return;
        };
        let mut pace = self.pace();
        while self.next(&mut pace).await {
            let began = Instant::now();
            let result = pinger.ask().await;
            self.settle(began, Some(STEADY.into()), result);
        }
    }

    fn pace(&self) -> tokio::time::Interval {
        let mut pace = interval(KINDS[self.kind].1);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    }

    /// Waits for its time; false once all is over.
    async fn next(&self, pace: &mut tokio::time::Interval) -> bool {
        pace.tick().await;
        !self.tally.is_over.load(Ordering::Relaxed)
    }

    /// Counts an answer, or tells of the failure. `pod` is who was to answer, where it is known.
    fn settle<T>(&self, began: Instant, pod: Option<String>, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.tally.answered[self.kind].fetch_add(1, Ordering::Relaxed);
                self.tally.slow.fetch_add(u64::from(began.elapsed() > SLOW), Ordering::Relaxed);
                Some(value)
            }
            Err(error) => {
                self.tell(Event::Failed(self.failure(pod, began, format!("{error:#}"))));
                None
            }
        }
    }

    fn failure(&self, pod: Option<String>, began: Instant, why: String) -> Failure {
        let (what, to, ended) = (KINDS[self.kind].0, self.to, Instant::now());
        Failure { what, to, pod, began, ended, why }
    }

    fn tell(&self, event: Event) {
        // Nobody listens once the run has failed for another reason.
        let _told = self.events.send(event);
    }
}
