//! Datagrams in fragments: cut on the way in, put together on the way out. How those are cut on the
//! way is each world's own affair; what a receiver makes of them is not. How a whole packet is cut
//! that a link does not take is the same in both.

use super::setup::Place;
use super::sums::{Checksum, ip_sum};
use anyhow::{Context as _, Result, ensure};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, ip_number};
use std::collections::BTreeMap;

/// How a datagram is sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of the datagram in each piece; a multiple of 8.
    pub(super) bytes: usize,
    /// The last piece first.
    pub(super) is_backward: bool,
}

/// Bytes of the fixed IPv6 header, and of its fragment header.
const IPV6_BYTES: usize = 40;
const FRAGMENT_BYTES: usize = 8;

/// Sends these pieces for an IP packet without options whose number is `id`.
pub(super) fn cut(packet: &[u8], id: u16, cut: Cut) -> Result<Vec<Vec<u8>>> {
    let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let header_bytes = if is_v6 { IPV6_BYTES } else { Ipv4Header::MIN_LEN };
    let (header, payload) = packet.split_at_checked(header_bytes).context("an IP header")?;
    let chunks: Vec<&[u8]> = payload.chunks(cut.bytes).collect();
    let piece = |(index, data): (usize, &&[u8])| {
        let offset = u16::try_from(index * cut.bytes / 8)?;
        let has_more = index + 1 < chunks.len();
        if is_v6 {
            piece_v6(header, (id, offset, has_more), data)
        } else {
            piece_v4(header, (offset, has_more), data)
        }
    };
    let mut pieces = chunks.iter().enumerate().map(piece).collect::<Result<Vec<_>>>()?;
    if cut.is_backward {
        pieces.reverse();
    }
    Ok(pieces)
}

fn piece_v4(header: &[u8], (offset, has_more): (u16, bool), data: &[u8]) -> Result<Vec<u8>> {
    let (mut ip, _) = Ipv4Header::from_slice(header)?;
    (ip.dont_fragment, ip.more_fragments) = (false, has_more);
    ip.fragment_offset = IpFragOffset::try_new(offset)?;
    ip.set_payload_len(data.len())?;
    ip.header_checksum = ip.calc_header_checksum();
    Ok([&ip.to_bytes()[..], data].concat())
}

fn piece_v6(
    header: &[u8],
    (id, offset, has_more): (u16, u16, bool),
    data: &[u8],
) -> Result<Vec<u8>> {
    let mut ip = header.to_vec();
    let next = core::mem::replace(&mut ip[6], ip_number::IPV6_FRAG.0);
    let length = u16::try_from(FRAGMENT_BYTES + data.len())?;
    ip[4..6].copy_from_slice(&length.to_be_bytes());
    let place = (offset << 3 | u16::from(has_more)).to_be_bytes();
    let fragment = [&[next, 0], &place[..], &u32::from(id).to_be_bytes()].concat();
    Ok([&ip, &fragment, data].concat())
}

/// Where a piece belongs.
#[derive(Debug)]
struct Piece {
    /// Whose it is: addresses, protocol and number.
    datagram: Vec<u8>,
    offset: usize,
    has_more: bool,
    /// The IP header as it would be without fragments, but for lengths and sums.
    header: Vec<u8>,
    data: Vec<u8>,
}

/// A packet that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) packet: Vec<u8>,
    /// The pieces that it was in; none if it came whole.
    pub(super) cut: Vec<PieceSeen>,
}

/// What one piece says besides its data: where it begins, how long it is, and the options of all
/// but the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceSeen {
    offset: usize,
    bytes: usize,
    options: Vec<u8>,
}

/// Pieces that wait for the others of their datagram.
#[derive(Debug, Default)]
pub(super) struct Pieces(BTreeMap<(Place, Vec<u8>), Vec<Piece>>);

impl Pieces {
    /// A packet that came out: itself if it is whole, what it completes if it is a piece.
    ///
    /// # Errors
    /// The pieces of one datagram differ in what they may not differ in.
    pub(super) fn take(&mut self, place: Place, packet: &[u8]) -> Result<Option<Whole>> {
        let Some(piece) = piece(packet) else {
            return Ok(Some(Whole { packet: packet.to_vec(), cut: Vec::new() }));
        };
        ensure!(ip_sum(packet) == Checksum::Right, "a fragment with a wrong sum: {packet:02x?}");
        let key = (place, piece.datagram.clone());
        let pieces = self.0.entry(key.clone()).or_default();
        pieces.push(piece);
        pieces.sort_by_key(|piece| piece.offset);
        let whole = whole(pieces)?;
        if whole.is_some() {
            self.0.remove(&key);
        }
        Ok(whole)
    }

    /// Forgets what is incomplete, and returns a line for each piece.
    pub(super) fn give_up(&mut self) -> Vec<String> {
        let all = core::mem::take(&mut self.0);
        let line = |(place, _): &(Place, _), piece: &Piece| {
            let Piece { offset, has_more, header, data, .. } = piece;
            let (number, length) = (&header[..8], data.len());
            let of = &piece.datagram;
            format!(
                "at {place:?}: {length} bytes from {offset}, more: {has_more}, {number:02x?}.., of \
                 {of:02x?}"
            )
        };
        all.iter().flat_map(|(key, pieces)| pieces.iter().map(move |p| line(key, p))).collect()
    }
}

