//! Datagrams in fragments, and whole again.

use super::with_extensions;
use etherparse::Ipv4Header;

const ETHERNET: usize = 14;
const FRAGMENT_HEADER: u8 = 44;

/// Cuts the packet of a frame into fragments with `payload_bytes` of the datagram each, a multiple
/// of 8. IPv4 without options, IPv6 without extension headers; the number is made of the payload.
pub fn fragments(frame: &[u8], payload_bytes: usize) -> Vec<Vec<u8>> {
    assert!(frame.len() > 54 && payload_bytes.is_multiple_of(8));
    let is_v4 = frame[12] == 8;
    let start = if is_v4 { 34 } else { 54 };
    let id = frame[start..].iter().fold(1u32, |id, byte| id.wrapping_mul(31) ^ u32::from(*byte));
    let chunks = frame[start..].chunks(payload_bytes);
    let count = chunks.len();
    let piece = |(at, data): (usize, &[u8])| {
        let piece = [&frame[..start], data].concat();
        let offset = u16::try_from(at * payload_bytes / 8).unwrap();
        let has_more = at + 1 < count;
        if is_v4 {
            fragment_v4(piece, id, offset, has_more)
        } else {
            fragment_v6(piece, id, offset, has_more)
        }
    };
    chunks.enumerate().map(piece).collect()
}

fn fragment_v4(mut piece: Vec<u8>, id: u32, offset: u16, has_more: bool) -> Vec<u8> {
    let total = u16::try_from(piece.len() - ETHERNET).unwrap();
    let mut header = Ipv4Header::from_slice(&piece[ETHERNET..]).unwrap().0;
    header.total_len = total;
    header.identification = u16::try_from(id & 0xffff).unwrap();
    (header.dont_fragment, header.more_fragments) = (false, has_more);
    header.fragment_offset = offset.try_into().unwrap();
    header.header_checksum = header.calc_header_checksum();
    piece[ETHERNET..ETHERNET + 20].copy_from_slice(&header.to_bytes());
    piece
}

fn fragment_v6(piece: Vec<u8>, id: u32, offset: u16, has_more: bool) -> Vec<u8> {
    let mut piece = with_extensions(piece, &[(FRAGMENT_HEADER, 8)]);
    // The length byte is zero here.
    piece[55] = 0;
    piece[56..58].copy_from_slice(&(offset << 3 | u16::from(has_more)).to_be_bytes());
    piece[58..62].copy_from_slice(&id.to_be_bytes());
    piece
}

/// The frame that was cut into these, given in any order. `None` unless all are there, and the last
/// alone says that no more follow.
pub fn reassembled(fragments: &[Vec<u8>]) -> Option<Vec<u8>> {
    let first = fragments.first()?;
    let is_v4 = first.get(12) == Some(&8);
    let mut parts: Vec<(usize, bool, &[u8])> = fragments
        .iter()
        .map(|frame| {
            assert!(frame.len() > 62);
            let at = if is_v4 { 20 } else { 56 };
            let word = u16::from_be_bytes([frame[at], frame[at + 1]]);
            if is_v4 {
                (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0, &frame[34..])
            } else {
                (usize::from(word & 0xfff8), word & 1 != 0, &frame[62..])
            }
        })
        .collect();
    parts.sort_unstable();
    let mut payload = Vec::new();
    for (number, (offset, has_more, data)) in (1..).zip(&parts) {
        let is_last = number == parts.len();
        (*offset == payload.len() && *has_more != is_last).then_some(())?;
        payload.extend_from_slice(data);
    }
    Some(if is_v4 { whole_v4(first, &payload) } else { whole_v6(first, &payload) })
}

fn whole_v4(first: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header::from_slice(&first[ETHERNET..]).unwrap().0;
    header.total_len = u16::try_from(20 + payload.len()).unwrap();
    (header.more_fragments, header.fragment_offset) = (false, 0.try_into().unwrap());
    header.header_checksum = header.calc_header_checksum();
    [&first[..ETHERNET], &header.to_bytes(), payload].concat()
}

fn whole_v6(first: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(first.len() > 54);
    let mut frame = [&first[..54], payload].concat();
    let length = u16::try_from(payload.len()).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[20] = first[54];
    frame
}
