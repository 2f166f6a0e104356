//! ICMP errors of others about our flows (semantics G10).

use super::{NOW, client, fixture, later, rig, two_workers};
use crate::flow_table::Direction;
use crate::packet::headers::tcp_flags::{ACK, SYN};
use crate::pipeline::parse::parse;
use crate::pipeline::{Packet, Pipeline};
use crate::snapshot::{NextHop, Snapshot};
use crate::testing::{
    CLIENT_MAC, Family, Fixture, GATEWAY_MAC, INNER, OUTER, checksums_are_right, ends, icmp_error,
    send, tcp_frame, udp_frame,
};
use crate::types::WorkerId;
use crate::verdict::{DropReason, PassReason, Verdict};
use core::net::{IpAddr, SocketAddr};

/// Every kind of flow: family, policy, protocol.
fn flows() -> impl Iterator<Item = (Family, bool, bool)> {
    let policies = |family| [true, false].map(|masquerade| (family, masquerade));
    let protocols = |(family, masquerade)| [true, false].map(|tcp| (family, masquerade, tcp));
    Family::ALL.into_iter().flat_map(policies).flat_map(protocols)
}

fn kinds(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[3, 11, 12],
        Family::V6 => &[1, 2, 3, 4],
    }
}

fn ip(end: &str) -> IpAddr {
    end.parse::<SocketAddr>().unwrap().ip()
}

fn host(address: IpAddr) -> String {
    SocketAddr::new(address, 0).to_string()
}

/// A flow and its first packets: as each side sent them, and as the other got them.
struct Bed {
    pipeline: Pipeline,
    snapshot: Snapshot,
    sent_by_client: Vec<u8>,
    got_by_backend: Vec<u8>,
    sent_by_backend: Vec<u8>,
    got_by_client: Vec<u8>,
}

