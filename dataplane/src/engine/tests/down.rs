//! A link that is down while packets are to leave by it.

use super::fragments::Bed;
use super::{ip, wait_until, with_engine};
use crate::stats::{FramePlace, WorkerCounters};
use crate::testing::{BACKEND_MAC, Family, OUTER, udp_frame};
use crate::verdict::DropReason;
use std::sync::Arc;

/// Sent at once while a ring fills.
const BURST: usize = 64;

/// An engine that has packets for a link that is down.
struct Down<'e> {
    bed: Bed<'e>,
    counters: Arc<WorkerCounters>,
}

impl<'e> Down<'e> {
    fn new(bed: Bed<'e>) -> Self {
        let counters = Arc::clone(&bed.engine.workers[0].counters);
        ip("link set inner down");
        Self { bed, counters }
    }

    fn send(&self) {
        let client = Family::V4.client(1, 4000);
        self.bed.client.send(&udp_frame(&client, Family::V4.front(), b"question"));
    }

    fn unsent(&self) -> u64 {
        self.counters.work.frames[FramePlace::Tx as usize].get()
    }

    fn is_at_the_pod(&self) -> bool {
        self.bed.pod.receive().is_some_and(|frame| frame[..6] == BACKEND_MAC)
    }
}

#[test]
fn a_worker_sleeps_while_a_link_is_down_and_sends_what_waits_for_it_afterwards() {
    with_engine(|engine| {
        let down = Down::new(Bed::new(engine, Family::V4));
        down.send();
        wait_until("it waits for the link", || down.unsent() == 1);
        let sleeps = || down.counters.work.sleeps.get();
        let before = sleeps();
        wait_until("the worker sleeps again and again", || sleeps() > before + 3);
        assert_eq!(down.unsent(), 1);
        ip("link set inner up");
        wait_until("it is sent", || down.is_at_the_pod());
        wait_until("its frame is free", || down.unsent() == 0);
    });
}

#[test]
fn what_a_link_that_is_down_has_no_room_for_is_lost_by_name() {
    with_engine(|engine| {
        let down = Down::new(Bed::new(engine, Family::V4));
        let outer = down.counters.interface(OUTER);
        let lost = || outer.dropped_packets[DropReason::FullRing as usize].get();
        wait_until("the ring is full", || {
            (0..BURST).for_each(|_| down.send());
            lost() > 0
        });
        ip("link set inner up");
        wait_until("what was not lost is sent", || down.unsent() == 0);
        let sum = || outer.forwarded_packets.get() + lost();
        wait_until("the sum closes", || outer.received_packets.get() == sum());
    });
}
