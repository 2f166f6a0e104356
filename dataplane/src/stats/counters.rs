//! Per-worker counters. One writer each, so an addition is a plain load and store, no locked
//! instruction; readers may see a value a few packets old.

use crate::stats::service_drops::ServiceDrops;
use crate::types::{
    BACKEND_SLOTS_MAX, BURST_FRAMES_MAX, BackendSlot, INTERFACES_MAX, InterfaceSlot,
    SERVICE_SLOTS_MAX, ServiceId,
};
use crate::verdict::{DropReason, PassReason, RejectReason};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// A counter or gauge with one writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only for the one writer: two would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts, for gauges. Only for the one writer.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets, for gauges. Only for the one writer.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Sets, so that whoever sees it by [`Counter::get_acquire`] sees what was counted before.
    #[inline]
    pub fn set_release(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    /// The value, and with it what was counted before [`Counter::set_release`].
    #[inline]
    pub fn get_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What became of packets that came in by one interface, as one worker saw it (T17).
#[derive(Debug)]
pub struct InterfaceCounters {
    /// Packets read from the interface's receive rings, hand-offs excluded.
    pub received_packets: Counter,
    /// Bytes of those, Ethernet header included.
    pub received_bytes: Counter,
    /// Packets put on the interface's transmit rings, generated ones included.
    pub transmitted_packets: Counter,
    /// Bytes of those, Ethernet header included.
    pub transmitted_bytes: Counter,
    /// Verdict Forward, and the transmit ring took it.
    pub forwarded_packets: Counter,
    /// Verdict Reject, by reason.
    pub rejected_packets: [Counter; RejectReason::COUNT],
    /// Verdict Pass that this worker gave back to the kernel, by reason.
    pub passed_packets: [Counter; PassReason::COUNT],
    /// Verdict Drop, by reason.
    pub dropped_packets: [Counter; DropReason::COUNT],
}

impl Default for InterfaceCounters {
    fn default() -> Self {
        let counter = |_| Counter::default();
        Self {
            received_packets: Counter::default(),
            received_bytes: Counter::default(),
            transmitted_packets: Counter::default(),
            transmitted_bytes: Counter::default(),
            forwarded_packets: Counter::default(),
            rejected_packets: core::array::from_fn(counter),
            passed_packets: core::array::from_fn(counter),
            dropped_packets: core::array::from_fn(counter),
        }
    }
}

/// One bound queue; its worker writes.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Packets read from the receive ring.
    pub received_packets: Counter,
    /// Bytes of those, Ethernet header included.
    pub received_bytes: Counter,
    /// Packets put on the transmit ring, generated ones included.
    pub transmitted_packets: Counter,
    /// Bytes of those, Ethernet header included.
    pub transmitted_bytes: Counter,
}

/// How often a worker found how many packets in a receive ring.
#[derive(Debug)]
pub struct BurstCounters([Counter; BURST_FRAMES_MAX]);

impl Default for BurstCounters {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Counter::default()))
    }
}

impl BurstCounters {
    /// Counts a burst of so many packets; none for 0.
    #[inline]
    pub fn add(&self, packets: usize) {
        if let Some(counter) = packets.checked_sub(1).and_then(|at| self.0.get(at)) {
            counter.add(1);
        }
    }

    /// Sizes from 1 on, and how often each was found.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        (1..).zip(self.0.iter().map(Counter::get))
    }
}

/// One (service port, backend) pair, as one worker saw it.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Packets from clients.
    pub forward_packets: Counter,
    /// Bytes of those.
    pub forward_bytes: Counter,
    /// Packets from the backend.
    pub reply_packets: Counter,
    /// Bytes of those.
    pub reply_bytes: Counter,
    /// Flows begun.
    pub new_flows: Counter,
    /// Flows that live (gauge).
    pub flows: Counter,
}

/// One service port, as one worker saw it.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Flows that live (gauge).
    pub flows: Counter,
    /// Answered with an ICMP error.
    pub rejected_packets: Counter,
    /// Dropped for a reason of the service stage or later.
    pub dropped_packets: Counter,
}

