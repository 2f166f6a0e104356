//! The keyed hash of five-tuples: SipHash-1-3 (Aumasson, Bernstein 2012) over whole words.
//!
//! Keyed, because clients choose their ports and many choose their addresses: without a secret a
//! flood could fill one bucket. All workers share one key, so a packet is hashed once.

use crate::types::FlowKey;

/// The secret key. Drawn at start, never written anywhere.
#[derive(Clone, Copy)]
pub struct HashKey(u64, u64);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self, length_bytes: u64) -> u64 {
        self.absorb(length_bytes << 56);
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

impl HashKey {
    /// A key from 16 secret bytes.
    pub const fn new(low: u64, high: u64) -> Self {
        Self(low, high)
    }

    /// The hash of a five-tuple: 2 words for IPv4, 5 for IPv6.
    #[inline]
    pub fn hash(self, key: &FlowKey) -> u64 {
        let mut state = self.start();
        let (source, destination) = (key.src.halves(), key.dst.halves());
        state.absorb(ports_and_protocol(key));
        if key.src.is_v4() {
            state
                .absorb(u64::from(high_half(source.1)) << 32 | u64::from(high_half(destination.1)));
            return state.finish(16);
        }
        for word in [source.0, source.1, destination.0, destination.1] {
            state.absorb(word);
        }
        state.finish(40)
    }

    #[inline(always)]
    fn start(self) -> State {
        State {
            v0: self.0 ^ 0x736f_6d65_7073_6575,
            v1: self.1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.0 ^ 0x6c79_6765_6e65_7261,
            v3: self.1 ^ 0x7465_6462_7974_6573,
        }
    }
}

#[inline(always)]
fn ports_and_protocol(key: &FlowKey) -> u64 {
    let ([a, b], [c, d]) = (key.src_port.bytes(), key.dst_port.bytes());
    u64::from_ne_bytes([a, b, c, d, key.protocol as u8, 0, 0, 0])
}

/// The four bytes of an IPv4 address within the second half of its mapped form.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "exactly the half that holds the address")]
fn high_half(half: u64) -> u32 {
    if cfg!(target_endian = "little") { (half >> 32) as u32 } else { half as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{IpAddress, L4Port, Protocol};
    use core::hash::Hasher;
    use core::net::IpAddr;
    use siphasher::sip::SipHasher13;

    fn key(src: &str, dst: &str) -> FlowKey {
        let address = |text: &str| IpAddress::from(text.parse::<IpAddr>().unwrap());
        FlowKey::new(Protocol::Tcp, (address(src), L4Port::new(1)), (address(dst), L4Port::new(2)))
    }

    #[test]
    fn the_hash_is_siphash_1_3_of_its_words() {
        let words = |key: &FlowKey| {
            if key.src.is_v4() {
                let word = |a: IpAddress| u64::from(u32::from_ne_bytes(a.v4_bytes()));
                return vec![word(key.src) << 32 | word(key.dst)];
            }
            let (s, d) = (key.src.halves(), key.dst.halves());
            vec![s.0, s.1, d.0, d.1]
        };
        for key in [key("10.0.0.1", "10.0.0.2"), key("2001:db8::1", "2001:db8::2")] {
            let mut reference = SipHasher13::new_with_keys(7, 9);
            reference.write(&ports_and_protocol(&key).to_ne_bytes());
            words(&key).iter().for_each(|w| reference.write(&w.to_ne_bytes()));
            assert_eq!(HashKey::new(7, 9).hash(&key), reference.finish());
        }
    }

    #[test]
    fn the_key_changes_the_hash() {
        let key = key("10.0.0.1", "10.0.0.2");
        assert_ne!(HashKey::new(1, 2).hash(&key), HashKey::new(1, 3).hash(&key));
    }
}
