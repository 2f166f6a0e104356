//! ICMP errors: ours are those that quote a packet of ours.

use super::{MALFORMED, NO_SERVICE, TO_OWNER, datagram, reply_of, syn_of};
use crate::frames::{
    DESTINATION, ETHERNET_BYTES, Family, HOP_BY_HOP, PAYLOAD, Segment, address, family_of,
    fragment, icmp_error, tcp, udp, with, with_extensions, with_options, with_total_length,
};
use crate::rig::{CONFIG, Expected, Rig, TO_FRONT, client, draining_front, front, reply};
use std::net::IpAddr;
use tidegate_dataplane::verdict::PassReason;

/// A router on the way.
fn router(family: Family) -> IpAddr {
    address(family.pick("198.51.100.1:0", "[2001:db8:99::1]:0")).ip()
}

/// What we sent to a client, as a router on its side quotes it.
fn sent_to_client(family: Family) -> Vec<u8> {
    udp(front(family), client(family))
}

/// What we sent to a backend.
fn sent_to_backend(family: Family) -> Vec<u8> {
    let (backend, snat) = reply(family);
    tcp(snat, backend, Segment::Ack)
}

/// The error of this type about a frame that came from where it says.
fn error(family: Family, kind: u8, quoted: &[u8]) -> Vec<u8> {
    icmp_error(router(family), (kind, 0), quoted)
}

const UNREACHABLE: [u8; 2] = [3, 1];

#[test]
fn errors_about_our_packets_are_ours_and_all_others_pass() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let ours: &[u8] = family.pick(&[3, 11, 12], &[1, 2, 3, 4]);
        for kind in 0..=255 {
            let (client, owner) =
                if ours.contains(&kind) { (TO_FRONT, TO_OWNER) } else { (NO_SERVICE, NO_SERVICE) };
            let to_client = error(family, kind, &sent_to_client(family));
            rig.expect(&format!("type {kind} about a reply"), &to_client, client);
            let to_backend = error(family, kind, &sent_to_backend(family));
            rig.expect(&format!("type {kind} about a forwarded packet"), &to_backend, owner);
        }
    }
}

#[test]
fn errors_about_packets_of_others_pass() {
    let rig = Rig::new(&CONFIG);
    for (family, kind) in Family::ALL.into_iter().zip(UNREACHABLE) {
        let other = address(family.pick("10.0.0.1:22", "[2001:db8::1]:22"));
        let foreign = error(family, kind, &udp(other, client(family)));
        rig.expect("another port", &foreign, NO_SERVICE);
        rig.expect("the way to us", &error(family, kind, &datagram(family)), NO_SERVICE);
        rig.expect("a reply", &error(family, kind, &reply_of(family)), NO_SERVICE);
        // The last byte of the outer destination.
        let at = ETHERNET_BYTES + family.pick(19, 39);
        let mut elsewhere = error(family, kind, &sent_to_client(family));
        elsewhere[at] ^= 1;
        rig.expect("not sent to the quoted source", &elsewhere, NO_SERVICE);
        let protocol = ETHERNET_BYTES + family.pick(20 + 8 + 9, 40 + 8 + 6);
        let quoted = with(error(family, kind, &sent_to_client(family)), protocol, &[1]);
        rig.expect("quotes ICMP", &quoted, NO_SERVICE);
    }
}

#[test]
fn quoted_headers_may_be_long_and_eight_bytes_behind_them_suffice() {
    let rig = Rig::new(&CONFIG);
    let mut quoted: Vec<_> = Family::ALL.map(sent_to_client).into();
    quoted.push(with_options(sent_to_client(Family::V4), 10));
    let chain = [(HOP_BY_HOP, 8), (DESTINATION, 24)];
    quoted.push(with_extensions(sent_to_client(Family::V6), &chain));
    for quoted in quoted {
        let payload = PAYLOAD.len();
        let shortest = &quoted[..quoted.len() - payload];
        let family = family_of(&quoted);
        let kind = family.pick(3, 1);
        let frame = error(family, kind, shortest);
        rig.expect("eight bytes", &frame, TO_FRONT);
        let padded = [&frame[..], &[0; 9]].concat();
        rig.expect("eight bytes, padded", &padded, TO_FRONT);
        let less = frame.len() - ETHERNET_BYTES - 1;
        let short = with_total_length(frame.clone(), less);
        rig.expect("seven bytes", &short, MALFORMED);
        for length in ETHERNET_BYTES..frame.len() {
            rig.expect(&format!("cut to {length}"), &frame[..length], MALFORMED);
        }
    }
}

#[test]
fn quoted_fragments_pass_where_they_have_no_ports() {
    let rig = Rig::new(&CONFIG);
    let quoted = |flags: [u8; 2]| with(sent_to_client(Family::V4), ETHERNET_BYTES + 6, &flags);
    let first = error(Family::V4, 3, &quoted([0x20, 0]));
    rig.expect("the first", &first, TO_FRONT);
    let later = error(Family::V4, 3, &quoted([0x20, 1]));
    rig.expect("a later one", &later, NO_SERVICE);
    let quoted = |offset| fragment(sent_to_client(Family::V6), offset, 7);
    rig.expect("the first of IPv6", &error(Family::V6, 1, &quoted(1)), TO_FRONT);
    rig.expect("a later one of IPv6", &error(Family::V6, 1, &quoted(9)), NO_SERVICE);
}

#[test]
fn errors_are_ours_behind_long_headers_too() {
    let rig = Rig::new(&CONFIG);
    let v4 = with_options(error(Family::V4, 3, &sent_to_client(Family::V4)), 10);
    rig.expect("options", &v4, TO_FRONT);
    let v6 = error(Family::V6, 1, &sent_to_client(Family::V6));
    let v6 = with_extensions(v6, &[(HOP_BY_HOP, 8), (DESTINATION, 64)]);
    rig.expect("extension headers", &v6, TO_FRONT);
}

/// An error never begins a flow: where nobody is there, the kernel would not know it either.
#[test]
fn errors_are_dropped_while_the_worker_is_away() {
    let rig = Rig::new(&CONFIG);
    rig.stop_beating();
    for (family, kind) in Family::ALL.into_iter().zip(UNREACHABLE) {
        for quoted in [sent_to_client(family), sent_to_backend(family)] {
            rig.expect("an error", &error(family, kind, &quoted), Expected::StaleDropped);
        }
        rig.expect("a SYN", &syn_of(family), Expected::Passed(PassReason::Fallback));
    }
}

#[test]
fn a_draining_front_keeps_errors_about_its_tcp_flows() {
    let rig = Rig::new(&CONFIG);
    for (family, kind) in Family::ALL.into_iter().zip(UNREACHABLE) {
        let (client, front) = (client(family), draining_front(family));
        let segment = tcp(front, client, Segment::Ack);
        rig.expect("TCP", &error(family, kind, &segment), TO_FRONT);
        let draining = Expected::Passed(PassReason::DrainingFront);
        rig.expect("UDP", &error(family, kind, &udp(front, client)), draining);
    }
}
