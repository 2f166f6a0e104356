//! Frames that the pipeline makes besides those that came: the worker copies them into frames of
//! its own. They are no part of the sum of packets.

use crate::packet::headers::{ETHERNET_BYTES, IPV6_BYTES, TCP_BYTES_MIN};
use crate::types::{BURST_FRAMES_MAX, InterfaceSlot};
use arrayvec::ArrayVec;

/// The longest: a TCP segment over IPv6 without options or data.
pub const GENERATED_BYTES_MAX: usize = ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES_MIN;

/// One of them.
#[derive(Debug, Clone)]
pub struct GeneratedFrame {
    /// Where it leaves.
    pub egress: InterfaceSlot,
    /// Its bytes.
    pub bytes: ArrayVec<u8, GENERATED_BYTES_MAX>,
}

/// Those of a burst: a packet makes one at most, so there is always room if the worker takes them
/// once per burst.
pub type Generated = ArrayVec<GeneratedFrame, BURST_FRAMES_MAX>;
