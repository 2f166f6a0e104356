//! What the program makes of headers: long, strange, cut and wrong ones.

use super::{MALFORMED, NO_SERVICE, TO_OWNER, datagram, reply_of, syn, syn_of};
use crate::frames::{
    AUTHENTICATION, DESTINATION, ETHERNET_BYTES, Family, HOP_BY_HOP, ROUTING, with,
    with_extensions, with_options, with_total_length,
};
use crate::rig::{CONFIG, Rig, TO_FRONT};

#[test]
fn options_are_stepped_over() {
    let rig = Rig::new(&CONFIG);
    for words in 1..=10 {
        rig.expect("TCP with options", &with_options(syn(), words), TO_FRONT);
        let datagram = with_options(datagram(Family::V4), words);
        rig.expect("UDP with options", &datagram, TO_FRONT);
    }
}

#[test]
fn extension_headers_are_stepped_over() {
    let rig = Rig::new(&CONFIG);
    let chains: &[&[(u8, usize)]] = &[
        &[(HOP_BY_HOP, 8)],
        &[(DESTINATION, 24)],
        &[(ROUTING, 8)],
        &[(AUTHENTICATION, 12)],
        &[(AUTHENTICATION, 16), (DESTINATION, 8)],
        &[(DESTINATION, 256)],
        &[(HOP_BY_HOP, 8), (DESTINATION, 8), (ROUTING, 24), (AUTHENTICATION, 24), (DESTINATION, 8)],
        &[(DESTINATION, 8); 6],
    ];
    for chain in chains {
        for frame in [syn_of(Family::V6), datagram(Family::V6)] {
            rig.expect(&format!("{chain:?}"), &with_extensions(frame, chain), TO_FRONT);
        }
        let reply = with_extensions(reply_of(Family::V6), chain);
        rig.expect(&format!("a reply with {chain:?}"), &reply, TO_OWNER);
    }
}

#[test]
fn extension_headers_that_hide_the_ports_pass() {
    let rig = Rig::new(&CONFIG);
    let with = |chain: &[(u8, usize)]| with_extensions(datagram(Family::V6), chain);
    rig.expect("too many", &with(&[(DESTINATION, 8); 7]), MALFORMED);
    rig.expect("hop-by-hop, late", &with(&[(DESTINATION, 8), (HOP_BY_HOP, 8)]), MALFORMED);
    rig.expect("no next header", &with(&[(59, 8)]), NO_SERVICE);
    rig.expect("ESP", &with(&[(50, 8)]), NO_SERVICE);
    let mut routed = with(&[(ROUTING, 8)]);
    routed[ETHERNET_BYTES + 43] = 1;
    rig.expect("further stops", &routed, NO_SERVICE);
    let jumbogram = with_total_length(with(&[(HOP_BY_HOP, 8)]), 40);
    rig.expect("a jumbogram", &jumbogram, MALFORMED);
    let mut long = with(&[(DESTINATION, 8)]);
    long[ETHERNET_BYTES + 41] = 0xff;
    rig.expect("an extension longer than the packet", &long, MALFORMED);
}

#[test]
fn truncated_frames_pass_at_every_length() {
    let rig = Rig::new(&CONFIG);
    let extended = with_extensions(syn_of(Family::V6), &[(HOP_BY_HOP, 8), (AUTHENTICATION, 24)]);
    let options = with_options(syn(), 10);
    let plain = Family::ALL.map(|family| [syn_of(family), datagram(family)]).concat();
    for frame in plain.into_iter().chain([options, extended]) {
        for length in ETHERNET_BYTES..frame.len() {
            rig.expect(&format!("cut to {length}"), &frame[..length], MALFORMED);
        }
        rig.expect("whole", &frame, TO_FRONT);
    }
}

#[test]
fn packets_shorter_than_their_headers_pass_at_every_length() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        for (frame, l4_bytes) in [(syn_of(family), 20), (datagram(family), 8)] {
            let least = family.pick(0, 40);
            for total in least..=frame.len() - ETHERNET_BYTES {
                let packet = with_total_length(frame.clone(), total);
                let is_whole = total >= family.header_bytes() + l4_bytes;
                let expected = if is_whole { TO_FRONT } else { MALFORMED };
                rig.expect(&format!("padded, total {total}"), &packet, expected);
                let cut = &packet[..ETHERNET_BYTES + total];
                rig.expect(&format!("cut, total {total}"), cut, expected);
            }
        }
    }
}

#[test]
fn malformed_headers_pass() {
    let rig = Rig::new(&CONFIG);
    for first in [0x35, 0x55, 0x65, 0x44, 0x40, 0x4f] {
        let frame = with(syn()[..ETHERNET_BYTES + 50].to_vec(), ETHERNET_BYTES, &[first]);
        let frame = with_total_length(frame, 50);
        rig.expect(&format!("first byte {first:#x}"), &frame, MALFORMED);
    }
    for first in [0x00, 0x40, 0x50, 0x70, 0xe0] {
        let frame = with(syn_of(Family::V6), ETHERNET_BYTES, &[first]);
        rig.expect(&format!("first byte {first:#x} of IPv6"), &frame, MALFORMED);
    }
    for frame in Family::ALL.map(syn_of) {
        let long = with_total_length(frame.clone(), frame.len() - ETHERNET_BYTES + 1);
        rig.expect("total longer than the frame", &long, MALFORMED);
        rig.expect("total of 65535", &with_total_length(frame, 65_535), MALFORMED);
    }
}