/// A heartbeat after so long is late: twice the longest sleep, and half of what makes a worker
/// stale.
pub const HEARTBEAT_LATE: Duration = Duration::from_millis(500);

/// How a worker spends its time, and where its frames are.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// Rounds of the loop that found packets.
    pub polls_work: Counter,
    /// Rounds that found nothing.
    pub polls_empty: Counter,
    /// Times it slept.
    pub sleeps: Counter,
    /// Nanoseconds in rounds that found packets.
    pub busy_ns: Counter,
    /// Last heartbeat, `CLOCK_MONOTONIC` nanoseconds.
    pub heartbeat_ns: Counter,
    /// The longest time between two heartbeats since the start, in nanoseconds. A sleep is part of
    /// it.
    pub heartbeat_gap_ns_max: Counter,
    /// Heartbeats that came later than [`HEARTBEAT_LATE`] after the one before.
    pub heartbeats_late: Counter,
    /// Packets handed to other workers, by us.
    pub handed_packets: Counter,
    /// Packets taken from other workers.
    pub taken_packets: Counter,
    /// Packets handed to us and still in the rings: sent - taken, seen by the receiver.
    pub generated_packets: Counter,
    /// Flows in the table (gauge).
    pub flows: Counter,
    /// TCP handshakes under way (gauge).
    pub embryonic_flows: Counter,
    /// SYN cookies, by [`CookieEvent`].
    pub syn_cookies: [Counter; CookieEvent::ALL.len()],
    /// 1 while SYNs are answered with cookies (gauge).
    pub syn_proxy_on: Counter,
    /// Generated packets that could not be sent.
    pub generated_lost: Counter,
    /// Packets that were cut, for a link that does not take them whole: each counts once in the
    /// sum, and its pieces but the first are generated ones.
    pub fragmented_packets: Counter,
    /// Flows that ended, by [`FlowEnd`].
    pub flows_ended: [Counter; FlowEnd::ALL.len()],
    /// Snapshot version last read (gauge): every burst with an older one is over and counted.
    pub snapshot_version: Counter,
    /// Frames in the UMEM (gauge).
    pub frames_total: Counter,
    /// Frames by place (gauges), by [`FramePlace`].
    pub frames: [Counter; FramePlace::ALL.len()],
    /// Source ports in use for SNAT (gauge).
    pub snat_ports_used: Counter,
    /// Of the ports that new flows tried lately, the share that was in use towards the same
    /// backend (gauge), in parts of [`crate::flow_table::SHARE_ONE`].
    pub snat_ports_share: Counter,
    /// Transmit kicks (`sendto`).
    pub kicks: Counter,
    /// Bursts by their size.
    pub bursts: BurstCounters,
}

/// Where a frame can be (T7): the places sum up to the UMEM's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramePlace {
    /// On the free list.
    Free,
    /// Given to the kernel to receive into: fill ring, kernel, receive ring.
    Fill,
    /// Held by the pipeline.
    Held,
    /// Lent to another worker.
    Handed,
    /// Given to the kernel to send: transmit ring, kernel, completion ring.
    Tx,
}

impl FramePlace {
    /// All places.
    pub const ALL: &[Self] = &[Self::Free, Self::Fill, Self::Held, Self::Handed, Self::Tx];

    /// The word for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Fill => "fill",
            Self::Held => "held",
            Self::Handed => "handed",
            Self::Tx => "tx",
        }
    }
}

impl LoopCounters {
    /// Notes how long it was between two heartbeats.
    #[inline]
    pub fn note_heartbeat_gap(&self, gap_ns: u64) {
        if gap_ns > self.heartbeat_gap_ns_max.get() {
            self.heartbeat_gap_ns_max.set(gap_ns);
        }
        if u128::from(gap_ns) > HEARTBEAT_LATE.as_nanos() {
            self.heartbeats_late.add(1);
        }
    }

    /// The longest time without heartbeat, with the one that lasts: `age_ns` since the last.
    pub fn heartbeat_gap_ns(&self, age_ns: u64) -> u64 {
        // The last beat is told by a gauge of a tenth of a second, so a short one is not yet one.
        let lasting = if u128::from(age_ns) > HEARTBEAT_LATE.as_nanos() { age_ns } else { 0 };
        self.heartbeat_gap_ns_max.get().max(lasting)
    }

