//! IPv4 packets that leave in pieces (semantics G10). etherparse reads them.

use super::answers::{both_ways, with_mtu};
use super::vlans::{tagged, untagged};
use super::{NOW, client, fixture, rig, to_backend};
use crate::packet::checksum::pseudo_header;
use crate::packet::headers::tcp_flags::SYN;
use crate::pipeline::parse::parse;
use crate::pipeline::{PIECES_MAX, Packet, Pipeline};
use crate::snapshot::{NextHop, Snapshot};
use crate::testing::{
    BACKEND_MAC, Family, Fixture, GATEWAY_INNER_MAC, INNER, OUTER, checksums_are_right, ends,
    fragments, icmp_error, reassembled, send, tcp_frame, udp_frame,
};
use crate::types::{BURST_FRAMES_MAX, InterfaceSlot};
use crate::verdict::{DropReason, Verdict};
use etherparse::Ipv4Header;

const MTU: u16 = 600;
const TOO_BIG: Verdict = Verdict::Drop(DropReason::PktTooBig);

/// The bytes of the header that say whether it may be cut, and which piece it is.
const PLACE: core::ops::Range<usize> = 20..22;

fn header(frame: &[u8]) -> Ipv4Header {
    Ipv4Header::from_slice(&frame[14..]).unwrap().0
}

/// Lets a packet be cut, and gives it a number.
fn cuttable(frame: &[u8]) -> Vec<u8> {
    let mut header = header(frame);
    (header.dont_fragment, header.identification) = (false, 0x1234);
    header.header_checksum = header.calc_header_checksum();
    let behind = 14 + header.header_len();
    [&frame[..14], &header.to_bytes(), &frame[behind..]].concat()
}

/// Sends a packet, which must leave by `egress`. Returns what leaves: as many pieces as there are.
fn pieces_of(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    frame: &[u8],
    egress: InterfaceSlot,
) -> Vec<Vec<u8>> {
    let (verdict, first) = send(pipeline, snapshot, frame, NOW);
    assert_eq!(verdict, Verdict::Forward(egress));
    let mut pieces = vec![first];
    for made in pipeline.generated().iter() {
        assert_eq!(made.egress, egress);
        pieces.push(made.bytes.to_vec());
    }
    pipeline.generated_mut().clear();
    pieces
}

/// Every piece fits, its header is right, and each but the last is as large as may be.
fn check(pieces: &[Vec<u8>]) {
    let room = usize::from(MTU) - header(&pieces[0]).header_len();
    for (number, piece) in pieces.iter().enumerate() {
        let header = header(piece);
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), piece.len() - 14);
        assert_eq!(piece[..14], pieces[0][..14], "the link's header");
        let data = piece.len() - 14 - header.header_len();
        let is_last = number + 1 == pieces.len();
        assert!(if is_last { data <= room } else { data == room - room % 8 }, "{data}");
    }
}

#[test]
fn g10_a_large_packet_leaves_in_pieces_in_both_directions() {
    for masquerade in [true, false] {
        for bytes in [600, 700, 1400] {
            let (fixture, frames) = both_ways(Family::V4, masquerade, &vec![7; bytes]);
            let (mut wide, snapshot) = rig(&fixture);
            let (mut pipeline, _) = rig(&fixture);
            let narrow = with_mtu(snapshot.clone(), MTU);
            for (frame, egress) in frames.iter().zip([INNER, OUTER]) {
                let frame = cuttable(frame);
                let (_, whole) = send(&mut wide, &snapshot, &frame, NOW);
                let pieces = pieces_of(&mut pipeline, &narrow, &frame, egress);
                assert_eq!(pieces.len(), (bytes + 8).div_ceil(576));
                check(&pieces);
                assert_eq!(reassembled(&pieces), Some(whole), "as over a wide link");
            }
            let work = &pipeline.flows.counters().work;
            assert_eq!(work.fragmented_packets.get(), 2);
        }
    }
}

/// A packet counts once, with all its bytes: it is its backend's however it leaves.
#[test]
fn what_is_cut_counts_as_one_packet_of_its_backend() {
    let (fixture, frames) = both_ways(Family::V4, true, &[7; 1400]);
    let (mut pipeline, snapshot) = rig(&fixture);
    pieces_of(&mut pipeline, &with_mtu(snapshot, MTU), &cuttable(&frames[0]), INNER);
    let counters = pipeline.flows.counters();
    let all = (1..=3).map(|n| counters.backend(crate::types::BackendSlot(n)));
    let seen: Vec<_> = all.map(|b| (b.forward_packets.get(), b.forward_bytes.get())).collect();
    assert_eq!(seen.iter().max(), Some(&(1, 1442)));
    assert_eq!(seen.iter().map(|(packets, _)| packets).sum::<u64>(), 1);
}