/// `None` where a piece is missing.
fn whole(pieces: &[Piece]) -> Result<Option<Whole>> {
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(None) };
    let mut data = Vec::new();
    for piece in pieces {
        if piece.offset != data.len() {
            return Ok(None);
        }
        // Some options stand in the first alone: what the others have instead is looked at apart.
        let is_same = fixed(&piece.header) == fixed(&first.header)
            && piece.header.len() == first.header.len();
        ensure!(is_same, "headers differ: {first:02x?} and {piece:02x?}");
        data.extend_from_slice(&piece.data);
    }
    if last.has_more {
        return Ok(None);
    }
    let cut = pieces.iter().map(Piece::seen).collect();
    if first.header[0] >> 4 == 6 {
        let mut ip = first.header.clone();
        ip[4..6].copy_from_slice(&u16::try_from(data.len())?.to_be_bytes());
        return Ok(Some(Whole { packet: [ip, data].concat(), cut }));
    }
    let (mut ip, _) = Ipv4Header::from_slice(&first.header)?;
    ip.set_payload_len(data.len())?;
    ip.header_checksum = ip.calc_header_checksum();
    Ok(Some(Whole { packet: [&ip.to_bytes()[..], &data].concat(), cut }))
}

/// The header less IPv4's options.
fn fixed(header: &[u8]) -> &[u8] {
    if header[0] >> 4 == 6 { header } else { &header[..Ipv4Header::MIN_LEN] }
}

impl Piece {
    fn seen(&self) -> PieceSeen {
        let options = self.header[fixed(&self.header).len()..].to_vec();
        let options = if self.offset == 0 { Vec::new() } else { options };
        PieceSeen { offset: self.offset, bytes: self.data.len(), options }
    }
}

fn piece(packet: &[u8]) -> Option<Piece> {
    if packet.first()? >> 4 == 6 { of_v6(packet) } else { of_v4(packet) }
}

fn of_v4(packet: &[u8]) -> Option<Piece> {
    let (mut ip, data) = Ipv4Header::from_slice(packet).ok()?;
    let offset = usize::from(ip.fragment_offset.value()) * 8;
    let has_more = core::mem::take(&mut ip.more_fragments);
    if offset == 0 && !has_more {
        return None;
    }
    ip.fragment_offset = IpFragOffset::default();
    (ip.total_len, ip.header_checksum) = (0, 0);
    let id = ip.identification.to_be_bytes();
    let datagram = [&ip.source[..], &ip.destination, &[ip.protocol.0], &id].concat();
    Some(Piece { datagram, offset, has_more, header: ip.to_bytes().to_vec(), data: data.to_vec() })
}

fn of_v6(packet: &[u8]) -> Option<Piece> {
    let (header, rest) = packet.split_at_checked(IPV6_BYTES)?;
    if IpNumber(header[6]) != ip_number::IPV6_FRAG {
        return None;
    }
    let (fragment, data) = rest.split_first_chunk::<FRAGMENT_BYTES>()?;
    let mut header = header.to_vec();
    let place = u16::from_be_bytes([fragment[2], fragment[3]]);
    let datagram = [&header[8..40], &fragment[4..8], &fragment[..1]].concat();
    header[6] = fragment[0];
    header[4..6].fill(0);
    let (offset, has_more) = (usize::from(place >> 3) * 8, place & 1 == 1);
    Some(Piece { datagram, offset, has_more, header, data: data.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::wire::{Ends, Template, Transport};
    use std::net::SocketAddr;

    #[test]
    fn what_was_cut_is_put_together_in_whatever_order() {
        let v4 = ["192.0.2.10:1000", "192.0.2.1:2000"];
        let v6 = ["[2001:db8::10]:1000", "[2001:db8::1]:2000"];
        for ends in [v4, v6] {
            let [source, destination] = ends.map(|end| end.parse::<SocketAddr>().unwrap());
            let transport = Transport::Udp { has_checksum: true };
            let payload = (0..=255).cycle().take(3000).collect();
            let template =
                Template { ttl: 9, tos: 2, is_df: false, options: vec![], transport, payload };
            let packet = template.write(7, Ends { source, destination }).unwrap();
            for is_backward in [false, true] {
                let pieces = cut(&packet, 7, Cut { bytes: 512, is_backward }).unwrap();
                assert_eq!(pieces.len(), 6);
                let mut store = Pieces::default();
                let mut take = |piece: &Vec<u8>| store.take(Place::Client, piece).unwrap();
                let came: Vec<_> = pieces.iter().filter_map(&mut take).collect();
                let [came] = &came[..] else { panic!("{came:?}") };
                let cut: Vec<_> = came.cut.iter().map(|seen| (seen.offset, seen.bytes)).collect();
                assert_eq!((&came.packet, &cut[..2]), (&packet, &[(0, 512), (512, 512)][..]));
                let whole = Whole { packet: packet.clone(), cut: Vec::new() };
                assert_eq!(take(&packet), Some(whole));
                assert_eq!(take(&pieces[0]), None);
                assert_eq!(store.give_up().len(), 1);
            }
        }
    }

    #[test]
    fn pieces_that_differ_are_told() {
        let template = Template {
            ttl: 9,
            tos: 0,
            is_df: false,
            options: vec![],
            transport: Transport::Udp { has_checksum: true },
            payload: vec![1; 100],
        };
        let ends = Ends {
            source: "[2001:db8::10]:1000".parse().unwrap(),
            destination: "[2001:db8::1]:2000".parse().unwrap(),
        };
        let packet = template.write(7, ends).unwrap();
        let mut pieces = cut(&packet, 7, Cut { bytes: 64, is_backward: false }).unwrap();
        pieces[1][7] = 8;
        let mut store = Pieces::default();
        assert!(store.take(Place::Client, &pieces[0]).is_ok());
        assert!(store.take(Place::Client, &pieces[1]).is_err(), "another hop limit");
    }
}
