//! SYN cookies: what must be known of a handshake, kept by the client instead of by us. The layout
//! is FreeBSD's (sys/netinet/tcp_syncache.c, `syncookie_generate`): 24 bits of a keyed hash, and
//! eight bits of what the SYN said, so that no timestamp option is needed to keep the window scale.

use crate::types::{FlowKey, Time};
use core::sync::atomic::{AtomicU64, Ordering};
use siphasher::sip::SipHasher24;
use zerocopy::IntoBytes;

/// Nanoseconds of a period. A cookie is good in its own and in the next, so for 64 to 128 seconds:
/// longer than a client waits (Linux's `MAX_SYNCOOKIE_AGE` is two minutes), and short enough that
/// 2^24 guesses per period and client are many.
const PERIOD_NS: u64 = 64_000_000_000;

/// Segment sizes that a cookie can name: those of Ethernet and of the usual tunnels, of jumbo
/// frames, and the least that IPv4 (RFC 9293 section 3.7.1) and our clients may ask for. One in
/// between is told as the next smaller.
const SEGMENT_BYTES: [u16; 8] = [216, 536, 1_220, 1_360, 1_400, 1_440, 1_460, 8_940];

/// Window scales that a cookie can name, besides none: Linux's default is 7, that of others 6 or 8.
/// One in between is told as the next smaller: the window then looks smaller than it is.
const SCALES: [u8; 7] = [0, 2, 4, 6, 7, 8, 10];

/// What a client's SYN said, as far as it fits into seven bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct CookieOptions(u8);

impl CookieOptions {
    const SACK: u8 = 1 << 6;

    /// The least of each.
    pub const NONE: Self = Self(0);

    /// The nearest to a maximum segment size in bytes, a window scale, and whether selective
    /// acknowledgments are permitted.
    #[expect(clippy::cast_possible_truncation, reason = "below eight")]
    pub fn nearest(segment_bytes: u16, scale: Option<u8>, is_sack_permitted: bool) -> Self {
        let fitting = SEGMENT_BYTES.iter().filter(|bytes| **bytes <= segment_bytes).count();
        let scale_index = scale.map_or(0, |scale| SCALES.iter().filter(|s| **s <= scale).count());
        let sack = if is_sack_permitted { Self::SACK } else { 0 };
        Self(fitting.saturating_sub(1) as u8 | (scale_index as u8) << 3 | sack)
    }

    /// The maximum segment size in bytes.
    pub fn segment_bytes(self) -> u16 {
        SEGMENT_BYTES.get(usize::from(self.0 & 7)).copied().unwrap_or(536)
    }

    /// The shift of the client's windows, 0 to 14; `None` if it scales none.
    pub fn scale(self) -> Option<u8> {
        let index = usize::from(self.0 >> 3 & 7).checked_sub(1)?;
        SCALES.get(index).copied()
    }

    /// Whether the client takes selective acknowledgments.
    pub fn is_sack_permitted(self) -> bool {
        self.0 & Self::SACK != 0
    }
}

/// The secret of all workers, and when a cookie was last sent.
pub struct SynCookies {
    hasher: SipHasher24,
    last_period: AtomicU64,
}

impl core::fmt::Debug for SynCookies {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SynCookies(secret)")
    }
}

/// No cookie was sent yet.
const NEVER: u64 = u64::MAX;

impl SynCookies {
    /// Cookies under a secret key: drawn at start, never written anywhere. SipHash and not the flow
    /// table's hash, since clients see the results.
    pub fn new([first, second]: [u64; 2]) -> Self {
        let hasher = SipHasher24::new_with_keys(first, second);
        Self { hasher, last_period: AtomicU64::new(NEVER) }
    }

    /// The sequence number of the answer to a SYN with this tuple and sequence number.
    pub fn issue(&self, key: &FlowKey, client_isn: u32, options: CookieOptions, now: Time) -> u32 {
        let period = period_of(now);
        self.last_period.store(period, Ordering::Relaxed);
        let told = options.0 | parity(period) << 7;
        let code = self.code(key, client_isn, told, period);
        code | u32::from(told ^ high_byte(code))
    }

    /// Whether a cookie may come back: some worker sent one not long ago.
    #[inline]
    pub fn is_expected(&self, now: Time) -> bool {
        let last = self.last_period.load(Ordering::Relaxed);
        last != NEVER && period_of(now).saturating_sub(last) <= 1
    }

    /// What the SYN said, if `cookie` is one that was sent to it in this period or the one before.
    pub fn check(
        &self,
        key: &FlowKey,
        client_isn: u32,
        cookie: u32,
        now: Time,
    ) -> Option<CookieOptions> {
        let told = low_byte(cookie) ^ high_byte(cookie);
        let here = period_of(now);
        let period = if parity(here) == told >> 7 { here } else { here.checked_sub(1)? };
        let code = self.code(key, client_isn, told, period);
        (code == cookie & !0xff).then_some(CookieOptions(told & 0x7f))
    }