#[test]
fn g10_pieces_of_a_fragment_keep_its_place() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let narrow = with_mtu(snapshot, MTU);
    let payload: Vec<u8> = (0..4000_u16).map(|n| n.to_be_bytes()[1]).collect();
    let datagram = udp_frame(&client(Family::V4), Family::V4.front(), &payload);
    let mut out = Vec::new();
    for fragment in fragments(&datagram, 1440) {
        let pieces = pieces_of(&mut pipeline, &narrow, &fragment, INNER);
        assert_eq!(pieces.len(), fragment.len().div_ceil(610));
        check(&pieces);
        out.extend(pieces);
    }
    assert_eq!(out.len(), 8, "three, three, and two");
    let whole = reassembled(&out).unwrap();
    assert!(checksums_are_right(&whole));
    assert_eq!(whole[42..], payload);
}

#[test]
fn g10_later_pieces_have_the_copied_options_alone() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let mut frame = udp_frame(&client(Family::V4), Family::V4.front(), &[7; 1000]);
    // A record route with room for one address, and the router alert, which is copied.
    frame.splice(34..34, [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0]);
    frame[14] = 0x48;
    frame[16..18].copy_from_slice(&1040_u16.to_be_bytes());
    let pieces = pieces_of(&mut pipeline, &with_mtu(snapshot, MTU), &cuttable(&frame), INNER);
    check(&pieces);
    let options: Vec<_> = pieces.iter().map(|piece| piece[34..46].to_vec()).collect();
    let later = [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0];
    assert_eq!(options, [&frame[34..46], &later[..]]);
    let data: Vec<_> = pieces.iter().flat_map(|piece| piece[46..].to_vec()).collect();
    assert_eq!(data[8..], [7; 1000]);
}

/// 31 pieces of 48 bytes and one of 8 at the least MTU there is.
#[test]
fn more_pieces_than_we_cut_are_dropped_by_name_and_unchanged() {
    let (fixture, _) = both_ways(Family::V4, true, b"");
    let (mut pipeline, snapshot) = rig(&fixture);
    let narrow = with_mtu(snapshot.clone(), 68);
    let of = |bytes| cuttable(&udp_frame(&client(Family::V4), Family::V4.front(), &vec![7; bytes]));
    let fits = pieces_of(&mut pipeline, &narrow, &of(PIECES_MAX * 48 - 8), INNER);
    assert_eq!(fits.len(), PIECES_MAX);
    let above = of(PIECES_MAX * 48 - 7);
    assert_eq!(send(&mut pipeline, &narrow, &above, NOW), (TOO_BIG, above));
    // No room for any data at all.
    let frame = of(100);
    let none = with_mtu(snapshot, 27);
    assert_eq!(send(&mut pipeline, &none, &frame, NOW), (TOO_BIG, frame));
    assert!(pipeline.generated().is_empty());
}

/// Its pieces would be of another place: the field for it has 13 bits.
#[test]
fn a_fragment_behind_the_end_of_all_datagrams_is_not_cut() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let narrow = with_mtu(snapshot, MTU);
    let datagram = udp_frame(&client(Family::V4), Family::V4.front(), &[7; 2000]);
    let [first, mut later] = fragments(&datagram, 1200).try_into().unwrap();
    pieces_of(&mut pipeline, &narrow, &first, INNER);
    later[PLACE].copy_from_slice(&8088_u16.to_be_bytes());
    assert_eq!(pieces_of(&mut pipeline, &narrow, &later, INNER).len(), 2, "the last that may be");
    later[PLACE].copy_from_slice(&8089_u16.to_be_bytes());
    assert_eq!(send(&mut pipeline, &narrow, &later, NOW), (TOO_BIG, later));
}

#[test]
fn a_tagged_clients_pieces_have_the_tag() {
    const TAG: [u8; 2] = [0x60, 7];
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let question = udp_frame(&client(Family::V4), Family::V4.front(), b"question");
    let (_, out) = send(&mut pipeline, &snapshot, &tagged(&question, TAG), NOW);
    let (seen, pod) = ends(&out);
    let answer = cuttable(&udp_frame(&pod, &seen, &[9; 1400]));
    let pieces = pieces_of(&mut pipeline, &with_mtu(snapshot, MTU), &answer, OUTER);
    let pieces: Vec<_> = pieces.iter().map(|piece| untagged(piece, TAG)).collect();
    check(&pieces);
    let whole = reassembled(&pieces).unwrap();
    assert!(checksums_are_right(&whole));
    assert_eq!(ends(&whole), (Family::V4.front().into(), client(Family::V4)));
}

