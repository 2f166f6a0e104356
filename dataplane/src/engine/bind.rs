//! Binding one queue of an interface to a worker, zero-copy where the driver can.

use crate::clock;
use crate::engine::start::STALE_AFTER;
use crate::engine::worker_handle::WorkerHandle;
use crate::engine::{AttachRequest, CopyMode, Engine, EngineError, QueueBinding};
use crate::stats::QueueCounters;
use crate::types::{InterfaceSlot, WorkerId};
use crate::worker::Command;
use crate::xdp::hook;
use crate::xdp::socket::{BindRequest, BoundPair};
use crate::xdp::umem::{FramePool, PairIndex, PoolConfig};
use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;
use xsk_rs::umem::Umem;

/// Ring size and frames of a veth (T7): bursts of a pod fit, and hundreds of pods cost little.
const SMALL_RING: u32 = 256;

/// How long what a closed socket had may be busy yet, and how often it is tried.
const BUSY_PATIENCE: Duration = Duration::from_millis(500);
const BUSY_LOOK: Duration = Duration::from_millis(5);

/// A bound queue as the engine remembers it.
#[derive(Debug)]
pub(super) struct BoundQueue {
    pub(super) binding: QueueBinding,
    pub(super) pair: PairIndex,
    pub(super) xsk_index: u32,
    /// A second handle, for statistics; dropped before the queue can be bound again.
    pub(super) socket: OwnedFd,
    pub(super) counters: Arc<QueueCounters>,
}

/// A bound pair, the zero-copy pool if it is the worker's first of that mode, and why zero-copy was
/// refused.
pub(super) type Opened = (BoundPair, Option<FramePool>, Option<String>);

impl Engine {
    /// Binds a queue, hands it to its worker and puts it into the XSKMAP.
    pub(super) fn bind_queue(
        &mut self,
        request: &AttachRequest,
        queue: u32,
    ) -> Result<BoundQueue, EngineError> {
        let at = self.least_loaded();
        if self.workers[at].is_hung() {
            return Err(hung(request, self.workers[at].id()));
        }
        // The worker may have its former zero-copy frames yet: some are being sent.
        while_busy(|| {
            let opened = self.open_pair(at, request, queue)?;
            self.hand_over(at, request, opened)
        })
    }

    pub(super) fn hand_over(
        &mut self,
        at: usize,
        request: &AttachRequest,
        (pair, pool, zero_copy_refused): Opened,
    ) -> Result<BoundQueue, EngineError> {
        let socket = duplicate(&pair)?;
        let (queue, copy_mode) = (pair.queue, pair.mode);
        let counters = Arc::clone(&pair.counters);
        let fill_frames = self.config.ring_size_of(request);
        let xsk_index = self.free_xsk.pop().ok_or_else(no_slot)?;
        let added = self.workers[at].add_pair((pair, pool), socket, fill_frames);
        let (pair, socket) = added.inspect_err(|_| self.free_xsk.push(xsk_index))?;
        let worker = self.workers[at].id();
        let binding = QueueBinding { queue, worker, copy_mode, zero_copy_refused };
        let bound = BoundQueue { binding, pair, xsk_index, socket, counters };
        match self.steer(request, &bound) {
            Ok(()) => Ok(bound),
            Err(error) => {
                self.release_queue(request, bound);
                Err(error)
            }
        }
    }

    /// Single-queue interfaces are spread over the workers that beat (T6).
    fn least_loaded(&self) -> usize {
        let count = |at: &usize| (self.workers[*at].is_hung(), self.workers[*at].pair_count);
        (0..self.workers.len()).min_by_key(count).unwrap_or(0)
    }

    /// The socket has frames: from here on packets may come.
    fn steer(&self, request: &AttachRequest, bound: &BoundQueue) -> Result<(), EngineError> {
        let QueueBinding { queue, worker, .. } = bound.binding;
        self.steering.xsks.set(bound.xsk_index, bound.socket.as_fd())?;
        self.steering.queues.set(request.index, queue, bound.xsk_index, worker)
    }

    /// Takes a queue out of service and its frames back.
    pub(super) fn release_queue(&mut self, request: &AttachRequest, bound: BoundQueue) {
        let queue = bound.binding.queue;
        self.steering.queues.remove(request.index, queue).ok();
        self.steering.xsks.clear(bound.xsk_index).ok();
        self.free_xsk.push(bound.xsk_index);
        self.retire_statistics(request.slot, &bound);
        let BoundQueue { binding, pair, socket, .. } = bound;
        let is_stale = self.is_stale(binding.worker);
        let pair = (pair, binding.copy_mode);
        let Some(worker) = self.workers.get_mut(usize::from(binding.worker.0)) else { return };
        if is_stale {
            worker.forget_pair(pair, socket);
        } else {
            worker.remove_pair(pair, socket);
        }
    }

    /// Whether a worker hangs, so that to wait for it would hold up the healthy ones' work.
    pub(super) fn is_stale(&self, worker: WorkerId) -> bool {
        self.steering.heartbeats.age(worker, clock::now()) > STALE_AFTER
    }

    fn open_pair(
        &self,
        at: usize,
        request: &AttachRequest,
        queue: u32,
    ) -> Result<Opened, EngineError> {
        let name = hook::interface_name(request.index).ok_or_else(|| gone(request))?;
        let bind = BindRequest {
            slot: request.slot,
            name: &name,
            queue,
            mode: None,
            ring_size: self.config.ring_size_of(request),
        };
        let opened = self.open_in_mode(at, &bind, request.copy_mode)?;
        // Sockets are bound by name, and it may have become another's just now.
        if hook::interface_name(request.index).as_ref() != Some(&name) {
            return Err(gone(request));
        }
        Ok(opened)
    }