    /// The upper 24 bits of a cookie.
    #[expect(clippy::cast_possible_truncation, reason = "24 of 64 bits are taken")]
    fn code(&self, key: &FlowKey, client_isn: u32, told: u8, period: u64) -> u32 {
        let mut bytes = [0u8; 49];
        bytes[..16].copy_from_slice(key.src.as_bytes());
        bytes[16..32].copy_from_slice(key.dst.as_bytes());
        bytes[32..34].copy_from_slice(&key.src_port.bytes());
        bytes[34..36].copy_from_slice(&key.dst_port.bytes());
        bytes[36..40].copy_from_slice(&client_isn.to_be_bytes());
        bytes[40..48].copy_from_slice(&period.to_be_bytes());
        bytes[48] = told;
        self.hasher.hash(&bytes) as u32 & !0xff
    }
}

const fn period_of(now: Time) -> u64 {
    now.0 / PERIOD_NS
}

#[expect(clippy::cast_possible_truncation, reason = "one bit")]
const fn parity(period: u64) -> u8 {
    period as u8 & 1
}

const fn high_byte(cookie: u32) -> u8 {
    cookie.to_be_bytes()[0]
}

const fn low_byte(cookie: u32) -> u8 {
    cookie.to_be_bytes()[3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{IpAddress, L4Port, Protocol};
    use core::net::IpAddr;

    const NOW: Time = Time(1_000 * PERIOD_NS);

    fn key(client: &str, port: u16) -> FlowKey {
        let client: IpAddr = client.parse().unwrap();
        let front: IpAddr =
            if client.is_ipv4() { "10.1.0.254" } else { "2001:db8::fe" }.parse().unwrap();
        FlowKey::new(
            Protocol::Tcp,
            (IpAddress::from(client), L4Port::new(port)),
            (IpAddress::from(front), L4Port::new(30_080)),
        )
    }

    fn cookies() -> SynCookies {
        SynCookies::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908])
    }

    #[test]
    fn a_cookie_tells_what_the_syn_said_and_nothing_larger() {
        let cookies = cookies();
        for key in [key("10.1.0.1", 4000), key("2001:db8::1", 4000)] {
            for segment_bytes in [100, 536, 1_300, 1_440, 1_460, 9_000, u16::MAX] {
                for scale in [None, Some(0), Some(1), Some(7), Some(9), Some(14)] {
                    for sack in [false, true] {
                        let options = CookieOptions::nearest(segment_bytes, scale, sack);
                        let cookie = cookies.issue(&key, 77, options, NOW);
                        assert_eq!(cookies.check(&key, 77, cookie, NOW), Some(options));
                        assert!(options.segment_bytes() <= segment_bytes.max(216));
                        assert!(options.scale() <= scale);
                        assert_eq!(options.scale().is_some(), scale.is_some());
                        assert_eq!(options.is_sack_permitted(), sack);
                    }
                }
            }
        }
        let usual = CookieOptions::nearest(1_460, Some(7), true);
        assert_eq!((usual.segment_bytes(), usual.scale()), (1_460, Some(7)));
    }

    #[test]
    fn a_cookie_is_of_its_client_its_syn_its_secret_and_its_bits_alone() {
        let (cookies, own) = (cookies(), key("10.1.0.1", 4000));
        let options = CookieOptions::nearest(1_460, Some(7), true);
        let cookie = cookies.issue(&own, 77, options, NOW);
        assert_eq!(cookies.check(&key("10.1.0.2", 4000), 77, cookie, NOW), None);
        assert_eq!(cookies.check(&key("10.1.0.1", 4001), 77, cookie, NOW), None);
        assert_eq!(cookies.check(&own, 78, cookie, NOW), None);
        assert_eq!(SynCookies::new([1, 2]).check(&own, 77, cookie, NOW), None);
        for bit in 0..32 {
            assert_eq!(cookies.check(&own, 77, cookie ^ 1 << bit, NOW), None, "bit {bit}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_one_period_or_two_and_expected_as_long() {
        let (cookies, key) = (cookies(), key("10.1.0.1", 4000));
        assert!(!cookies.is_expected(NOW), "none was sent");
        for begun in [NOW, Time(NOW.0 + PERIOD_NS)] {
            let cookie = cookies.issue(&key, 77, CookieOptions::NONE, begun);
            for (after, is_good) in [(0, true), (1, true), (2, false), (3, false)] {
                let now = Time(begun.0 + after * PERIOD_NS);
                assert_eq!(cookies.check(&key, 77, cookie, now).is_some(), is_good, "{after}");
                assert_eq!(cookies.is_expected(now), is_good);
            }
        }
    }
}
