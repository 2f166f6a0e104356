//! Frames with VLAN tags: ours as those without, unless the host has an interface of the VLAN.

use super::{MALFORMED, TO_OWNER, datagram, reply_of, syn_of};
use crate::frames::{
    ETHERNET_BYTES, Family, HOP_BY_HOP, Segment, fragment, icmp_error, tcp, with, with_extensions,
    with_tag,
};
use crate::rig::{CONFIG, Expected, LO, Rig, TO_FRONT, reply};
use std::net::IpAddr;
use tidegate_dataplane::verdict::PassReason;

const TAGGED: Expected = Expected::Passed(PassReason::VlanTagged);

/// The VLAN of [`with_tag`].
const VLAN: u16 = 42;

fn tagged(frame: Vec<u8>) -> Vec<u8> {
    with_tag(frame, 0x8100)
}

#[test]
fn a_tag_changes_nothing() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        rig.expect("a SYN", &tagged(syn_of(family)), TO_FRONT);
        rig.expect("UDP", &tagged(datagram(family)), TO_FRONT);
        rig.expect("a reply", &tagged(reply_of(family)), TO_OWNER);
        let (backend, snat) = reply(family);
        let about = tcp(snat, backend, Segment::Ack);
        let router: IpAddr = family.pick("10.9.9.9", "fd09::9").parse().unwrap();
        let error = icmp_error(router, family.pick((3, 4), (2, 0)), &about);
        rig.expect("an error about a flow", &tagged(error), TO_OWNER);
        let first = tagged(fragment(datagram(family), 1, 7));
        rig.expect("a first fragment", &first, TO_FRONT);
        let later = tagged(fragment(datagram(family), 8, 7));
        rig.expect("a later fragment", &later, TO_FRONT);
        let priority = with(tagged(syn_of(family)), ETHERNET_BYTES, &[0x60, 0]);
        rig.expect("a priority alone", &priority, TO_FRONT);
    }
    let extended = with_extensions(syn_of(Family::V6), &[(HOP_BY_HOP, 8)]);
    rig.expect("extension headers", &tagged(extended), TO_FRONT);
}

#[test]
fn a_vlan_with_an_interface_is_the_kernels_while_it_has_one() {
    let rig = Rig::new(&CONFIG);
    let vlans = &rig.steering.vlans;
    for family in Family::ALL {
        let frame = tagged(syn_of(family));
        vlans.leave(LO, VLAN).unwrap();
        rig.expect("its own", &frame, TAGGED);
        let with_priority = with(frame.clone(), ETHERNET_BYTES, &[0xe0, 42]);
        rig.expect("whatever the priority", &with_priority, TAGGED);
        let other = with(frame.clone(), ETHERNET_BYTES, &[0, 43]);
        rig.expect("another VLAN", &other, TO_FRONT);
        rig.expect("no tag", &syn_of(family), TO_FRONT);
        vlans.take(LO, VLAN).unwrap();
        rig.expect("no more", &frame, TO_FRONT);
        vlans.take(LO, VLAN).unwrap();
    }
}

#[test]
fn what_is_not_one_tag_before_ip_passes() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        rig.expect("802.1ad", &with_tag(syn_of(family), 0x88a8), TAGGED);
        rig.expect("two tags", &tagged(tagged(syn_of(family))), TAGGED);
        rig.expect("802.1ad within", &tagged(with_tag(syn_of(family), 0x88a8)), TAGGED);
        let reserved = with(tagged(syn_of(family)), ETHERNET_BYTES, &[0x0f, 0xff]);
        rig.expect("the reserved VLAN", &reserved, TAGGED);
        let arp = with(tagged(syn_of(family)), ETHERNET_BYTES + 2, &[8, 6]);
        rig.expect("no IP", &arp, TAGGED);
        let frame = tagged(syn_of(family));
        for length in ETHERNET_BYTES..frame.len() {
            rig.expect(&format!("cut to {length}"), &frame[..length], MALFORMED);
        }
    }
}
