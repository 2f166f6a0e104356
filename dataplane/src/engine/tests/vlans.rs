//! A client behind a VLAN that the host has no interface of, on real links.

use super::{DEADLINE, index, ip, request, with_engine};
use crate::engine::{AttachRequest, Engine};
use crate::testing::{
    BACKEND_MAC, CLIENT_MAC, Family, Fixture, GATEWAY_INNER_MAC, INNER, Link, checksums_are_right,
    ends, udp_frame,
};
use crate::types::MacAddress;
use std::time::Instant;

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

#[test]
fn a_tagged_client_is_answered_with_its_tag() {
    for family in Family::ALL {
        with_engine(|engine| check(engine, family));
    }
}
