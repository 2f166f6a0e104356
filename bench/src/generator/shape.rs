//! What the packets of a load are: how long, and whether datagrams or the first of connections.

use super::Route;
use super::frame::{FRAME_BYTES, Template};
use anyhow::{Context as _, Result, ensure};
use core::str::FromStr;

/// Bytes of the frame check sequence, which counts in names and never stands in memory.
const CHECK_BYTES: u16 = 4;

/// Sizes after which they begin anew. The same in `bpf/blast.bpf.c`.
pub(super) const SIZES: usize = 12;

/// The simple IMIX: 7 of 64, 4 of 570 and 1 of 1,518 bytes, mixed.
const IMIX: [u16; SIZES] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

/// How long frames are, with their frame check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Size {
    /// All alike, 64 to 1,518 bytes.
    Bytes(u16),
    /// Seven of 64, four of 570, one of 1,518.
    Imix,
}

impl Size {
    /// Ethernet's least.
    pub(crate) const LEAST: Self = Self::Bytes(64);

    /// Bytes in memory of one frame after another.
    pub(crate) fn frame_bytes(self) -> [u16; SIZES] {
        let with_check = match self {
            Self::Bytes(bytes) => [bytes; SIZES],
            Self::Imix => IMIX,
        };
        with_check.map(|bytes| bytes - CHECK_BYTES)
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Self::Imix);
        }
        let bytes = text.parse().context("neither `imix` nor a number of bytes")?;
        ensure!((64..=1518).contains(&bytes), "frames have 64 to 1518 bytes, not {bytes}");
        Ok(Self::Bytes(bytes))
    }
}

impl core::fmt::Display for Size {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Imix => f.write_str("IMIX"),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// What the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Shape {
    /// UDP of this size.
    Datagrams(Size),
    /// TCP SYNs, the first packets of connections, in frames of 64 bytes.
    Openings,
}

impl Shape {
    pub(super) fn frame_bytes(self) -> [u16; SIZES] {
        match self {
            Self::Datagrams(size) => size.frame_bytes(),
            Self::Openings => Size::LEAST.frame_bytes(),
        }
    }
}

/// A SYN from `route`'s source without its port, in the form of [`Template`].
pub(super) fn opening(route: &Route) -> Template {
    let Template { mut bytes, address_low, .. } = Template::new(route);
    // IP length, protocol; then TCP's sequence number, header of five words, SYN, window.
    bytes[17] = 40;
    bytes[23] = 6;
    bytes[38..FRAME_BYTES].fill(0);
    bytes[40] = 0x10;
    bytes[46..50].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    let pseudo = u32::from(6u16.to_be()) + u32::from(20u16.to_be());
    let (ip_sum, udp_sum) = (sum(&bytes[14..34]), sum(&bytes[26..54]) + pseudo);
    Template { bytes, address_low, ip_sum, udp_sum }
}

/// The sum of 16-bit words in the machine's order (RFC 1071 section 2B).
fn sum(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_with_their_check_sequence() {
        assert_eq!("64".parse::<Size>().unwrap(), Size::LEAST);
        assert_eq!("imix".parse::<Size>().unwrap(), Size::Imix);
        assert!("63".parse::<Size>().is_err() && "1519".parse::<Size>().is_err());
        assert_eq!(Size::LEAST.frame_bytes(), [60; SIZES]);
    }

    #[test]
    fn the_mix_is_seven_four_one() {
        let mut bytes = Size::Imix.frame_bytes();
        bytes.sort_unstable();
        assert_eq!(bytes[..7], [60; 7]);
        assert_eq!(bytes[7..11], [566; 4]);
        assert_eq!(bytes[11], 1514);
    }
}
