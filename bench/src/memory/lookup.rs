//! The flow table's lookup against hashbrown's, over the same entries and keys: what docs/adr/0002
//! rests on. A burst of 64 keys is looked up as the packet path does it.

use super::bed::TURNS;
use super::rows::Row;
use hashbrown::HashTable;
use std::hint::black_box;
use std::time::Instant;
use tidegate_dataplane::flow_table::{
    Direction, FlowEntry, FlowKind, FlowState, FlowTable, NewFlow,
};
use tidegate_dataplane::pipeline::BURST_FRAMES_MAX;
use tidegate_dataplane::random::Random;
use tidegate_dataplane::testing::Fixture;
use tidegate_dataplane::types::{
    BackendSlot, FlowKey, InterfaceSlot, IpAddress, L4Port, MacAddress, NextHopId, Protocol,
    ServiceId,
};

/// Keys per turn.
const KEYS: usize = 1_000_000;

/// Runs all rows.
pub(super) fn run() -> Vec<Row> {
    [10_000, 1_000_000].into_iter().flat_map(compare).collect()
}

fn key(number: u32) -> FlowKey {
    let [_, a, b, c] = number.to_be_bytes();
    let client = (IpAddress::v4([10, a, b, c]), L4Port::new(4000));
    let front = (IpAddress::v4([10, 255, 0, 1]), L4Port::new(30_080));
    FlowKey::new(Protocol::Udp, client, front)
}

fn flow(number: u32) -> NewFlow {
    let forward = key(number);
    let backend = (IpAddress::v4([192, 168, 0, 1]), L4Port::new(5000));
    NewFlow {
        forward,
        reply: FlowKey::new(Protocol::Udp, backend, (forward.src, forward.src_port)),
        next_hop: NextHopId(0),
        service: ServiceId(1),
        backend: BackendSlot(1),
        client_interface: InterfaceSlot(1),
        client_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        state: FlowState::UdpNew,
        kind: FlowKind::Plain,
        version: 1,
        now_ms: 1,
        instead_of: None,
    }
}

fn compare(flows: u32) -> [Row; 2] {
    let mut random = Random::new(1);
    let keys: Vec<FlowKey> = (0..KEYS).map(|_| key(random.below(flows))).collect();
    let ours = ours(flows);
    let (entries, theirs) = theirs(flows, &ours);
    let find = |key: &FlowKey| {
        let is_it = |number: &u32| entries[*number as usize].matches(Direction::Forward, key);
        theirs.find(ours.hash(key), is_it).copied()
    };
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        times[0].push(timed(&keys, |burst| find_all(&ours, burst)));
        times[1].push(timed(&keys, |burst| burst.iter().filter(|k| find(k).is_some()).count()));
    }
    let [first, second] = times;
    [Row::of("lookup, own table", flows, first), Row::of("lookup, hashbrown", flows, second)]
}

fn ours(flows: u32) -> FlowTable {
    let fixture = Fixture { flows_max: flows, ..Fixture::default() };
    let mut table = fixture.pipeline(0, None).flows;
    for number in 0..flows {
        assert!(table.begin(&flow(number)).is_ok());
        table.changes_mut().begun.clear();
    }
    table
}

/// Both keys of every flow, as our table has them.
fn theirs(flows: u32, ours: &FlowTable) -> (Vec<FlowEntry>, HashTable<u32>) {
    let entries: Vec<FlowEntry> = (0..flows).map(|n| FlowEntry::new(&flow(n))).collect();
    let mut table = HashTable::with_capacity(flows as usize * 2);
    let hash_of = |number: &u32| ours.hash(&entries[*number as usize].key(Direction::Forward));
    for (number, entry) in (0..flows).zip(&entries) {
        for direction in [Direction::Forward, Direction::Reply] {
            table.insert_unique(ours.hash(&entry.key(direction)), number, hash_of);
        }
    }
    (entries, table)
}

/// As the packet path: all buckets, then all entries, then the work.
fn find_all(table: &FlowTable, burst: &[FlowKey]) -> usize {
    let mut hashes = [0; BURST_FRAMES_MAX];
    let mut hints = [None; BURST_FRAMES_MAX];
    for (hash, key) in hashes.iter_mut().zip(burst) {
        *hash = table.hash(key);
        table.prefetch_bucket(*hash);
    }
    for ((hint, key), hash) in hints.iter_mut().zip(burst).zip(hashes) {
        *hint = table.prefetch_entry(key, hash);
    }
    let all = burst.iter().zip(hints).zip(hashes);
    all.filter(|((key, hint), hash)| table.find_at(*hint, key, *hash).is_some()).count()
}

#[expect(clippy::cast_precision_loss, reason = "counts of keys")]
fn timed(keys: &[FlowKey], find: impl Fn(&[FlowKey]) -> usize) -> f64 {
    let start = Instant::now();
    let found: usize = keys.chunks(BURST_FRAMES_MAX).map(|burst| black_box(find(burst))).sum();
    assert_eq!(found, keys.len());
    start.elapsed().as_nanos() as f64 / keys.len() as f64
}
