//! Datagrams in fragments: whose they are, in whatever order they come.

use super::{MALFORMED, TO_OWNER, datagram, syn_of};
use crate::frames::{
    DESTINATION, ETHERNET_BYTES, Family, HOP_BY_HOP, Segment, address, fragment, tcp, udp, with,
    with_extensions, with_total_length,
};
use crate::rig::{
    CONFIG, Expected, OWNER, Rig, TO_FRONT, client, draining_front, flow_key, front, reply,
};
use core::net::SocketAddr;
use tidegate_dataplane::verdict::PassReason;

const FRAGMENT: Expected = Expected::Passed(PassReason::Fragment);

/// First, between, last: as IPv6's fragment header says it.
const FIRST: u16 = 1;
const BETWEEN: u16 = 9;
const LAST: u16 = 0xfff8;

#[test]
fn every_fragment_to_a_front_is_ours() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        for (id, to) in (1..).zip([front(family), draining_front(family)]) {
            for offset in [LAST, FIRST, BETWEEN] {
                let udp = fragment(udp(client(family), to), offset, id);
                rig.expect(&format!("UDP {offset} to {to}"), &udp, TO_FRONT);
                let tcp = fragment(tcp(client(family), to, Segment::Syn), offset, id);
                rig.expect(&format!("TCP {offset} to {to}"), &tcp, TO_FRONT);
            }
        }
    }
}

/// Those of others go on without a detour, unless their fragments come out of order.
#[test]
fn a_datagram_that_is_not_ours_passes_from_the_first_on() {
    let rig = Rig::new(&CONFIG);
    for (family, other) in [
        (Family::V4, "10.0.0.1:22"),
        (Family::V4, "10.0.0.2:30080"),
        (Family::V6, "[2001:db8::1]:22"),
        (Family::V6, "[2001:db8::2]:30080"),
    ] {
        let other = address(other);
        let piece = |to: SocketAddr, offset| fragment(udp(client(family), to), offset, to.port());
        rig.expect("before the first", &piece(other, LAST), TO_FRONT);
        rig.expect("the first", &piece(other, FIRST), FRAGMENT);
        rig.expect("a later one", &piece(other, LAST), FRAGMENT);
        // The same number, but for the protocol.
        let tcp = |offset| {
            fragment(tcp(client(family), front(family), Segment::Syn), offset, other.port())
        };
        rig.expect("a front's of the same number", &tcp(FIRST), TO_FRONT);
        rig.expect("its later one", &tcp(LAST), TO_FRONT);
    }
}

/// What a backend sends to a client that keeps its address.
#[test]
fn a_replys_fragments_are_ours_in_whatever_order() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let ends = (reply(family).0, client(family));
        assert_eq!(rig.steering.flows.insert_batch(&[flow_key(ends)], OWNER), 1);
        let piece = |offset, id| fragment(tcp(ends.0, ends.1, Segment::Ack), offset, id);
        rig.expect("before the first", &piece(BETWEEN, 7), TO_FRONT);
        rig.expect("the first", &piece(FIRST, 7), TO_OWNER);
        rig.expect("between", &piece(BETWEEN, 7), TO_FRONT);
        rig.expect("the last", &piece(LAST, 7), TO_FRONT);
    }
}

#[test]
fn fragments_of_other_protocols_pass() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let (at, icmp) = family.pick((9, 1), (40, 58));
        for offset in [FIRST, BETWEEN, LAST] {
            let frame = fragment(datagram(family), offset, 7);
            rig.expect("ICMP", &with(frame, ETHERNET_BYTES + at, &[icmp]), FRAGMENT);
        }
    }
}

#[test]
fn what_says_that_it_is_the_only_fragment_is_whole() {
    let rig = Rig::new(&CONFIG);
    let to_nobody = udp(client(Family::V6), address("[2001:db8::1]:22"));
    let no_service = Expected::Passed(PassReason::NoService);
    rig.expect("no front", &fragment(to_nobody, 0, 7), no_service);
    rig.expect("a SYN", &fragment(syn_of(Family::V6), 0, 7), TO_FRONT);
    rig.expect("don't fragment", &with(datagram(Family::V4), 20, &[0x40, 0]), TO_FRONT);
}

#[test]
fn other_extension_headers_may_stand_around() {
    let rig = Rig::new(&CONFIG);
    let behind = with_extensions(datagram(Family::V6), &[(DESTINATION, 8)]);
    rig.expect("behind the first", &fragment(behind.clone(), FIRST, 7), TO_FRONT);
    // What follows a later one cannot be told: its protocol is "destination options".
    rig.expect("behind a later one", &fragment(behind, LAST, 7), FRAGMENT);
    let piece = fragment(datagram(Family::V6), LAST, 7);
    let chain = with_extensions(piece, &[(HOP_BY_HOP, 8), (DESTINATION, 16)]);
    rig.expect("before a later one", &chain, TO_FRONT);
}

#[test]
fn a_first_fragment_without_its_ports_passes() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let frame = fragment(datagram(family), FIRST, 7);
        let headers = family.pick(20, 48);
        for l4_bytes in 0..8 {
            let short = with_total_length(frame.clone(), headers + l4_bytes);
            rig.expect(&format!("{l4_bytes} bytes"), &short, MALFORMED);
        }
        rig.expect("eight bytes", &with_total_length(frame.clone(), headers + 8), TO_FRONT);
        for length in ETHERNET_BYTES..frame.len() {
            rig.expect(&format!("cut to {length}"), &frame[..length], MALFORMED);
        }
    }
}

/// Only what is certainly ours may not go to the kernel.
#[test]
fn while_the_worker_is_away_a_fronts_fragments_are_dropped_from_the_first_on() {
    let rig = Rig::new(&CONFIG);
    rig.stop_beating();
    let fallback = Expected::Passed(PassReason::Fallback);
    for family in Family::ALL {
        let piece = |to, offset| fragment(udp(client(family), to), offset, 7);
        rig.expect("before the first", &piece(front(family), LAST), fallback);
        rig.expect("the first", &piece(front(family), FIRST), Expected::StaleDropped);
        rig.expect("a later one", &piece(front(family), LAST), Expected::StaleDropped);
        let other = address(family.pick("10.0.0.1:22", "[2001:db8::1]:22"));
        rig.expect("the first to nobody", &piece(other, FIRST), FRAGMENT);
    }
}