impl Bed {
    fn new((family, masquerade, is_tcp): (Family, bool, bool)) -> Self {
        let (mut pipeline, snapshot) = rig(&Fixture { masquerade, ..fixture(family) });
        let payload = b"some twenty bytes, and more";
        let frame = |from: &str, to: &str, flags| {
            if is_tcp { tcp_frame(from, to, flags, payload) } else { udp_frame(from, to, payload) }
        };
        let sent_by_client = frame(&client(family), family.front(), SYN);
        let (verdict, got_by_backend) = send(&mut pipeline, &snapshot, &sent_by_client, NOW);
        assert_eq!(verdict, Verdict::Forward(INNER));
        let (seen, backend) = ends(&got_by_backend);
        let sent_by_backend = frame(&backend, &seen, SYN | ACK);
        let (verdict, got_by_client) = send(&mut pipeline, &snapshot, &sent_by_backend, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        Self { pipeline, snapshot, sent_by_client, got_by_backend, sent_by_backend, got_by_client }
    }

    fn send(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        send(&mut self.pipeline, &self.snapshot, frame, NOW)
    }

    /// An error from the backends' side, about what the backend should have got.
    fn error_from_inside(&self, router: IpAddr, kind: u8, quoted_bytes: usize) -> Vec<u8> {
        icmp_error(router, (kind, 1), &self.got_by_backend[..14 + quoted_bytes])
    }

    /// An error from the clients' side.
    fn error_from_outside(&self, router: IpAddr, kind: u8, quoted_bytes: usize) -> Vec<u8> {
        icmp_error(router, (kind, 1), &self.got_by_client[..14 + quoted_bytes])
    }

    fn whole(&self) -> usize {
        self.got_by_backend.len() - 14
    }
}

/// The quote is what its sender sent, but for the TTL that it had when it left us.
fn assert_quotes(family: Family, error: &[u8], sent: &[u8], quoted_bytes: usize) {
    let mut expected = sent[14..14 + quoted_bytes].to_vec();
    let mut quoted = error[family.l4_offset() + 8..].to_vec();
    let ttl = family.ttl_offset() - 14;
    assert_eq!(quoted[ttl], 63);
    expected[ttl] = 63;
    if family == Family::V4 {
        let header = etherparse::Ipv4Header::from_slice(&quoted).unwrap().0;
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        quoted[10..12].fill(0);
        expected[10..12].fill(0);
    }
    assert_eq!(quoted, expected);
}

#[test]
fn g10_an_error_about_a_clients_packet_reaches_the_client() {
    for flow in flows() {
        let (mut bed, family) = (Bed::new(flow), flow.0);
        let backend = ip(&ends(&bed.sent_by_backend).0);
        for kind in kinds(family) {
            // From the backend itself as from a router, it comes from the front.
            for from in [backend, family.router()] {
                let error = bed.error_from_inside(from, *kind, bed.whole());
                let (verdict, out) = bed.send(&error);
                assert_eq!(verdict, Verdict::Forward(OUTER));
                let expected = (host(ip(family.front())), host(ip(&client(family))));
                assert_eq!(ends(&out), expected);
                assert!(checksums_are_right(&out));
                assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
                assert_eq!(out[family.ttl_offset()], 63);
                assert_eq!(out[family.l4_offset()], *kind);
                assert_quotes(family, &out, &bed.sent_by_client, bed.whole());
            }
        }
    }
}

#[test]
fn g10_an_error_about_a_backends_packet_reaches_the_backend() {
    for flow in flows() {
        let (mut bed, (family, masquerade, _)) = (Bed::new(flow), flow);
        for kind in kinds(family) {
            let from = ip(&family.client(99, 0));
            let error = bed.error_from_outside(from, *kind, bed.whole());
            let (verdict, out) = bed.send(&error);
            assert_eq!(verdict, Verdict::Forward(INNER));
            let (backend, seen) = ends(&bed.sent_by_backend);
            // The node stands for its clients where it masquerades them.
            let source = if masquerade { ip(&seen) } else { from };
            assert_eq!(ends(&out), (host(source), host(ip(&backend))));
            assert!(checksums_are_right(&out));
            assert_quotes(family, &out, &bed.sent_by_backend, bed.whole());
        }
    }
}

#[test]
fn g10_eight_quoted_bytes_suffice() {
    for flow in flows() {
        let (mut bed, family) = (Bed::new(flow), flow.0);
        for l4_bytes in 8..24 {
            let quoted = family.header_bytes() + l4_bytes;
            let error = bed.error_from_inside(family.router(), kinds(family)[0], quoted);
            let (verdict, out) = bed.send(&error);
            assert_eq!(verdict, Verdict::Forward(OUTER), "{l4_bytes}");
            assert!(checksums_are_right(&out));
            let sent = bed.sent_by_client.clone();
            let is_half_a_checksum = flow.2 && l4_bytes == 17;
            if !is_half_a_checksum {
                let (mut out, mut sent) = (out, sent);
                // TCP's checksum, cut in half, is nobody's.
                if flow.2 && l4_bytes < 18 {
                    out.truncate(family.l4_offset() + 8 + family.header_bytes() + l4_bytes.min(16));
                    sent.truncate(out.len());
                }
                let bytes = out.len() - family.l4_offset() - 8;
                assert_quotes(family, &out, &bed.sent_by_client, bytes);
            }
        }
        let less = family.header_bytes() + 7;
        let error = bed.error_from_inside(family.router(), kinds(family)[0], less);
        assert_eq!(bed.send(&error), (Verdict::Pass(PassReason::NoService), error));
    }
}

#[test]
fn g10_a_quoted_datagram_without_checksum_keeps_none() {
    let mut bed = Bed::new((Family::V4, true, false));
    bed.got_by_backend[40..42].fill(0);
    let error = bed.error_from_inside(Family::V4.router(), 3, bed.whole());
    let (_, out) = bed.send(&error);
    assert_eq!(out[42 + 26..42 + 28], [0, 0]);
    assert!(checksums_are_right(&out));
}

/// Anybody can send an error: it neither keeps a flow alive nor ends it.
#[test]
fn g10_an_error_changes_nothing_of_its_flow() {
    for flow in flows() {
        let mut bed = Bed::new(flow);
        let key = parse(&bed.sent_by_client).unwrap().key;
        let state = |bed: &Bed| {
            let flows = &bed.pipeline.flows;
            let (id, _) = flows.find(&key, flows.hash(&key)).unwrap();
            let entry = flows.entry(id).unwrap();
            (entry.state, entry.last_seen_ms, entry.client_mac, entry.key(Direction::Reply))
        };
        let before = state(&bed);
        for error in [
            bed.error_from_inside(flow.0.router(), kinds(flow.0)[0], bed.whole()),
            bed.error_from_outside(ip(&flow.0.client(7, 0)), kinds(flow.0)[0], bed.whole()),
        ] {
            let mut other_mac = error.clone();
            other_mac[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            let (verdict, _) = send(&mut bed.pipeline, &bed.snapshot, &other_mac, later(5));
            assert!(matches!(verdict, Verdict::Forward(_)));
            assert_eq!(state(&bed), before);
        }
    }
}

#[test]
fn g10_an_error_is_handed_to_the_flows_owner_and_only_once() {
    for family in Family::ALL {
        let fixture = fixture(family);
        let snapshot = fixture.snapshot();
        let [mut first, mut second] = two_workers(&fixture);
        let sent = udp_frame(&client(family), family.front(), b"");
        let (_, got) = send(&mut first, &snapshot, &sent, NOW);
        let error = icmp_error(family.router(), (kinds(family)[0], 0), &got);
        let (verdict, out) = send(&mut second, &snapshot, &error, NOW);
        assert_eq!((verdict, &out), (Verdict::HandOff(WorkerId(0)), &error));
        let process = |pipeline: &mut Pipeline| {
            let mut buffer = error.clone();
            let mut packet = Packet::new(&mut buffer, error.len(), INNER);
            (packet.is_handed, packet.owner) = (true, Some(WorkerId(0)));
            pipeline.process(core::slice::from_mut(&mut packet), &snapshot, NOW);
            packet.verdict
        };
        assert_eq!(process(&mut first), Verdict::Forward(OUTER));
        assert_eq!(process(&mut second), Verdict::Drop(DropReason::FlowStateInvalid));
    }
}

#[test]
fn g10_an_error_about_a_flow_of_the_kernel_goes_to_the_kernel_untouched() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let sent = udp_frame(family.front(), &family.client(77, 77), b"");
        let error = icmp_error(family.router(), (kinds(family)[0], 0), &sent);
        let (verdict, out) = send(&mut pipeline, &snapshot, &error, NOW);
        assert_eq!((verdict, out), (Verdict::Pass(PassReason::FrontGone), error));
    }
}

