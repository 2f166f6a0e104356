//! A client behind a VLAN that the host has no interface of, on real links.

use super::{DEADLINE, SLOT, index, ip, request, with_engine};
use crate::engine::{AttachRequest, Engine};
use crate::testing::{
    BACKEND_MAC, CLIENT_MAC, Family, Fixture, GATEWAY_INNER_MAC, INNER, Link, checksums_are_right,
    ends, udp_frame,
};
use crate::types::{IfIndex, MacAddress};
use crate::xdp::layout::VLANS_MAX;
use std::time::Instant;

/// Not that of any interface.
const OTHER: IfIndex = IfIndex(9_999);

const TAG: [u8; 4] = [0x81, 0x00, 0x60, 0x07];

/// The next frame to this address on a link.
fn next(link: &Link, to: [u8; 6]) -> Vec<u8> {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "nothing came");
        match link.receive() {
            Some(frame) if frame[..6] == to => return frame,
            _ => std::thread::yield_now(),
        }
    }
}

fn check(engine: &mut Engine, family: Family) {
    ip("link add inner type veth peer name pod");
    ip("link set inner up");
    ip("link set pod up");
    engine.attach(&request()).unwrap();
    let (name, mac) = ("inner".to_owned(), MacAddress(GATEWAY_INNER_MAC));
    let inner = AttachRequest { slot: INNER, name, index: index("inner"), mac, ..request() };
    engine.attach(&inner).unwrap();
    engine.publish_all(Fixture { family, ..Fixture::default() }.snapshot()).unwrap();
    let (client, pod) = (Link::open(index("client")), Link::open(index("pod")));

    let me = family.client(1, 4000);
    let question = udp_frame(&me, family.front(), b"question");
    client.send(&[&question[..12], &TAG, &question[12..]].concat());
    let asked = next(&pod, BACKEND_MAC);
    assert_eq!(asked.len(), question.len(), "the pod sees no tag");
    assert!(checksums_are_right(&asked));
    let (seen, backend) = ends(&asked);
    let mut answer = udp_frame(&backend, &seen, b"answer");
    answer[..6].copy_from_slice(&GATEWAY_INNER_MAC);
    pod.send(&answer);
    let mut told = next(&client, CLIENT_MAC);
    assert_eq!(told[12..16], TAG);
    told.drain(12..16);
    assert!(checksums_are_right(&told));
    assert_eq!(ends(&told), (family.front().to_owned(), me));
}

/// Another interface has all places but one. Returns its VLANs, which are taken again at the end.
fn fill(engine: &Engine) -> Vec<u16> {
    let others: Vec<u16> = (1..).take(VLANS_MAX as usize - 1).collect();
    others.iter().for_each(|id| engine.steering.vlans.leave(OTHER, *id).unwrap());
    others
}

#[test]
fn vlans_that_are_gone_leave_a_full_map_and_make_room() {
    with_engine(|engine| {
        engine.attach(&request()).unwrap();
        engine.set_vlans(SLOT, &[1]).unwrap();
        let mut others = fill(engine);
        engine.set_vlans(SLOT, &[2]).unwrap();
        engine.set_vlans(SLOT, &[3, 4]).unwrap_err();
        engine.set_vlans(SLOT, &[]).unwrap();
        // What was there for a moment is gone too: the one place is free again.
        others.push(5000);
        engine.steering.vlans.leave(OTHER, 5000).unwrap();
        assert!(engine.steering.vlans.leave(OTHER, 5001).is_err(), "it is full");
        others.iter().for_each(|id| engine.steering.vlans.take(OTHER, *id).unwrap());
        engine.set_vlans(SLOT, &[3, 4]).unwrap();
    });
}

#[test]
fn a_tagged_client_is_answered_with_its_tag() {
    for family in Family::ALL {
        with_engine(|engine| check(engine, family));
    }
}
