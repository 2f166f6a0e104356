//! The keyed hash of five-tuples: folded multiplication over words, as in wyhash and foldhash.
//!
//! Keyed, because clients choose their ports and many choose their addresses: without a secret a
//! flood could fill one bucket. An attacker sees no hash, and a collision needs the key; even then
//! a full bucket refuses new flows and nothing else. All workers share one key, so a packet is
//! hashed once. Why not `SipHash`: docs/adr/0001-flow-hash.md.

use crate::types::FlowKey;

/// The secret key: four words. Drawn at start, never written anywhere.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 4]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

impl HashKey {
    /// A key from 32 secret bytes.
    pub const fn new(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The hash of a five-tuple: two multiplications for IPv4, five for IPv6.
    #[inline]
    pub fn hash(self, key: &FlowKey) -> u64 {
        let [a, b, c, d] = self.0;
        let (source, destination) = (key.src.halves(), key.dst.halves());
        let ports = ports_and_protocol(key);
        if key.src.is_v4() {
            // The mapped prefix is the same in all: the second halves alone count.
            return fold(fold(source.1 ^ a, destination.1 ^ ports.rotate_left(8) ^ b) ^ c, d);
        }
        let mut hash = fold(source.0 ^ a, source.1 ^ b);
        for word in [destination.0, destination.1, ports] {
            hash = fold(hash ^ c, word ^ d);
        }
        fold(hash ^ a, b)
    }
}

/// The two halves of a product, folded: every bit of the result hangs on every bit of both.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
fn ports_and_protocol(key: &FlowKey) -> u64 {
    let ([a, b], [c, d]) = (key.src_port.bytes(), key.dst_port.bytes());
    u64::from_ne_bytes([a, b, c, d, key.protocol as u8, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{IpAddress, L4Port, Protocol};
    use core::net::IpAddr;

    const KEY: HashKey = HashKey::new([
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xd6e8_feb8_6659_fd93,
    ]);

    fn key(src: &str, sport: u16, dst: &str, dport: u16) -> FlowKey {
        let address = |text: &str| IpAddress::from(text.parse::<IpAddr>().unwrap());
        let ends = ((address(src), L4Port::new(sport)), (address(dst), L4Port::new(dport)));
        FlowKey::new(Protocol::Tcp, ends.0, ends.1)
    }

    #[test]
    fn every_field_and_the_secret_count() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            let base = key(a, 1, b, 2);
            let mut udp = base;
            udp.protocol = Protocol::Udp;
            let others = [key(b, 1, a, 2), key(a, 2, b, 1), key(a, 1, b, 3), key(a, 1, a, 2), udp];
            assert!(others.iter().all(|other| KEY.hash(other) != KEY.hash(&base)));
            assert_ne!(HashKey::new([1, 2, 3, 4]).hash(&base), KEY.hash(&base));
        }
    }

    /// What floods and scans look like: counting ports, counting addresses. Each of 4,096 buckets
    /// should get 16 of 65,536; with random placement the fullest has about 36.
    #[test]
    fn counting_tuples_spread_evenly_over_low_and_high_bits() {
        let by_port = |n: u16| key("10.0.0.1", n, "10.1.0.254", 30_080);
        let by_address = |n: u16| {
            let [a, b] = n.to_be_bytes();
            key(&format!("10.0.{a}.{b}"), 4000, "10.1.0.254", 30_080)
        };
        let by_v6 = |n: u16| key(&format!("2001:db8::{n:x}"), 4000, "2001:db8::fe", 30_080);
        let sets: [&dyn Fn(u16) -> FlowKey; 3] = [&by_port, &by_address, &by_v6];
        for make in sets {
            let (mut low, mut high) = (vec![0u32; 4096], vec![0u32; 4096]);
            for n in 0..=u16::MAX {
                let hash = KEY.hash(&make(n));
                low[usize::try_from(hash & 0xfff).unwrap()] += 1;
                high[usize::try_from(hash >> 52).unwrap()] += 1;
            }
            assert!(low.iter().chain(&high).all(|count| *count < 48));
        }
    }
}
