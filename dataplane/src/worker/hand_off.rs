//! Hand-off between workers (T6): a bounded lock-free ring for each pair of workers, and one back
//! for the lent frames' numbers.

use crate::clock;
use crate::engine::{CopyMode, STALE_AFTER};
use crate::stats::Traffic;
use crate::types::{InterfaceSlot, ServiceId, Time, WorkerId};
use crate::verdict::Verdict;
use crate::worker::Worker;
use crate::worker::burst::{Arrival, Arrivals, Decision, Frames};
use crate::worker::port::TxNote;
use crate::xdp::sleep::Waker;
use crate::xdp::umem::{FrameIndex, LentFrame};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Frames lent from one worker to another, at most; beyond it packets are dropped, too. The lender
/// takes them back once per round, and where it meets this limit.
const LENT_MAX: usize = RING_PACKETS * 2;

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
    traffic: Traffic,
}

impl Handed {
    pub(super) fn to_process(decision: &Decision<'_>, mode: CopyMode) -> Self {
        Self {
            verdict: Verdict::Pending,
            owner: decision.arrival.owner,
            ..Self::to_send(&decision.note, InterfaceSlot(0), mode)
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
            traffic: note.traffic,
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
            traffic: self.traffic,
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
        // Load-bearing: a returned number always finds room, since no more are lent (`has_room`).
        Self { packets: ArrayQueue::new(RING_PACKETS), returned: ArrayQueue::new(LENT_MAX) }
    }
}

/// One worker's ends of all rings.
#[derive(Debug)]
pub struct HandOff {
    /// To each other worker, by number.
    outgoing: Vec<Arc<Link>>,
    /// From each other worker, by number.
    incoming: Vec<Arc<Link>>,
    /// Frames that each other worker has of ours, returned ones that were not taken back included.
    lent: Vec<usize>,
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
                lent: vec![0; count],
                bells: bells.to_vec(),
                to_wake: 0,
            })
            .collect()
    }

    /// Whether one more packet may be given to a worker.
    #[inline]
    pub(super) fn has_room(&self, to: WorkerId) -> bool {
        let to = usize::from(to.0);
        let has_room = self.outgoing.get(to).is_some_and(|link| !link.packets.is_full());
        has_room && self.lent.get(to).is_some_and(|lent| *lent < LENT_MAX)
    }

    /// A frame's number that a worker has returned.
    fn pop_returned(&mut self, from: usize) -> Option<(CopyMode, FrameIndex)> {
        let returned = self.outgoing.get(from)?.returned.pop()?;
        if let Some(lent) = self.lent.get_mut(from) {
            *lent = lent.saturating_sub(1);
        }
        Some(returned)
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
        if let Some(lent) = self.lent.get_mut(usize::from(to.0)) {
            *lent += 1;
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
        (0..self.parts.hand_off.outgoing.len()).for_each(|from| self.take_returned_by(from));
    }

    fn take_returned_by(&mut self, from: usize) {
        while let Some((mode, index)) = self.parts.hand_off.pop_returned(from) {
            self.parts.pools.take_back(mode, index);
        }
    }

    /// Whether a worker hangs: what it was given would be late or lost, and our frames with it.
    #[inline]
    pub(super) fn is_stale(&self, other: WorkerId) -> bool {
        self.parts.heartbeats.age(other, self.last_beat) > STALE_AFTER
    }

    /// Whether one more packet may be given to a worker; takes back lent frames if they are the
    /// reason why not.
    #[inline]
    pub(super) fn can_hand(&mut self, to: WorkerId) -> bool {
        if self.parts.hand_off.has_room(to) {
            return true;
        }
        self.take_returned_by(to.0.into());
        self.parts.hand_off.has_room(to)
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
            self.leave_by(packet.egress, CopyMode::Copy, frame, &packet.note());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::sleep::Sleeper;

    fn packet() -> Handed {
        let note = TxNote {
            ingress: InterfaceSlot(1),
            verdict: Verdict::Forward(InterfaceSlot(2)),
            service: ServiceId(0),
            len: 60,
            stamp_ns: 0,
            read_at: Time(0),
            traffic: Traffic::Established,
        };
        Handed::to_send(&note, InterfaceSlot(2), CopyMode::Copy)
    }

    /// The receiver is fast, and the lender's round long.
    #[test]
    fn a_returned_frame_finds_room_however_late_the_lender_takes_it_back() {
        let sleepers = [(); 2].map(|()| Sleeper::by_poll().unwrap());
        let mut ends = HandOff::for_all(&sleepers.each_ref().map(Sleeper::waker));
        let (receiver, mut lender) = (ends.pop().unwrap(), ends.pop().unwrap());
        let mut numbers = 0..10_000;
        while lender.has_room(WorkerId(1)) {
            let number = (CopyMode::Copy, FrameIndex(numbers.next().unwrap()));
            lender.give(WorkerId(1), packet()).unwrap();
            receiver.incoming[0].packets.pop().unwrap();
            assert_eq!(receiver.incoming[0].returned.push(number), Ok(()), "it got lost");
        }
        assert_eq!(numbers.len(), 10_000 - LENT_MAX);
        assert_eq!(lender.pop_returned(1), Some((CopyMode::Copy, FrameIndex(0))));
        assert!(lender.has_room(WorkerId(1)));
    }
}
