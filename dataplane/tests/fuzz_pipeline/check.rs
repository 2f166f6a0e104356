//! What must hold.

use etherparse::{Ipv4Header, SlicedPacket};
use std::collections::BTreeSet;
use tidegate_dataplane::flow_table::{Direction, FlowTable};
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::testing::checksums_are_right;
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::verdict::Verdict;

/// A packet before and after.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) room: usize,
    pub(crate) verdict: Verdict,
}

impl Passage {
    /// The interface by which it left.
    pub(crate) fn egress(&self) -> Option<InterfaceSlot> {
        match self.verdict {
            Verdict::Forward(egress) => Some(egress),
            _ => None,
        }
    }

    /// One verdict, within the frame, and no byte changed for nothing.
    pub(crate) fn check(&self) {
        assert_ne!(self.verdict, Verdict::Pending);
        assert!(self.after.len() <= self.room, "{self:?}");
        match self.verdict {
            Verdict::Forward(_) => {
                // Another length has what the SYN proxy makes of a packet: all of it new.
                let is_new = self.before.len() != self.after.len();
                let must_be_right = is_new || has_right_sums(&self.before);
                assert!(!must_be_right || has_right_sums(&self.after), "{self:?}");
                if let Some(at) = behind_later_fragment(&self.before) {
                    assert_eq!(self.before.get(at..), self.after.get(at..), "{self:?}");
                }
            }
            Verdict::Reject(_) => assert!(has_right_sums(&self.after), "{self:?}"),
            _ => assert_eq!(self.before, self.after, "{:?}", self.verdict),
        }
    }
}

/// Where the data of a fragment that is not the first begins: nothing there is a header.
fn behind_later_fragment(frame: &[u8]) -> Option<usize> {
    let place = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    match (place(12)?, frame.get(20)?) {
        (0x0800, _) if place(20)? & 0x1fff > 0 => Some(14 + usize::from(frame[14] & 15) * 4),
        (0x86dd, 44) if place(56)? >> 3 > 0 => Some(54),
        _ => None,
    }
}

/// What leaves as it would over a wide link: an IPv4 packet that was cut is put together again, and
/// every piece must be what it says. `made` are the frames that were made with it.
pub(crate) fn joined(before: &[u8], first: Vec<u8>, made: &[(InterfaceSlot, &[u8])]) -> Vec<u8> {
    let is_cut = first.len() < before.len()
        && first.get(12..14) == Some(&[8, 0])
        && place(&first) & MORE_FRAGMENTS != 0
        && !made.is_empty();
    if !is_cut {
        return first;
    }
    let behind = 14 + usize::from(first[14] & 15) * 4;
    let mut whole = first.clone();
    for (_, piece) in made {
        assert_eq!(piece[..20], [&first[..16], &piece[16..18], &first[18..20]].concat());
        assert_eq!(at_byte(piece), at_byte(&first) + whole.len() - behind);
        assert!(place(&whole) & MORE_FRAGMENTS != 0, "there is another");
        let (header, _) = Ipv4Header::from_slice(&piece[14..]).expect("a header");
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), piece.len() - 14);
        whole.extend(&piece[behind..]);
        let has_more = place(piece) & MORE_FRAGMENTS;
        let joined = (place(&first) & OFFSET) | has_more;
        whole[20..22].copy_from_slice(&joined.to_be_bytes());
    }
    assert_eq!(place(&whole) & 0x3fff, place(before) & 0x3fff, "it is the same part of a datagram");
    let total = u16::try_from(whole.len() - 14).expect("as short as it was");
    whole[16..18].copy_from_slice(&total.to_be_bytes());
    let (header, _) = Ipv4Header::from_slice(&whole[14..]).expect("a header");
    whole[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    // What stood behind the packet is not sent.
    whole.extend(before.get(whole.len()..).unwrap_or_default());
    whole
}

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Flags and offset of an IPv4 packet.
fn place(frame: &[u8]) -> u16 {
    frame.get(20..22).and_then(|field| field.first_chunk()).map_or(0, |f| u16::from_be_bytes(*f))
}

/// Where the data of an IPv4 packet is in its datagram.
fn at_byte(frame: &[u8]) -> usize {
    usize::from(place(frame) & OFFSET) * 8
}

/// Whether a frame is whole, and all of its sums are right.
pub(crate) fn has_right_sums(frame: &[u8]) -> bool {
    let is_whole = SlicedPacket::from_ethernet(frame).is_ok_and(|s| s.transport.is_some());
    is_whole && checksums_are_right(frame)
}

/// Counters that go up and down.
#[derive(Debug)]
pub(crate) struct Gauges {
    flows: u64,
    snat_ports: u64,
}

impl Gauges {
    pub(crate) fn of(counters: &WorkerCounters) -> Self {
        let work = &counters.work;
        Self { flows: work.flows.get(), snat_ports: work.snat_ports_used.get() }
    }
}

/// The table, its index and its counters say the same.
pub(crate) fn check_table(flows: &FlowTable, flows_max: u32, idle: &Gauges) {
    let (entries, next) = flows.scan(0, 4096);
    assert_eq!(next, None);
    let (mut live, mut masqueraded) = (0, 0);
    let mut replies = BTreeSet::new();
    for entry in entries {
        live += 1;
        masqueraded += u64::from(entry.is_masqueraded());
        for direction in [Direction::Forward, Direction::Reply] {
            let key = entry.key(direction);
            let (id, found) = flows.find(&key, flows.hash(&key)).expect("a live flow is found");
            assert_eq!(found, direction);
            assert_eq!(flows.entry(id).map(|e| e.key(direction)), Some(key));
        }
        let reply = format!("{:?}", entry.key(Direction::Reply));
        assert!(replies.insert(reply), "two flows have one reply tuple");
    }
    assert_eq!(flows.len(), live);
    let live = u64::try_from(live).expect("a number of flows");
    assert!(live <= u64::from(flows_max), "{live}");
    let now = Gauges::of(flows.counters());
    assert_eq!(now.flows - idle.flows, live);
    assert_eq!(now.snat_ports - idle.snat_ports, masqueraded);
}
