//! TCP segments: what is read of those that come, and those that we make.

use crate::packet::checksum;
use crate::packet::headers::{ETHERNET_BYTES, TCP_BYTES_MIN, Tcp, protocol};
use crate::packet::ip::{self, IpFields};
use crate::pipeline::packet::{Packet, PacketKind};
use crate::pipeline::rewrite::turn_ethernet;
use crate::types::FlowKey;
use zerocopy::FromBytes;

/// A segment without data.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Segment<'o> {
    /// Its own tuple, from its source to its destination.
    pub key: FlowKey,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; 0 without ACK.
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: u8,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Options, padded to words of four bytes; at most 40.
    pub options: &'o [u8],
}

impl Segment<'_> {
    /// How long its frame is.
    pub(in crate::pipeline) fn frame_bytes(&self) -> usize {
        self.start() + TCP_BYTES_MIN + self.options.len()
    }

    /// Where the TCP header begins in its frame.
    fn start(&self) -> usize {
        ETHERNET_BYTES + ip::header_bytes(&self.key)
    }

    /// Writes it behind a frame's Ethernet header. Returns the frame's length; `None` if the frame
    /// is too small.
    pub(in crate::pipeline) fn write(&self, frame: &mut [u8]) -> Option<usize> {
        let frame_bytes = self.frame_bytes();
        let packet = frame.get_mut(ETHERNET_BYTES..frame_bytes)?;
        let (header, l4) = packet.split_at_mut_checked(self.start() - ETHERNET_BYTES)?;
        let fields = IpFields { protocol: protocol::TCP, tos: 0, is_whole: true };
        ip::write(header, &self.key, fields, l4.len())?;
        self.write_tcp(l4)?;
        Some(frame_bytes)
    }

    fn write_tcp(&self, l4: &mut [u8]) -> Option<()> {
        let l4_bytes = l4.len();
        let (header, options) = l4.split_first_chunk_mut::<TCP_BYTES_MIN>()?;
        options.copy_from_slice(self.options);
        header[..2].copy_from_slice(&self.key.src_port.bytes());
        header[2..4].copy_from_slice(&self.key.dst_port.bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledgment.to_be_bytes());
        header[12] = u8::try_from(l4_bytes / 4).ok()? << 4;
        header[13] = self.flags;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[16..].fill(0);
        let sum = checksum::pseudo_header(&self.key, l4_bytes).add_bytes(l4).finish();
        l4.get_mut(16..18)?.copy_from_slice(&sum);
        Some(())
    }

    /// Makes it of the packet that it answers, in its frame: it goes back the way that came.
    pub(in crate::pipeline) fn turn(&self, packet: &mut Packet<'_>) -> Option<()> {
        packet.len = self.write(packet.buffer)?;
        turn_ethernet(packet.buffer)
    }

    /// Makes it of a packet that goes on: what is known of its headers follows.
    pub(in crate::pipeline) fn replace(&self, packet: &mut Packet<'_>) -> Option<()> {
        packet.len = self.write(packet.buffer)?;
        let start = self.start();
        let headers = &mut packet.headers;
        headers.kind = PacketKind::Whole;
        headers.l4_offset = u16::try_from(start).ok()?;
        headers.l4_bytes = u16::try_from(packet.len - start).ok()?;
        headers.ip_bytes = u16::try_from(packet.len - ETHERNET_BYTES).ok()?;
        headers.tcp_flags = self.flags;
        Some(())
    }
}

/// The TCP header of a packet, and all its options.
pub(in crate::pipeline) fn tcp_of<'p>(packet: &'p Packet<'_>) -> Option<(&'p Tcp, &'p [u8])> {
    let l4 = packet.bytes().get(usize::from(packet.headers.l4_offset)..)?;
    let (tcp, rest) = Tcp::ref_from_prefix(l4).ok()?;
    let options_bytes = (usize::from(tcp.offset >> 4) * 4).checked_sub(TCP_BYTES_MIN)?;
    Some((tcp, rest.get(..options_bytes)?))
}
