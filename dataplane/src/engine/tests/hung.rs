//! A worker that hangs while another has packets for it.

use super::fragments::Bed;
use super::{ip, wait_until, with_workers};
use crate::clock;
use crate::stats::{FramePlace, WorkerCounters};
use crate::testing::{BACKEND_MAC, Family, OUTER, udp_frame};
use crate::types::WorkerId;
use crate::verdict::DropReason;
use std::sync::Arc;

const SENDER: WorkerId = WorkerId(1);

fn wait_until_none_is_lent(counters: &WorkerCounters) {
    let lent = &counters.work.frames[FramePlace::Handed as usize];
    lent.set(u64::MAX);
    wait_until("no frame is lent", || lent.get() == 0);
}

#[test]
fn what_a_worker_that_hangs_should_send_is_lost_by_name_and_its_frame_free() {
    with_workers(2, |engine| {
        // With one queue, which is the first worker's.
        ip("link del outer");
        ip("link add outer type veth peer name client");
        ip("link set outer up");
        ip("link set client up");
        let bed = Bed::new(engine, Family::V4);
        let counters = Arc::clone(&bed.engine.workers[0].counters);
        let lost = || {
            let outer = counters.interface(OUTER);
            outer.dropped_packets[DropReason::StaleWorker as usize].get()
        };
        let handed = || counters.work.handed_packets.get();
        let client = Family::V4.client(1, 4000);
        let question = udp_frame(&client, Family::V4.front(), b"question");
        wait_until("the other worker sends it", || {
            bed.client.send(&question);
            bed.pod.receive().is_some_and(|frame| frame[..6] == BACKEND_MAC)
        });
        wait_until_none_is_lent(&counters);
        bed.engine.workers[1].stop();
        wait_until("it is stale", || bed.engine.is_stale(SENDER));
        let before = (handed(), lost());
        bed.client.send(&question);
        wait_until("the packet is lost", || lost() == before.1 + 1);
        assert_eq!(handed(), before.0);
        wait_until_none_is_lent(&counters);
        wait_until("one that beats is handed packets", || {
            bed.engine.steering.heartbeats.beat(SENDER, clock::now());
            bed.client.send(&question);
            handed() > before.0
        });
    });
}