    /// Counts what became of a SYN cookie.
    #[inline]
    pub fn count_cookie(&self, event: CookieEvent) {
        if let Some(counter) = self.syn_cookies.get(event as usize) {
            counter.add(1);
        }
    }
}

/// What became of a SYN cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CookieEvent {
    /// Sent to whom a SYN says it is from.
    Sent,
    /// Came back, and a flow was begun if it could be.
    Valid,
    /// A packet without a flow came that brings none back, while one could have.
    Invalid,
}

impl CookieEvent {
    /// All events.
    pub const ALL: &[Self] = &[Self::Sent, Self::Valid, Self::Invalid];

    /// The word for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEnd {
    /// Both sides closed, and TIME_WAIT or LAST_ACK ran out.
    Fin,
    /// Reset.
    Rst,
    /// Idle for its state's time.
    Idle,
    /// Made room for another.
    Evicted,
    /// Its UDP backend stopped serving (semantics G2), or its tuple began anew.
    Replaced,
    /// Its first packet could not go on.
    Refused,
}

impl FlowEnd {
    /// All causes.
    pub const ALL: &[Self] =
        &[Self::Fin, Self::Rst, Self::Idle, Self::Evicted, Self::Replaced, Self::Refused];

    /// The word for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Refused => "refused",
        }
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// The loop.
    pub work: LoopCounters,
    /// Why packets of service ports were dropped.
    pub service_drops: ServiceDrops,
    interfaces: Box<[InterfaceCounters]>,
    backends: Box<[BackendCounters]>,
    services: Box<[ServiceCounters]>,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            work: LoopCounters::default(),
            service_drops: ServiceDrops::default(),
            interfaces: (0..INTERFACES_MAX).map(|_| InterfaceCounters::default()).collect(),
            backends: (0..BACKEND_SLOTS_MAX).map(|_| BackendCounters::default()).collect(),
            services: (0..SERVICE_SLOTS_MAX).map(|_| ServiceCounters::default()).collect(),
        }
    }
}

impl WorkerCounters {
    /// Counters that tell nothing apart: one slot for everything of a kind. For packet paths whose
    /// counts nobody reads; the default's slots take some seven megabytes.
    pub fn of_one_slot() -> Self {
        Self {
            work: LoopCounters::default(),
            service_drops: ServiceDrops::with_pairs_max(1),
            interfaces: Box::new([InterfaceCounters::default()]),
            backends: Box::new([BackendCounters::default()]),
            services: Box::new([ServiceCounters::default()]),
        }
    }

    /// The counters of an interface; slot 0 where the slot is out of range.
    #[inline]
    pub fn interface(&self, slot: InterfaceSlot) -> &InterfaceCounters {
        self.interfaces.get(usize::from(slot.0)).unwrap_or(&self.interfaces[0])
    }

    /// The counters of a (service port, backend) pair; slot 0 where the slot is out of range.
    #[inline]
    pub fn backend(&self, slot: BackendSlot) -> &BackendCounters {
        self.backends.get(slot.0 as usize).unwrap_or(&self.backends[0])
    }

    /// The counters of a service port; slot 0 where the number is out of range.
    #[inline]
    pub fn service(&self, id: ServiceId) -> &ServiceCounters {
        self.services.get(id.0 as usize).unwrap_or(&self.services[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_heartbeat_stays_and_late_ones_are_counted() {
        let work = LoopCounters::default();
        let ms = |n: u64| n * 1_000_000;
        for gap in [1, 250, 700, 500, 1_300, 3] {
            work.note_heartbeat_gap(ms(gap));
        }
        assert_eq!((work.heartbeat_gap_ns_max.get(), work.heartbeats_late.get()), (ms(1_300), 2));
        assert_eq!(work.heartbeat_gap_ns(ms(2_000)), ms(2_000), "one that lasts");
        assert_eq!(work.heartbeat_gap_ns(ms(900)), ms(1_300));
        assert_eq!(
            LoopCounters::default().heartbeat_gap_ns(ms(300)),
            0,
            "it may have beaten since"
        );
    }
}
