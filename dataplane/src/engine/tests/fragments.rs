//! Fragments that wait in a worker for their first, or for nothing (semantics G10).

use super::{index, ip, request, wait_until, with_engine};
use crate::engine::{AttachRequest, Engine};
use crate::stats::FramePlace;
use crate::testing::{
    Family, Fixture, GATEWAY_INNER_MAC, INNER, Link, OUTER, checksums_are_right, fragments,
    reassembled, udp_frame,
};
use crate::types::MacAddress;
use crate::verdict::{DropReason, PassReason};

const PIECE: usize = 1440;

/// More than may wait at once.
const COUNT: u16 = 100;

/// An engine with a client's link and a pod's, and the fixture's fronts of a family.
pub(super) struct Bed<'e> {
    pub(super) engine: &'e mut Engine,
    pub(super) client: Link,
    pub(super) pod: Link,
    family: Family,
}

impl<'e> Bed<'e> {
    pub(super) fn new(engine: &'e mut Engine, family: Family) -> Self {
        ip("link add inner type veth peer name pod");
        ip("link set inner up");
        ip("link set pod up");
        engine.attach(&request()).unwrap();
        let inner = AttachRequest {
            slot: INNER,
            name: "inner".into(),
            index: index("inner"),
            mac: MacAddress(GATEWAY_INNER_MAC),
            ..request()
        };
        engine.attach(&inner).unwrap();
        engine.publish_all(Fixture { family, ..Fixture::default() }.snapshot()).unwrap();
        let (client, pod) = (Link::open(index("client")), Link::open(index("pod")));
        Self { engine, client, pod, family }
    }

    /// A datagram in pieces, from a client with this number.
    fn pieces(&self, number: u16) -> Vec<Vec<u8>> {
        let client = self.family.client(number, 4000 + number);
        fragments(&udp_frame(&client, self.family.front(), &[7; 4000]), PIECE)
    }

    fn send(&self, pieces: &[Vec<u8>]) {
        pieces.iter().for_each(|piece| self.client.send(piece));
    }

    fn received(&self) -> u64 {
        self.engine.workers[0].counters.interface(OUTER).received_packets.get()
    }

    fn lost(&self) -> u64 {
        let counters = self.engine.workers[0].counters.interface(OUTER);
        counters.dropped_packets[DropReason::FirstFragmentNotFound as usize].get()
    }

    fn passed(&self) -> u64 {
        let counters = self.engine.workers[0].counters.interface(OUTER);
        counters.passed_packets[PassReason::Fragment as usize].get()
    }

    /// The datagram that arrives at the pods.
    fn arrives(&self) -> Vec<u8> {
        let mut arrived = Vec::new();
        wait_until("all fragments are there", || {
            let ours = |frame: &Vec<u8>| frame[..6] == crate::testing::BACKEND_MAC;
            arrived.extend(core::iter::from_fn(|| self.pod.receive()).filter(ours));
            arrived.len() == 3
        });
        reassembled(&arrived).unwrap()
    }
}

#[test]
fn g10_fragments_that_come_early_leave_when_their_first_has_come() {
    for family in Family::ALL {
        with_engine(|engine| {
            let bed = Bed::new(engine, family);
            let pieces = bed.pieces(1);
            bed.send(&[pieces[2].clone(), pieces[1].clone()]);
            wait_until("the worker has both", || bed.received() == 2);
            bed.send(&pieces[..1]);
            assert!(checksums_are_right(&bed.arrives()));
            assert_eq!(bed.lost(), 0);
        });
    }
}

/// Their first may have passed to the kernel: they follow, as many as may wait.
#[test]
fn g10_fragments_whose_first_never_comes_go_to_the_kernel_and_those_too_many_are_dropped() {
    for family in Family::ALL {
        with_engine(|engine| {
            let bed = Bed::new(engine, family);
            for number in 1..=COUNT {
                bed.send(&bed.pieces(number)[1..2]);
            }
            wait_until("all are gone", || bed.lost() + bed.passed() == u64::from(COUNT));
            assert!(bed.passed() >= 64, "{} passed", bed.passed());
            let work = &bed.engine.workers[0].counters.work;
            work.frames[FramePlace::Held as usize].set(u64::MAX);
            wait_until("none is held", || work.frames[FramePlace::Held as usize].get() == 0);
            bed.send(&bed.pieces(1));
            assert!(checksums_are_right(&bed.arrives()), "the next datagram is served");
        });
    }
}
