//! The Internet checksum: in full (RFC 1071) and by difference (RFC 1624).
//!
//! Sums are ones' complement sums of 16-bit words *as they lie in memory*; ones' complement
//! addition does not care about byte order (RFC 1071 section 2 B), so nothing is ever swapped.

use crate::types::FlowKey;

/// A ones' complement sum that is not folded yet. Room for 2^32 words before it could overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds a byte string that starts at an even offset of what is summed.
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let mut sum = u128::from(self.0);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            sum += u128::from(u64::from_ne_bytes(*word));
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        for pair in pairs {
            sum += u128::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            sum += u128::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(fold_128(sum))
    }

    /// Adds four bytes: an IPv4 address. A word of 32 bits is its two halves, once folded.
    #[inline]
    #[must_use]
    pub fn add_four(self, bytes: [u8; 4]) -> Self {
        Self(self.0 + u64::from(u32::from_ne_bytes(bytes)))
    }

    /// Adds one word.
    #[inline]
    #[must_use]
    pub fn add_word(self, word: [u8; 2]) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(word)))
    }

    /// Adds a folded sum or difference.
    #[inline]
    #[must_use]
    pub fn add_folded(self, folded: u16) -> Self {
        Self(self.0 + u64::from(folded))
    }

    /// Folded to 16 bits.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "folded below 2^16")]
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum field that makes the whole sum up to 0xffff.
    #[inline]
    pub fn finish(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }
}

/// Folds a wide sum to at most 33 bits, so that later additions cannot overflow.
#[expect(clippy::cast_possible_truncation, reason = "masked or shifted below 2^64")]
fn fold_128(sum: u128) -> u64 {
    let (low, high) = (sum as u64, (sum >> 64) as u64);
    let folded = (low & 0xffff_ffff) + (low >> 32) + (high & 0xffff_ffff);
    (folded & 0xffff_ffff) + (folded >> 32)
}

/// The difference `new - old` of two sums, to be added to whatever contained `old`.
#[inline]
pub fn difference(new: Sum, old: Sum) -> u16 {
    Sum(u64::from(new.fold()) + u64::from(!old.fold())).fold()
}

/// The opposite difference.
#[inline]
pub const fn negated(difference: u16) -> u16 {
    !difference
}

/// The field `checksum` after its data changed by the sum of these differences (RFC 1624
/// equation 3).
#[inline]
pub fn updated(checksum: [u8; 2], differences: Sum) -> [u8; 2] {
    differences.add_folded(!u16::from_ne_bytes(checksum)).finish()
}

/// The sum over the pseudo-header of a packet with this five-tuple and L4 length (RFC 9293 section
/// 3.1, RFC 8200 section 8.1; the IPv4-mapped prefix is left out for IPv4).
#[inline]
pub fn pseudo_header(key: &FlowKey, l4_bytes: usize) -> Sum {
    pseudo_header_of(key, key.protocol as u8, l4_bytes)
}

/// As [`pseudo_header`], for another protocol between the same addresses.
#[inline]
pub fn pseudo_header_of(key: &FlowKey, protocol: u8, l4_bytes: usize) -> Sum {
    let length = u32::try_from(l4_bytes).unwrap_or(u32::MAX).to_be_bytes();
    address_sum(key).add_four(length).add_word([0, protocol])
}

/// The sum over both addresses of a five-tuple.
#[inline]
pub fn address_sum(key: &FlowKey) -> Sum {
    if key.src.is_v4() {
        return Sum::default().add_four(key.src.v4_bytes()).add_four(key.dst.v4_bytes());
    }
    Sum::default().add_bytes(key.src.bytes()).add_bytes(key.dst.bytes())
}

/// The sum over both ports of a five-tuple.
#[inline]
pub fn port_sum(key: &FlowKey) -> Sum {
    Sum::default().add_word(key.src_port.bytes()).add_word(key.dst_port.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let word = |c: &[u8]| u32::from(u16::from_ne_bytes([c[0], *c.get(1).unwrap_or(&0)]));
        let mut sum: u32 = bytes.chunks(2).map(word).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_sum_equals_the_textbooks() {
        bolero::check!().for_each(|bytes: &[u8]| {
            assert_eq!(Sum::default().add_bytes(bytes).fold(), naive(bytes));
        });
        let ones = vec![0xff; 65_536];
        assert_eq!(Sum::default().add_bytes(&ones).fold(), 0xffff);
    }

    #[test]
    fn an_incremental_update_equals_the_full_sum() {
        let cases = bolero::check!().with_type::<([u8; 20], [u8; 8], u8)>();
        cases.for_each(|(before, change, at)| {
            let at = usize::from(at % 6) * 2;
            let mut after = *before;
            after[at..at + 8].copy_from_slice(change);
            let old = Sum::default().add_bytes(&before[at..at + 8]);
            let new = Sum::default().add_bytes(change);
            let checksum = Sum::default().add_bytes(before).finish();
            let delta = difference(new, old);
            let there = updated(checksum, Sum::default().add_folded(delta));
            let full = Sum::default().add_bytes(&after).finish();
            // 0 has two forms in ones' complement; both verify.
            let verified = |c: [u8; 2], b: &[u8]| Sum::default().add_bytes(b).add_word(c).fold();
            assert!(there == full || verified(there, &after) == 0xffff);
            let back = updated(there, Sum::default().add_folded(negated(delta)));
            assert_eq!(verified(back, before), 0xffff);
        });
    }

    /// The header of RFC 1071's successors' favourite example: checksum 0xb861.
    #[test]
    fn a_known_ipv4_header_has_its_checksum() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(Sum::default().add_bytes(&header).finish(), [0xb8, 0x61]);
    }
}