#[test]
fn g10_messages_that_are_no_errors_go_to_the_kernel() {
    for family in Family::ALL {
        let mut bed = Bed::new((family, true, false));
        for kind in 0..=255 {
            let error = bed.error_from_inside(family.router(), kind, bed.whole());
            let (verdict, _) = bed.send(&error);
            let is_error = kinds(family).contains(&kind);
            assert_eq!(verdict == Verdict::Pass(PassReason::NoService), !is_error, "{kind}");
        }
    }
}

#[test]
fn no_error_is_answered_with_an_error() {
    for family in Family::ALL {
        let mut bed = Bed::new((family, true, true));
        let mut error =
            bed.error_from_outside(ip(&family.client(9, 0)), kinds(family)[0], bed.whole());
        error[family.ttl_offset()] = 1;
        assert_eq!(bed.send(&error), (Verdict::Drop(DropReason::TtlExceeded), error.clone()));
        error[family.ttl_offset()] = 64;
        let small = |hop: &NextHop| NextHop { mtu_bytes: 60, ..hop.clone() };
        bed.snapshot.next_hops = bed.snapshot.next_hops.iter().map(small).collect();
        assert_eq!(bed.send(&error), (Verdict::Drop(DropReason::PktTooBig), error));
    }
}

/// The road's packets are finished first: an error has nothing to finish.
#[test]
fn an_error_goes_back_to_the_kernel_as_it_came() {
    for family in Family::ALL {
        let bed = Bed::new((family, true, false));
        let error = bed.error_from_inside(family.router(), kinds(family)[0], bed.whole());
        let mut finished = error.clone();
        crate::pipeline::finish_checksum(&mut finished);
        assert_eq!(finished, error);
    }
}
