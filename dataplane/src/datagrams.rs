//! Datagrams in fragments (T1d, semantics G10): what the first fragment's ports told, for the
//! fragments behind it, which have none. Shared by all workers, since each fragment may arrive at
//! another.
//!
//! Why not reassembly: docs/adr/0003-fragments.md.

use crate::buckets::{self, Buckets};
use crate::host_flows::HASH_FACTOR;
use crate::types::{IpAddress, L4Port, Protocol, Time};
use core::sync::atomic::{AtomicU64, Ordering};

/// Datagrams known at once. 64 bytes each. Below, busy ones are forgotten before their last
/// fragment; above, memory for nothing: their fragments follow each other within microseconds. At
/// the limit the oldest of the bucket is forgotten, and what is left of it is dropped.
pub const DATAGRAMS_MAX: u32 = 4096;

/// A datagram is known for as long. Lower would lose fragments of slow links; higher would take a
/// sender's next datagram of the same number, whose fragments overtook the first, for this one: at
/// a gigabit IPv4's 65,536 numbers last about a second (RFC 4963). `bpf/steer.h` has it too.
pub(crate) const LIFETIME_MS: u64 = 1_000;

/// What makes fragments one datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub src: IpAddress,
    /// Destination address.
    pub dst: IpAddress,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The sender's number for it.
    pub id: u32,
}

/// What became of a datagram's first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It went along a flow, and had these ports: source and destination.
    Forwarded(L4Port, L4Port),
    /// It was given back to the kernel.
    Passed,
    /// It was answered or dropped.
    Refused,
}

/// The datagrams whose first fragment has come.
#[derive(Debug)]
pub struct DatagramTable {
    records: Buckets<Record>,
    /// How often something was learnt.
    version: AtomicU64,
}

impl DatagramTable {
    /// An empty table for this many datagrams, rounded up to whole buckets and a power of two.
    pub fn with_capacity(datagrams: u32) -> Self {
        Self { records: Buckets::with_capacity(datagrams), version: AtomicU64::new(0) }
    }

    /// What is known of a datagram. `hash` is the keyed hash of its addresses and protocol.
    pub fn recall(&self, datagram: &Datagram, hash: u64, now: Time) -> Option<Fate> {
        let now_ms = now.0 / 1_000_000;
        let record = self.records.find(datagram.bits(hash), |record| record.is_of(datagram))?;
        (now_ms.saturating_sub(record.began_ms) < LIFETIME_MS).then_some(record.fate)
    }

