//! Reading the packet path.

use crate::clock;
use crate::engine::bind::BoundQueue;
use crate::engine::start::STALE_AFTER;
use crate::engine::worker_handle::WorkerHandle;
use crate::engine::{Engine, EngineError, FlowRecord, QueueStatistics, SteeringCounters};
use crate::stats::{LatencySet, QueueCounters, WorkerCounters};
use crate::types::{InterfaceSlot, WorkerId};
use crate::worker::{Command, FlowDump};
use crate::xdp::socket;
use core::time::Duration;
use crossbeam::channel::bounded;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

/// A worker that has not beaten for so long is given up: its interfaces go back to the kernel (T2).
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// A round of a busy worker takes far less.
const LATENCY_PATIENCE: Duration = Duration::from_millis(20);

impl Engine {
    /// To be called a few times per second: frees old snapshots, checks heartbeats, ends drained
    /// fronts. Returns the workers that have not beaten for more than a second.
    pub fn tick(&mut self) -> Vec<WorkerId> {
        self.publisher.reclaim();
        self.end_drained();
        // A refusal leaves a front too many in the map; the next tick tries again.
        self.retire_fronts().ok();
        self.look_after_programs();
        self.workers.iter().map(WorkerHandle::id).filter(|id| self.is_stale(*id)).collect()
    }

    /// Why nothing keeps the host's own flows from the tuples of ours, where that is so.
    pub fn guard_refused(&self) -> Option<&EngineError> {
        self.guard.as_ref().err()
    }

    /// Packets of the host that were dropped because their answers would have been taken for ours.
    pub fn host_packets_held_back(&self) -> u64 {
        let guard = self.guard.as_ref().ok();
        guard.and_then(|guard| guard.held_back_packets().ok()).unwrap_or(0)
    }

    /// Detaches the program from the interfaces of a worker that hangs, and attaches it again once
    /// all workers of the interface beat: it hung only for a while, as a process that was stopped
    /// or starved. Its sockets cannot be had back meanwhile.
    fn look_after_programs(&mut self) {
        let now = clock::now();
        for interface in self.attached.values_mut() {
            let beats = &self.steering.heartbeats;
            let ages = interface.queues.iter().map(|q| beats.age(q.binding.worker, now));
            // The oldest decides: queues of one interface may belong to several workers.
            let age = ages.max().unwrap_or_default();
            if age > GIVEN_UP_AFTER {
                interface.program = None;
            } else if age <= STALE_AFTER && interface.program.is_none() {
                let request = &interface.request;
                // What is refused is [`Engine::lost`].
                interface.program = self.steering.attach(request.index, request.attach_mode).ok();
            }
        }
    }

    /// The workers' counters, by worker.
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.all_counters
    }

    /// The XDP program's counters of every attached interface, and of those detached since start.
    pub fn steering_counters(&self) -> Vec<SteeringCounters> {
        let read = |slot: &InterfaceSlot| self.steering.counters.read(*slot).ok();
        self.known_slots.iter().filter_map(read).collect()
    }

    /// The kernel's counters of every bound queue (detached ones keep their last values).
    pub fn queue_statistics(&self) -> Vec<QueueStatistics> {
        let mut all = self.retired.clone();
        for interface in self.attached.values() {
            for bound in &interface.queues {
                let (slot, queue) = (interface.request.slot, bound.binding.queue);
                let entry = all.entry((slot, queue)).or_default();
                *entry = sum(entry, &bound.statistics(slot));
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_unstable_by_key(|s| (s.slot, s.queue));
        all
    }

    pub(super) fn retire_statistics(&mut self, slot: InterfaceSlot, bound: &BoundQueue) {
        let last = bound.statistics(slot);
        let entry = self.retired.entry((slot, bound.binding.queue)).or_default();
        *entry = sum(entry, &last);
    }

    /// What each worker recorded since the last call. Wakes those that sleep, and waits for all at
    /// most 20 ms; what comes later is part of the next call's.
    pub fn collect_latency(&mut self) -> Vec<(WorkerId, Box<LatencySet>)> {
        for worker in &self.workers {
            worker.latency.ask();
            worker.waker.poke();
        }
        let deadline = Instant::now() + LATENCY_PATIENCE;
        let await_answer = |worker: &WorkerHandle| loop {
            match worker.latency.answer() {
                Some(set) => return Some((worker.id(), set)),
                None if Instant::now() > deadline => return None,
                None => std::thread::sleep(Duration::from_micros(50)),
            }
        };
        self.workers.iter().filter_map(await_answer).collect()
    }

    /// Up to `limit` live flows over all workers. Waits for the workers, at most `patience`.
    pub fn flows(&self, limit: usize, patience: Duration) -> Vec<FlowRecord> {
        let deadline = Instant::now() + patience;
        let ask = |worker: &WorkerHandle| {
            let (reply, answer) = bounded(1);
            let dump = FlowDump { records: Vec::with_capacity(limit), next: 0, reply };
            worker.tell(Command::Flows(dump)).ok().map(|()| answer)
        };
        let answers: Vec<_> = self.workers.iter().filter_map(ask).collect();
        let mut flows: Vec<FlowRecord> = Vec::new();
        for answer in answers {
            let left = deadline.saturating_duration_since(Instant::now());
            flows.extend(answer.recv_timeout(left).unwrap_or_default());
        }
        flows.truncate(limit);
        flows
    }
}

impl BoundQueue {
    fn statistics(&self, slot: InterfaceSlot) -> QueueStatistics {
        let QueueCounters {
            received_packets,
            received_bytes,
            transmitted_packets,
            transmitted_bytes,
        } = &*self.counters;
        QueueStatistics {
            received_packets: received_packets.get(),
            received_bytes: received_bytes.get(),
            transmitted_packets: transmitted_packets.get(),
            transmitted_bytes: transmitted_bytes.get(),
            ..socket::statistics(self.socket.as_fd(), slot, self.binding.queue)
        }
    }
}

fn sum(a: &QueueStatistics, b: &QueueStatistics) -> QueueStatistics {
    QueueStatistics {
        slot: b.slot,
        queue: b.queue,
        rx_dropped: a.rx_dropped + b.rx_dropped,
        rx_ring_full: a.rx_ring_full + b.rx_ring_full,
        rx_invalid_descs: a.rx_invalid_descs + b.rx_invalid_descs,
        rx_fill_ring_empty_descs: a.rx_fill_ring_empty_descs + b.rx_fill_ring_empty_descs,
        tx_invalid_descs: a.tx_invalid_descs + b.tx_invalid_descs,
        tx_ring_empty_descs: a.tx_ring_empty_descs + b.tx_ring_empty_descs,
        received_packets: a.received_packets + b.received_packets,
        received_bytes: a.received_bytes + b.received_bytes,
        transmitted_packets: a.transmitted_packets + b.transmitted_packets,
        transmitted_bytes: a.transmitted_bytes + b.transmitted_bytes,
    }
}