    fn open_in_mode(
        &self,
        at: usize,
        bind: &BindRequest<'_>,
        mode: CopyMode,
    ) -> Result<Opened, EngineError> {
        let bind_as = |mode| BindRequest { mode: Some(mode), ..*bind };
        let mut refused = None;
        if mode != CopyMode::Copy {
            match self.open_zero_copy(at, &bind_as(CopyMode::ZeroCopy)) {
                Ok((pair, pool)) => return Ok((pair, pool, None)),
                Err(error) if mode == CopyMode::ZeroCopy || error.errno == libc::EAGAIN => {
                    return Err(error);
                }
                Err(error) => refused = Some(error.kernel),
            }
        }
        let pair = bind_patiently(&self.workers[at].copy_umem, &bind_as(CopyMode::Copy))?;
        Ok((pair, None, refused))
    }

    fn open_zero_copy(
        &self,
        at: usize,
        bind: &BindRequest<'_>,
    ) -> Result<(BoundPair, Option<FramePool>), EngineError> {
        match &self.workers[at].zero_copy {
            Some(closed) if closed.is_closed => return Err(not_yet(bind)),
            Some(open) => return Ok((bind_patiently(&open.umem, bind)?, None)),
            None => {}
        }
        // A trial with a handful of frames: most drivers refuse, and the real pool is large.
        let trial = FramePool::try_new(self.pool_config(64, 64))?;
        drop(bind_patiently(trial.umem(), &BindRequest { ring_size: 64, ..*bind })?);
        // It keeps the queue.
        drop(trial);
        let frames = super::worker_handle::frames_of(&self.config);
        let pool = FramePool::try_new(self.pool_config(frames, self.config.ring_size))?;
        Ok((bind_patiently(pool.umem(), bind)?, Some(pool)))
    }

    /// Whether an interface has queues whose frames have to be made anew: the first of those that
    /// share them is gone (T7).
    pub(super) fn has_closed_frames(&self, queues: &[BoundQueue]) -> bool {
        queues.iter().any(|queue| {
            let worker = self.workers.get(usize::from(queue.binding.worker.0));
            let zero_copy = worker.and_then(|worker| worker.zero_copy.as_ref());
            queue.binding.copy_mode == CopyMode::ZeroCopy && zero_copy.is_some_and(|z| z.is_closed)
        })
    }

    pub(super) fn pool_config(&self, frames: u32, ring_size: u32) -> PoolConfig {
        PoolConfig { frames, frame_size_bytes: self.config.frame_size_bytes, ring_size }
    }

    /// Tells every worker who transmits on an interface: one owner of its queues, or nobody.
    pub(super) fn announce_egress(
        &self,
        slot: InterfaceSlot,
        owner: Option<WorkerId>,
    ) -> Result<(), EngineError> {
        let tell = |worker: &WorkerHandle| match Command::SetEgress(slot, owner) {
            command if self.is_stale(worker.id()) => worker.leave([command]),
            command => worker.tell(command),
        };
        // All are told, also where one refuses.
        self.workers.iter().map(tell).fold(Ok(()), Result::and)
    }
}

impl crate::engine::EngineConfig {
    /// Descriptors of the receive and transmit ring of this interface's queues.
    fn ring_size_of(&self, request: &AttachRequest) -> u32 {
        if request.is_small { self.ring_size.min(SMALL_RING) } else { self.ring_size }
    }
}

/// The kernel frees a closed socket's queue in a work queue of its own, so a queue that was bound
/// a moment ago may still be busy for some milliseconds.
fn bind_patiently(umem: &Umem, request: &BindRequest<'_>) -> Result<BoundPair, EngineError> {
    while_busy(|| BoundPair::bind(umem, request))
}

/// Tries again for a moment what something that ends by itself keeps from being done.
fn while_busy<T>(mut attempt: impl FnMut() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match attempt() {
            Err(error) if error.errno == libc::EBUSY && Instant::now() < deadline => {
                std::thread::sleep(BUSY_LOOK);
            }
            result => return result,
        }
    }
}

fn duplicate(pair: &BoundPair) -> Result<OwnedFd, EngineError> {
    pair.fd().try_clone_to_owned().map_err(|error| EngineError {
        what: "duplicate a socket".into(),
        kernel: error.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
        fix: None,
    })
}

fn gone(request: &AttachRequest) -> EngineError {
    EngineError {
        what: format!("bind the queues of {}", request.name),
        kernel: format!("interface {} was removed or renamed", request.index.0),
        errno: libc::ENODEV,
        fix: None,
    }
}

/// To be tried again: all workers hang.
fn hung(request: &AttachRequest, worker: WorkerId) -> EngineError {
    EngineError {
        what: format!("bind the queues of {}", request.name),
        kernel: format!("worker {} does not beat, nor does another", worker.0),
        errno: libc::ETIMEDOUT,
        fix: Some("tidegate get workers shows whether it beats".into()),
    }
}

/// To be tried again: in another mode it would stay in that.
fn not_yet(bind: &BindRequest<'_>) -> EngineError {
    EngineError {
        what: format!("bind queue {} of {}", bind.queue, bind.name),
        kernel: "the zero-copy frames were bound by an interface that is gone".into(),
        errno: libc::EAGAIN,
        fix: None,
    }
}

fn no_slot() -> EngineError {
    EngineError {
        what: "bind one more queue".into(),
        kernel: format!("{} are bound already", crate::xdp::layout::QUEUES_MAX),
        errno: libc::ENOSPC,
        fix: None,
    }
}