    /// Remembers what became of a first fragment. What others write at this moment is left alone.
    pub fn remember(&self, datagram: &Datagram, hash: u64, fate: Fate, now: Time) {
        let record = Record { datagram: *datagram, fate, began_ms: now.0 / 1_000_000 };
        self.records.put(datagram.bits(hash), &record, |old| old.is_of(datagram));
        // Load-bearing: after the record, so that whoever sees the number finds it.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever something was learnt: fragments that wait may know more now.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl Datagram {
    /// One pair of hosts sends many datagrams: their numbers spread them.
    fn bits(&self, hash: u64) -> u64 {
        (hash ^ u64::from(self.id)).wrapping_mul(HASH_FACTOR) >> 32
    }
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    datagram: Datagram,
    fate: Fate,
    /// Milliseconds of the packet path's clock. 0 in a slot that was never used.
    began_ms: u64,
}

/// Words of the last word's low half: what the fate is, and the protocol.
const FORWARDED: u8 = 1;
const PASSED: u8 = 2;
const REFUSED: u8 = 3;

impl Record {
    fn is_of(&self, datagram: &Datagram) -> bool {
        self.began_ms != 0 && self.datagram == *datagram
    }
}

impl buckets::Record for Record {
    fn to_words(self) -> [u64; 6] {
        let (src, dst) = (self.datagram.src.halves(), self.datagram.dst.halves());
        let (kind, ports) = match self.fate {
            Fate::Forwarded(source, destination) => (FORWARDED, [source, destination]),
            Fate::Passed => (PASSED, [L4Port::default(); 2]),
            Fate::Refused => (REFUSED, [L4Port::default(); 2]),
        };
        let [a, b] = ports.map(|port| u64::from(port.number()));
        let id = u64::from(self.datagram.id);
        let tail = u64::from(self.datagram.protocol as u8) << 8 | u64::from(kind);
        [src.0, src.1, dst.0, dst.1, id << 32 | a << 16 | b, self.began_ms << 16 | tail]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the parts that were put together")]
    fn from_words([s0, s1, d0, d1, middle, tail]: [u64; 6]) -> Self {
        let port = |shift: u32| L4Port::new((middle >> shift) as u16);
        let is_tcp = (tail >> 8) as u8 == Protocol::Tcp as u8;
        let fate = match tail as u8 {
            FORWARDED => Fate::Forwarded(port(16), port(0)),
            PASSED => Fate::Passed,
            _ => Fate::Refused,
        };
        let datagram = Datagram {
            src: IpAddress::from_halves(s0, s1),
            dst: IpAddress::from_halves(d0, d1),
            protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
            id: (middle >> 32) as u32,
        };
        Self { datagram, fate, began_ms: tail >> 16 }
    }

    fn began_ms(&self) -> u64 {
        self.began_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Record as _;

    const NOW: Time = Time(5_000_000_000);

    fn later(ms: u64) -> Time {
        Time(NOW.0 + ms * 1_000_000)
    }

    fn datagram(id: u32) -> Datagram {
        let address = |last| IpAddress::v4([10, 0, 0, last]);
        Datagram { src: address(1), dst: address(2), protocol: Protocol::Udp, id }
    }

    const FATE: Fate = Fate::Forwarded(L4Port::new(65_535), L4Port::new(53));

    #[test]
    fn a_datagram_is_known_by_all_that_makes_it_one_and_for_a_second() {
        let table = DatagramTable::with_capacity(64);
        let this = datagram(7);
        assert_eq!(table.recall(&this, 3, NOW), None);
        table.remember(&this, 3, FATE, NOW);
        assert_eq!(table.recall(&this, 3, later(999)), Some(FATE));
        assert_eq!(table.recall(&this, 3, later(1000)), None);
        for other in [
            Datagram { src: this.dst, ..this },
            Datagram { dst: this.src, ..this },
            Datagram { protocol: Protocol::Tcp, ..this },
        ] {
            assert_eq!(table.recall(&other, 3, NOW), None);
        }
        assert_eq!(table.recall(&datagram(8), 3, NOW), None);
        table.remember(&this, 3, Fate::Passed, later(1));
        assert_eq!(table.recall(&this, 3, later(1)), Some(Fate::Passed), "a number used again");
    }

    #[test]
    fn an_empty_slot_is_nobodys() {
        let nobody = Datagram {
            src: IpAddress::from_bytes([0; 16]),
            dst: IpAddress::from_bytes([0; 16]),
            ..datagram(0)
        };
        assert_eq!(DatagramTable::with_capacity(8).recall(&nobody, 0, Time(0)), None);
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let table = DatagramTable::with_capacity(8);
        for id in 0..9 {
            table.remember(&datagram(id), 0, FATE, later(u64::from(id)));
        }
        let known = |id| table.recall(&datagram(id), 0, later(9)).is_some();
        assert_eq!([0, 1, 8].map(known), [false, true, true]);
    }

    #[test]
    fn whoever_waits_sees_that_something_was_learnt() {
        let table = DatagramTable::with_capacity(8);
        let before = table.version();
        table.remember(&datagram(1), 0, Fate::Refused, NOW);
        assert_ne!(table.version(), before);
    }

    #[test]
    fn a_record_survives_its_words() {
        let v6 = IpAddress::from_bytes(core::array::from_fn(|i| u8::try_from(i + 1).unwrap()));
        for fate in [FATE, Fate::Passed, Fate::Refused] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let datagram = Datagram { src: v6, dst: v6, protocol, id: u32::MAX };
                let record = Record { datagram, fate, began_ms: (1 << 48) - 1 };
                assert_eq!(Record::from_words(record.to_words()), record);
            }
        }
    }
}
