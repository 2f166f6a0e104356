//! What packets of flows that are not plain need besides new addresses.

use crate::flow_table::{Direction, FlowEntry, FlowKind, FlowState, Proxy};
use crate::packet::checksum::{self, Sum, difference};
use crate::packet::headers::tcp_flags::{ACK, RST, SYN};
use crate::packet::headers::{ETHERNET_BYTES, IPV6_BYTES, TCP_BYTES_MIN};
use crate::pipeline::flow::link;
use crate::pipeline::generated::Generated;
use crate::pipeline::packet::{Headers, Packet, PacketKind};
use crate::pipeline::rewrite::{is_partial, rewrite_ethernet};
use crate::pipeline::tcp::options::move_sack_blocks;
use crate::pipeline::tcp::segment::{Segment, tcp_of};
use crate::pipeline::tcp::syn_proxy::{Answer, hear_backend, open_to_backend};
use crate::snapshot::Snapshot;
use crate::verdict::DropReason;

/// The longest frame of a segment without options or data: over IPv6.
const BARE_FRAME_BYTES_MAX: usize = ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES_MIN;

const CHECKSUM: core::ops::Range<usize> = 16..18;

/// Makes of a packet what the other side must see, but for addresses and ports. It is unchanged
/// where it is dropped.
#[cold]
pub(in crate::pipeline) fn beyond_addresses(
    (entry, direction): (&mut FlowEntry, Direction),
    packet: &mut Packet<'_>,
    (snapshot, generated): (&Snapshot, &mut Generated),
) -> Result<(), DropReason> {
    let is_reply = direction == Direction::Reply;
    let flags = packet.headers.tcp_flags;
    match entry.kind {
        // It is established once its backend answers: the backend knows of it.
        FlowKind::PickedUp if is_reply && flags & RST == 0 => {
            entry.kind = FlowKind::Plain;
            establish(entry);
        }
        FlowKind::Plain | FlowKind::PickedUp => {}
        FlowKind::ProxyOpening if packet.headers.kind != PacketKind::Whole => {
            return Err(DropReason::FlowStateInvalid);
        }
        FlowKind::ProxyOpening if is_reply => {
            let cookie = entry.proxy.sequence;
            return hear((entry, cookie), packet, (snapshot, generated));
        }
        FlowKind::ProxyOpening => {
            open_to_backend(packet, &mut entry.proxy).ok_or(DropReason::Nomem)?;
        }
        FlowKind::ProxyOpen if is_reply && is_repeated(packet, &entry.proxy) => {
            // The flow keeps what the cookie made of the backend's number when it came first.
            let isn = tcp_of(packet).map_or(0, |(tcp, _)| u32::from_be_bytes(tcp.sequence));
            let cookie = isn.wrapping_sub(entry.proxy.sequence);
            return hear((entry, cookie), packet, (snapshot, generated));
        }
        FlowKind::ProxyOpen => translate(packet, &mut entry.proxy, direction),
    }
    Ok(())
}

/// Both sides know of the flow now. One that was reset meanwhile stays so.
fn establish(entry: &mut FlowEntry) {
    if entry.state.is_handshake() {
        entry.state = FlowState::Established;
    }
}

/// Whether a client's SYN is not the one whose handshake we have under way for it.
#[cold]
pub(in crate::pipeline) fn is_another_syn(entry: &FlowEntry, packet: &Packet<'_>) -> bool {
    let is_it = |isn: u32| isn == entry.proxy.client_isn;
    let isn = tcp_of(packet).map(|(tcp, _)| u32::from_be_bytes(tcp.sequence));
    entry.kind == FlowKind::ProxyOpening && !isn.is_some_and(is_it)
}

/// How far a sequence number that the client saw lies below what its backend wrote.
pub(in crate::pipeline) fn distance(entry: &FlowEntry) -> u32 {
    if entry.kind == FlowKind::ProxyOpen { entry.proxy.sequence } else { 0 }
}

fn is_repeated(packet: &Packet<'_>, proxy: &Proxy) -> bool {
    let headers = &packet.headers;
    let next = proxy.client_isn.wrapping_add(1).to_be_bytes();
    headers.kind == PacketKind::Whole
        && headers.tcp_flags & (SYN | ACK | RST) == SYN | ACK
        && tcp_of(packet).is_some_and(|(tcp, _)| tcp.acknowledgment == next)
}

