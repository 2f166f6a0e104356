//! Hand-off between workers (T6): a bounded lock-free ring for each pair of workers, and one back
//! for the lent frames' numbers.

use crate::clock;
use crate::engine::CopyMode;
use crate::types::{InterfaceSlot, ServiceId, Time, WorkerId};
use crate::verdict::Verdict;
use crate::worker::Worker;
use crate::worker::burst::{Arrival, Arrivals, Decision, Frames};
use crate::worker::port::TxNote;
use crate::xdp::sleep::Waker;
use crate::xdp::umem::{FrameIndex, LentFrame};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Packets under way from one worker to another. Beyond it they are dropped (`HAND_OFF_FULL`):
/// eight bursts, so a worker that is busy with one does not cause a loss.
const RING_PACKETS: usize = 512;

/// A packet under way.
#[derive(Debug)]
pub(super) struct Handed {
    frame: Option<LentFrame>,
    mode: CopyMode,
    len: usize,
    /// `Pending`: to be processed. `Forward` or `Reject`: finished, to be sent.
    verdict: Verdict,
    egress: InterfaceSlot,
    ingress: InterfaceSlot,
    owner: Option<WorkerId>,
    service: ServiceId,
    stamp_ns: u64,
    read_at: Time,
}

impl Handed {
    pub(super) fn to_process(decision: &Decision, mode: CopyMode) -> Self {
        Self {
            frame: None,
            mode,
            len: decision.len,
            verdict: Verdict::Pending,
            egress: InterfaceSlot(0),
            ingress: decision.arrival.ingress,
            owner: decision.arrival.owner,
            service: decision.service,
            stamp_ns: decision.arrival.stamp_ns,
            read_at: decision.arrival.read_at,
        }
    }

    pub(super) fn to_send(note: &TxNote, egress: InterfaceSlot, mode: CopyMode) -> Self {
        Self {
            frame: None,
            mode,
            len: note.len,
            verdict: note.verdict,
            egress,
            ingress: note.ingress,
            owner: None,
            service: note.service,
            stamp_ns: note.stamp_ns,
            read_at: note.read_at,
        }
    }

    pub(super) fn with(mut self, frame: LentFrame) -> Self {
        self.frame = Some(frame);
        self
    }

    fn note(&self) -> TxNote {
        TxNote {
            ingress: self.ingress,
            verdict: self.verdict,
            service: self.service,
            len: self.len,
            stamp_ns: self.stamp_ns,
            read_at: self.read_at,
        }
    }

    fn arrival(&self) -> Arrival {
        Arrival {
            ingress: self.ingress,
            owner: self.owner,
            stamp_ns: self.stamp_ns,
            read_at: self.read_at,
            is_handed: true,
            len: self.len,
        }
    }
}

/// The rings between two workers, one direction.
#[derive(Debug)]
struct Link {
    packets: ArrayQueue<Handed>,
    returned: ArrayQueue<(CopyMode, FrameIndex)>,
}

impl Link {
    fn new() -> Self {
        // A returned number always finds room: no more can be lent than packets are under way,
        // plus the one that the receiver holds.
        Self { packets: ArrayQueue::new(RING_PACKETS), returned: ArrayQueue::new(RING_PACKETS * 2) }
    }
}

/// One worker's ends of all rings.
#[derive(Debug)]
pub struct HandOff {
    /// To each other worker, by number.
    outgoing: Vec<Arc<Link>>,
    /// From each other worker, by number.
    incoming: Vec<Arc<Link>>,
    bells: Vec<Waker>,
    /// Whom to wake at the end of the burst, a bit for each.
    to_wake: u64,
}

impl HandOff {
    /// The ends of every worker; `bells` wake them.
    pub fn for_all(bells: &[Waker]) -> Vec<Self> {
        let count = bells.len();
        let row = |_| (0..count).map(|_| Arc::new(Link::new())).collect::<Vec<_>>();
        let links: Vec<Vec<Arc<Link>>> = (0..count).map(row).collect();
        (0..count)
            .map(|id| Self {
                outgoing: links[id].clone(),
                incoming: links.iter().map(|row| Arc::clone(&row[id])).collect(),
                bells: bells.to_vec(),
                to_wake: 0,
            })
            .collect()
    }

    #[inline]
    pub(super) fn has_room(&self, to: WorkerId) -> bool {
        self.outgoing.get(usize::from(to.0)).is_some_and(|link| !link.packets.is_full())
    }

    /// Gives a packet to another worker.
    pub(super) fn give(&mut self, to: WorkerId, packet: Handed) -> Result<(), LentFrame> {
        let refused = match self.outgoing.get(usize::from(to.0)) {
            Some(link) => link.packets.push(packet).err(),
            None => Some(packet),
        };
        if let Some(lent) = refused.and_then(|packet| packet.frame) {
            return Err(lent);
        }
        self.to_wake |= 1 << (to.0 & 63);
        Ok(())
    }

    /// Wakes whom packets were given to, if they sleep.
    #[inline]
    pub(super) fn ring_bells(&mut self) {
        if self.to_wake == 0 {
            return;
        }
        for (at, bell) in self.bells.iter().enumerate() {
            if self.to_wake >> at & 1 == 1 {
                bell.poke();
            }
        }
        self.to_wake = 0;
    }

    /// Whether packets wait for us.
    pub(super) fn has_work(&self) -> bool {
        self.incoming.iter().any(|link| !link.packets.is_empty())
    }
}

impl Worker {
    /// Takes up to a burst from each other worker. Returns how many packets.
    pub(super) fn take_handed(&mut self) -> usize {
        if self.parts.hand_off.incoming.len() < 2 {
            return 0;
        }
        self.take_returned();
        (0..self.parts.hand_off.incoming.len()).map(|from| self.take_from(from)).sum()
    }

    fn take_returned(&mut self) {
        for link in &self.parts.hand_off.outgoing {
            while let Some((mode, index)) = link.returned.pop() {
                self.parts.pools.take_back(mode, index);
            }
        }
    }

    fn take_from(&mut self, from: usize) -> usize {
        let (mut frames, mut arrivals) = (Frames::new(), Arrivals::new());
        let link = Arc::clone(&self.parts.hand_off.incoming[from]);
        let mut count = 0;
        while frames.remaining_capacity() > 0 && count < frames.capacity() {
            let Some(packet) = link.packets.pop() else { break };
            count += 1;
            self.take_one(&link, packet, (&mut frames, &mut arrivals));
        }
        if count > 0 {
            self.parts.counters.work.taken_packets.add(count as u64);
            self.run_burst(CopyMode::Copy, frames, &arrivals, clock::now());
        }
        count
    }

    /// Copies a packet into a frame of our own and gives the lent one back.
    fn take_one(
        &mut self,
        link: &Link,
        mut packet: Handed,
        (frames, arrivals): (&mut Frames, &mut Arrivals),
    ) {
        let Some(lent) = packet.frame.take() else { return };
        let pool = self.parts.pools.of(CopyMode::Copy);
        let Some(mut frame) = pool.take() else {
            link.returned.push((packet.mode, lent.into_index())).ok();
            let counters = &self.parts.counters;
            return super::port::count_drop(
                counters,
                &packet.note(),
                crate::verdict::DropReason::Nomem,
            );
        };
        let (_, index) = lent.copy_into(pool.buffer(&mut frame), packet.len);
        link.returned.push((packet.mode, index)).ok();
        if packet.verdict == Verdict::Pending {
            frames.push(frame);
            arrivals.push(packet.arrival());
        } else {
            self.leave_by(packet.egress, CopyMode::Copy, frame, packet.note());
        }
    }
}
