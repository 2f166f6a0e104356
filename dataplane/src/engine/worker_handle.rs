//! One worker as the engine holds it.

use crate::clock;
use crate::engine::start::STALE_AFTER;
use crate::engine::{CopyMode, EngineConfig, EngineError, WorkerPlacement};
use crate::stats::{LatencyExchange, WorkerCounters};
use crate::types::{Time, WorkerId};
use crate::worker::{Command, Worker, WorkerParts};
use crate::xdp::heartbeat::Heartbeats;
use crate::xdp::sleep::Waker;
use crate::xdp::socket::BoundPair;
use crate::xdp::umem::{FramePool, PairIndex};
use core::time::Duration;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use crossbeam::queue::ArrayQueue;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use xsk_rs::umem::Umem;

/// Commands that may wait for a worker.
pub(super) const COMMANDS_MAX: usize = 64;

/// How long a worker that beats may take to answer a command: a round of its loop, with room for a
/// machine that is overloaded. One that does not beat is not waited for, and of whatever change was
/// to be made there only its part is left undone.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a wait looks whether the worker still beats.
const LOOK: Duration = Duration::from_millis(20);

/// A running worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) placement: WorkerPlacement,
    pub(super) commands: Arc<ArrayQueue<Command>>,
    pub(super) waker: Waker,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) latency: Arc<LatencyExchange>,
    heartbeats: Heartbeats,
    /// Held until the worker is joined, so that its memory outlives every lent frame.
    pub(super) copy_umem: Umem,
    pub(super) zero_copy: Option<ZeroCopy>,
    /// Bound pairs, the road not counted.
    pub(super) pair_count: usize,
    thread: Option<JoinHandle<()>>,
}

/// A worker's zero-copy frames, while it has pairs of that mode.
#[derive(Debug)]
pub(super) struct ZeroCopy {
    pub(super) umem: Umem,
    /// The pair that the frames were bound with: others join them through its socket (T7).
    first: PairIndex,
    pair_count: usize,
    /// The first pair is gone, so no other can join: the frames are made anew once all are gone.
    pub(super) is_closed: bool,
}

/// What a handle keeps of a worker's parts.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) placement: WorkerPlacement,
    pub(super) waker: Waker,
    pub(super) latency: Arc<LatencyExchange>,
    pub(super) copy_umem: Umem,
    pub(super) subscription: crate::rcu::Subscription<crate::snapshot::Snapshot>,
    pub(super) heartbeats: Heartbeats,
}

impl WorkerHandle {
    /// Starts the worker's thread, pinned.
    pub(super) fn start(parts: WorkerParts, kept: Kept) -> Result<Self, EngineError> {
        let id = parts.config.id;
        let (commands, counters) = (Arc::clone(&parts.commands), Arc::clone(&parts.counters));
        let cpu = kept.placement.cpu;
        let (started, pinned) = bounded(1);
        let body = move || {
            let pin = cpu.map_or(Ok(()), crate::xdp::affinity::pin);
            let is_pinned = pin.is_ok();
            started.send(pin).ok();
            if is_pinned {
                Worker::new(parts, kept.subscription.into_reader()).run();
            }
        };
        let builder = std::thread::Builder::new().name(format!("tidegate-w{}", id.0));
        let thread = builder.spawn(body).map_err(|error| EngineError {
            what: format!("start worker {}", id.0),
            kernel: error.to_string(),
            errno: error.raw_os_error().unwrap_or(0),
            fix: None,
        })?;
        pinned.recv().unwrap_or_else(|_| Err(silent(id, "start")))?;
        Ok(Self {
            placement: kept.placement,
            commands,
            waker: kept.waker,
            counters,
            latency: kept.latency,
            heartbeats: kept.heartbeats,
            copy_umem: kept.copy_umem,
            zero_copy: None,
            pair_count: 0,
            thread: Some(thread),
        })
    }

    pub(super) fn id(&self) -> WorkerId {
        self.placement.worker
    }

