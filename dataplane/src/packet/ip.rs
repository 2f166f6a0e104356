//! IP headers of packets that we make ourselves.

use crate::packet::checksum::Sum;
use crate::packet::headers::{IPV4_BYTES_MIN, IPV6_BYTES};
use crate::types::FlowKey;

/// The TTL or hop limit of what we send (RFC 1700; Linux's default).
const TTL: u8 = 64;

/// What an IP header of ours says besides its addresses.
#[derive(Debug, Clone, Copy)]
pub struct IpFields {
    /// IANA's number of what follows.
    pub protocol: u8,
    /// IPv4's DSCP and ECN; IPv6's are 0.
    pub tos: u8,
    /// IPv4's DF bit; IPv6 has no other way.
    pub is_whole: bool,
}

/// Bytes of the header that [`write()`] writes between these addresses.
#[inline]
pub fn header_bytes(key: &FlowKey) -> usize {
    if key.src.is_v4() { IPV4_BYTES_MIN } else { IPV6_BYTES }
}

/// Writes a header without options or extensions. `None` if there is too little room, or too much
/// payload.
pub fn write(
    header: &mut [u8],
    key: &FlowKey,
    fields: IpFields,
    payload_bytes: usize,
) -> Option<()> {
    if key.src.is_v4() {
        write_ipv4(header, key, fields, payload_bytes)
    } else {
        write_ipv6(header, key, fields, payload_bytes)
    }
}

fn write_ipv4(
    header: &mut [u8],
    key: &FlowKey,
    fields: IpFields,
    payload_bytes: usize,
) -> Option<()> {
    let header = header.first_chunk_mut::<IPV4_BYTES_MIN>()?;
    let [high, low] = u16::try_from(IPV4_BYTES_MIN + payload_bytes).ok()?.to_be_bytes();
    let IpFields { protocol, tos, is_whole } = fields;
    let flags = if is_whole { 0x40 } else { 0 };
    *header = [0x45, tos, high, low, 0, 0, flags, 0, TTL, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&key.src.v4_bytes());
    header[16..20].copy_from_slice(&key.dst.v4_bytes());
    let sum = Sum::default().add_bytes(header).finish();
    header[10..12].copy_from_slice(&sum);
    Some(())
}

fn write_ipv6(
    header: &mut [u8],
    key: &FlowKey,
    fields: IpFields,
    payload_bytes: usize,
) -> Option<()> {
    let header = header.first_chunk_mut::<IPV6_BYTES>()?;
    let [high, low] = u16::try_from(payload_bytes).ok()?.to_be_bytes();
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, fields.protocol, TTL]);
    header[8..24].copy_from_slice(key.src.bytes());
    header[24..].copy_from_slice(key.dst.bytes());
    Some(())
}