/// Acts on what a backend says to our handshake, which the client began with this cookie.
fn hear(
    (entry, cookie): (&mut FlowEntry, u32),
    packet: &mut Packet<'_>,
    (snapshot, generated): (&Snapshot, &mut Generated),
) -> Result<(), DropReason> {
    let towards = link(entry, Direction::Forward, snapshot)?;
    if !generated.has_room(1, BARE_FRAME_BYTES_MAX) {
        return Err(DropReason::Nomem);
    }
    let mut make = |segment: &Segment<'_>| {
        let frame = generated.add(towards.egress, segment.frame_bytes()).unwrap_or_default();
        // It has room for it, since it is as long.
        segment.write(frame);
        rewrite_ethernet(frame, &towards);
        write_ethertype(frame, segment.key.src.is_v4());
    };
    match hear_backend(packet, &mut entry.proxy, cookie).ok_or(DropReason::HdrTrunc)? {
        Answer::Taken(acknowledgment) => {
            make(&acknowledgment);
            if entry.kind == FlowKind::ProxyOpening {
                entry.kind = FlowKind::ProxyOpen;
                establish(entry);
            }
            Ok(())
        }
        Answer::Refused => Ok(()),
        Answer::Stray(reset) => {
            reset.iter().for_each(make);
            Err(DropReason::FlowStateInvalid)
        }
    }
}

fn write_ethertype(frame: &mut [u8], is_v4: bool) {
    use crate::packet::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
    let ethertype = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    if let Some(place) = frame.get_mut(ETHERNET_BYTES - 2..ETHERNET_BYTES) {
        place.copy_from_slice(&ethertype.to_be_bytes());
    }
}

/// Sequence numbers, acknowledgments and windows, from one side's to the other's. The checksum
/// follows, unless the hardware was to fill it in: then the whole of it is made with the addresses.
fn translate(packet: &mut Packet<'_>, proxy: &mut Proxy, direction: Direction) {
    let headers = packet.headers;
    if matches!(headers.kind, PacketKind::LaterFragment(_)) {
        return;
    }
    let Some(header) = tcp_header_mut(packet, &headers) else { return };
    let Some(stored) = header.get(CHECKSUM).and_then(|field| field.first_chunk().copied()) else {
        return;
    };
    let before = Sum::default().add_bytes(header);
    match direction {
        Direction::Forward => to_backend(header, proxy, headers.tcp_flags),
        Direction::Reply => to_client(header, proxy, headers.tcp_flags),
    }
    let is_whole = headers.kind == PacketKind::Whole;
    if is_whole && is_partial(&headers, stored) {
        return;
    }
    let change = difference(Sum::default().add_bytes(header), before);
    let sum = checksum::updated(stored, Sum::default().add_folded(change));
    if let Some(field) = header.get_mut(CHECKSUM) {
        field.copy_from_slice(&sum);
    }
}

/// The TCP header with its options.
fn tcp_header_mut<'p>(packet: &'p mut Packet<'_>, headers: &Headers) -> Option<&'p mut [u8]> {
    let start = usize::from(headers.l4_offset);
    let l4 = packet.bytes_mut().get_mut(start..start + usize::from(headers.l4_bytes))?;
    let header_bytes = usize::from(*l4.get(12)? >> 4) * 4;
    l4.get_mut(..header_bytes)
}

fn to_backend(header: &mut [u8], proxy: &mut Proxy, flags: u8) {
    let Some((fixed, options)) = header.split_first_chunk_mut::<TCP_BYTES_MIN>() else { return };
    if flags & ACK != 0 {
        add(fixed, 8, proxy.sequence);
        move_sack_blocks(options, proxy.sequence);
    }
    if flags & SYN == 0 {
        proxy.window = window(fixed);
        set_window(fixed, proxy.window_to_backend(proxy.window));
    }
}

fn to_client(header: &mut [u8], proxy: &Proxy, flags: u8) {
    let Some((fixed, _)) = header.split_first_chunk_mut::<TCP_BYTES_MIN>() else { return };
    add(fixed, 4, proxy.sequence.wrapping_neg());
    if flags & SYN == 0 {
        set_window(fixed, proxy.window_to_client(window(fixed), false));
    }
}

/// Adds to the number of four bytes that stands at `at`, wrapping.
pub(in crate::pipeline) fn add(bytes: &mut [u8], at: usize, by: u32) {
    if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *field = u32::from_be_bytes(*field).wrapping_add(by).to_be_bytes();
    }
}

fn window(fixed: &[u8; TCP_BYTES_MIN]) -> u16 {
    u16::from_be_bytes([fixed[14], fixed[15]])
}

fn set_window(fixed: &mut [u8; TCP_BYTES_MIN], window: u16) {
    fixed[14..16].copy_from_slice(&window.to_be_bytes());
}