    /// Gives a command, waiting while too many are there.
    pub(super) fn tell(&self, mut command: Command) -> Result<(), EngineError> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(refused) = self.commands.push(command) {
            if Instant::now() > deadline || self.is_hung() {
                return Err(silent(self.id(), "take a command"));
            }
            command = refused;
            self.waker.poke();
            std::thread::yield_now();
        }
        self.waker.poke();
        Ok(())
    }

    /// Gives commands in this order without waiting.
    ///
    /// # Errors
    /// There is no room for all of them; then none is given.
    pub(super) fn leave<const N: usize>(&self, commands: [Command; N]) -> Result<(), EngineError> {
        if self.commands.capacity() - self.commands.len() < N {
            return Err(EngineError {
                what: format!("leave worker {} a command", self.id().0),
                kernel: format!("{COMMANDS_MAX} are there, and it does not beat"),
                errno: libc::EAGAIN,
                fix: Some("tidegate get workers shows whether it beats".into()),
            });
        }
        // Nobody else gives commands, so there is still room.
        commands.into_iter().for_each(|command| drop(self.commands.push(command)));
        self.waker.poke();
        Ok(())
    }

    /// Has the worker drive a pair, with the zero-copy pool if it is the first of that mode. Gives
    /// back the second handle of its socket. On an error neither side has kept anything.
    pub(super) fn add_pair(
        &mut self,
        (pair, pool): (BoundPair, Option<FramePool>),
        socket: OwnedFd,
        fill_frames: u32,
    ) -> Result<(PairIndex, OwnedFd), EngineError> {
        let umem = pool.as_ref().map(|pool| pool.umem().clone());
        let mode = pair.mode;
        let (pair, zero_copy) = (Box::new(pair), pool.map(Box::new));
        let (reply, answer) = bounded(1);
        self.tell(Command::AddPair { pair, fill_frames, zero_copy, reply })?;
        let added = match self.answer(&answer) {
            Ok(added) => added?,
            Err(error) => {
                // Load-bearing order: the worker undoes what nobody waits for, and it may take the
                // frames back only when no handle of the socket is open.
                drop(socket);
                drop(answer);
                return Err(error);
            }
        };
        self.pair_count += 1;
        if let Some(zero_copy) = self.zero_copy.as_mut().filter(|_| mode == CopyMode::ZeroCopy) {
            zero_copy.pair_count += 1;
        }
        if let Some(umem) = umem {
            // Not before: a pool that the worker does not have must not be bound to.
            let (first, pair_count, is_closed) = (added, 1, false);
            self.zero_copy = Some(ZeroCopy { umem, first, pair_count, is_closed });
        }
        Ok((added, socket))
    }

    /// Takes a pair and its frames back from the worker; `socket` is the second handle of its
    /// socket. Returns when both handles are closed, so that the queue can be bound again.
    pub(super) fn remove_pair(&mut self, (pair, mode): (PairIndex, CopyMode), socket: OwnedFd) {
        self.count_removed(pair, mode);
        let (reply, answer) = bounded(1);
        if self.tell(Command::RemovePair(pair, reply)).is_err() {
            return;
        }
        let removed = self.answer(&answer);
        // Load-bearing order: both handles of the socket are closed, so the kernel has let go of
        // the frames, before the worker takes them back. With `answer` goes a pair that came late.
        drop(socket);
        drop(removed);
        drop(answer);
        self.tell(Command::Reclaim(pair)).ok();
    }

    /// As [`WorkerHandle::remove_pair`], for a worker that hangs: waits for nothing. Left behind,
    /// until the worker goes on: the socket, so the queue cannot be bound, and its frames. Then it
    /// finds these commands and closes the socket itself, since nobody waits for the pair. Where
    /// its commands are full, it keeps both until it ends.
    pub(super) fn forget_pair(&mut self, (pair, mode): (PairIndex, CopyMode), socket: OwnedFd) {
        self.count_removed(pair, mode);
        drop(socket);
        let nobody = bounded(1).0;
        self.leave([Command::RemovePair(pair, nobody), Command::Reclaim(pair)]).ok();
    }

    fn count_removed(&mut self, pair: PairIndex, mode: CopyMode) {
        self.pair_count = self.pair_count.saturating_sub(1);
        let Some(zero_copy) = self.zero_copy.as_mut().filter(|_| mode == CopyMode::ZeroCopy) else {
            return;
        };
        zero_copy.pair_count -= 1;
        zero_copy.is_closed |= zero_copy.first == pair;
        if zero_copy.pair_count == 0 {
            // The worker lets go of them when all have come back to it.
            self.zero_copy = None;
        }
    }

    /// Waits for an answer, while the worker beats.
    pub(super) fn answer<T>(&self, receiver: &Receiver<T>) -> Result<T, EngineError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline && !self.is_hung() => {}
                Err(_) => return Err(silent(self.id(), "answer")),
            }
        }
    }

    /// Whether it has beaten once and does no more.
    pub(super) fn is_hung(&self) -> bool {
        let has_begun = self.heartbeats.last(self.id()) > Time(0);
        has_begun && self.heartbeats.age(self.id(), clock::now()) > STALE_AFTER
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        self.tell(Command::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn silent(worker: WorkerId, what: &str) -> EngineError {
    EngineError {
        what: format!("have worker {} {what}", worker.0),
        kernel: "it gave no answer".into(),
        errno: libc::ETIMEDOUT,
        fix: Some("tidegate get workers shows whether it beats".into()),
    }
}

/// The limits that the engine's configuration sets for one worker.
pub(super) fn frames_of(config: &EngineConfig) -> u32 {
    config.frames_per_queue.saturating_mul(config.queues_per_worker_max.max(1))
}
