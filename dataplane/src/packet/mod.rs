//! Bytes on the wire: header views and checksums. No state, no I/O.

pub mod checksum;
pub mod extension;
pub mod headers;
pub mod icmp;
pub mod ip;
pub mod options;
pub mod vlan;