/// What a stack left to the hardware is finished before: no piece has the whole packet.
#[test]
fn a_partial_checksum_is_finished_before_the_cut() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let mut frame = cuttable(&tcp_frame(&client(Family::V4), Family::V4.front(), SYN, &[7; 1400]));
    let headers = parse(&frame).unwrap();
    let pseudo = pseudo_header(&headers.key, headers.l4_bytes.into());
    frame[50..52].copy_from_slice(&pseudo.fold().to_ne_bytes());
    let pieces = pieces_of(&mut pipeline, &with_mtu(snapshot, MTU), &frame, INNER);
    assert!(checksums_are_right(&reassembled(&pieces).unwrap()));
}

#[test]
fn an_error_about_a_flow_may_be_cut_too() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    let question = udp_frame(&client(Family::V4), Family::V4.front(), &[7; 1000]);
    let (seen, pod) = to_backend(&mut pipeline, &snapshot, &question);
    let quoted = udp_frame(&seen, &pod, &[7; 1000]);
    let error = cuttable(&icmp_error(Family::V4.router(), (3, 1), &quoted));
    let (mut wide, _) = rig(&fixture(Family::V4));
    to_backend(&mut wide, &snapshot, &question);
    let (_, whole) = send(&mut wide, &snapshot, &error, NOW);
    let pieces = pieces_of(&mut pipeline, &with_mtu(snapshot, MTU), &error, OUTER);
    assert_eq!(pieces.len(), 2);
    check(&pieces);
    assert_eq!(reassembled(&pieces), Some(whole));
}

#[test]
fn what_the_syn_proxy_makes_of_a_large_packet_is_not_cut() {
    let fixture = Fixture {
        admission: crate::admission::Admission {
            syn_proxy: crate::admission::SynProxyMode::Always,
            ..crate::admission::Admission::for_flows(1024)
        },
        ..fixture(Family::V4)
    };
    let (mut pipeline, snapshot) = rig(&fixture);
    let (me, front) = (client(Family::V4), Family::V4.front());
    let (_, cookie) = send(&mut pipeline, &snapshot, &tcp_frame(&me, front, SYN, b""), NOW);
    let isn = u32::from_be_bytes(cookie[38..42].try_into().unwrap());
    let mut tcp = etherparse::TcpHeader::new(0, 0, 1001, 65_000);
    (tcp.ack, tcp.acknowledgment_number) = (true, isn.wrapping_add(1));
    let ack = cuttable(&crate::testing::tcp_frame_with(&me, front, tcp, &[7; 1400]));
    let narrow = with_mtu(snapshot, MTU);
    assert_eq!(pieces_of(&mut pipeline, &narrow, &ack, INNER).len(), 1, "a SYN");
    assert_eq!(pipeline.flows.counters().work.fragmented_packets.get(), 0);
}

/// The worker takes what is made once per burst.
#[test]
fn a_whole_burst_may_be_cut_into_as_many_pieces_as_may_be() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V4));
    // Headers with all options: the most bytes.
    let mut frame = udp_frame(&client(Family::V4), Family::V4.front(), &[7; 3970]);
    frame.splice(34..34, [1; 40]);
    frame[14] = 0x4f;
    frame[16..18].copy_from_slice(&4038_u16.to_be_bytes());
    let frame = cuttable(&frame);
    let small = |hop: &NextHop| NextHop { mtu_bytes: 60 + 128, ..hop.clone() };
    let mut narrow = snapshot.clone();
    narrow.next_hops = snapshot.next_hops.iter().map(small).collect();
    let mut buffers = vec![frame.clone(); BURST_FRAMES_MAX];
    let packet = |buffer| Packet::new(buffer, frame.len(), OUTER);
    let mut packets: Vec<_> = buffers.iter_mut().map(|buffer| packet(buffer)).collect();
    pipeline.process(&mut packets, &narrow, NOW);
    assert!(packets.iter().all(|packet| packet.verdict == Verdict::Forward(INNER)));
    assert_eq!(pipeline.generated().len(), BURST_FRAMES_MAX * (PIECES_MAX - 1));
    for made in pipeline.generated().iter() {
        assert!(made.bytes.starts_with(&[BACKEND_MAC, GATEWAY_INNER_MAC].concat()));
        assert!(made.bytes.len() <= 14 + 188);
    }
    // One more finds no room, and stays as it is.
    let frame = cuttable(&udp_frame(&client(Family::V4), Family::V4.front(), &[7; 700]));
    let (verdict, out) = send(&mut pipeline, &narrow, &frame, NOW);
    assert_eq!((verdict, out), (TOO_BIG, frame));
}
