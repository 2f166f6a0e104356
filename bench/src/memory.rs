//! The pipeline alone, in memory: nanoseconds per packet at 1, 10,000 and 1,000,000 flows.
//!
//! Each round writes 64 headers (as a receive ring would bring them) and runs the packet path over
//! them. The writing alone is timed in turn with it and taken off. Flows are visited in a random
//! order, so that at a million flows every packet misses the caches.

use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;
use tidegate_dataplane::pipeline::{BURST_FRAMES_MAX, Packet, Pipeline};
use tidegate_dataplane::random::Random;
use tidegate_dataplane::snapshot::Snapshot;
use tidegate_dataplane::testing::{FRONT, Fixture, OUTER, udp_frame};
use tidegate_dataplane::types::Time;
use tidegate_dataplane::verdict::Verdict;

/// Room for a packet, as a UMEM frame has.
const FRAME_BYTES: usize = 2048;

/// Turns of the two loops; the median counts.
pub(crate) const TURNS: usize = 9;

/// Time per turn, roughly.
const PACKETS_PER_TURN: usize = 2_000_000;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub name: String,
    /// Live flows.
    pub flows: u32,
    /// Median over the turns, nanoseconds per packet, header writing taken off.
    pub ns_per_packet: f64,
    /// Least and most of the turns.
    pub min_max: (f64, f64),
}

/// Runs all rows.
pub(crate) fn run() -> Vec<Row> {
    let mut rows: Vec<Row> = [1, 10_000, 1_000_000].map(established).into();
    rows.push(new_flows());
    rows.extend(crate::table::run());
    rows
}

impl Row {
    /// The row of these turns' times.
    pub(crate) fn of(name: &str, flows: u32, mut turns: Vec<f64>) -> Self {
        turns.sort_by(f64::total_cmp);
        Self {
            name: name.into(),
            flows,
            ns_per_packet: turns[turns.len() / 2],
            min_max: (turns[0], turns[turns.len() - 1]),
        }
    }
}

struct Frames {
    memory: Vec<u8>,
    template: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        let template = udp_frame("10.0.0.0:0", FRONT, &[0; 18]);
        Self { memory: vec![0; FRAME_BYTES * BURST_FRAMES_MAX], template }
    }

    /// Writes the headers of flows `numbers`. The UDP checksum is the template's, so it is wrong;
    /// it is rewritten as a right one would be.
    fn write(&mut self, numbers: &[u32]) {
        let (frames, _) = self.memory.as_chunks_mut::<FRAME_BYTES>();
        for (frame, number) in frames.iter_mut().zip(numbers) {
            frame[..self.template.len()].copy_from_slice(&self.template);
            let [_, a, b, c] = number.to_be_bytes();
            frame[26..30].copy_from_slice(&[10, a, b, c]);
            frame[34..36].copy_from_slice(&[0x40 | (c & 0x3f), b]);
        }
    }

    fn packets(&mut self) -> Vec<Packet<'_>> {
        let len = self.template.len();
        self.memory.chunks_exact_mut(FRAME_BYTES).map(|f| Packet::new(f, len, OUTER)).collect()
    }
}

struct Bed {
    pipeline: Pipeline,
    snapshot: Snapshot,
    frames: Frames,
    now: Time,
}

impl Bed {
    fn new(flows: u32) -> Self {
        // Policy Local: a million flows do not fit into 15,000 source ports towards ten backends.
        // The packet path of an established flow is the same.
        let fixture = Fixture {
            backends: 100,
            masquerade: false,
            flows_max: flows.max(1024),
            ..Fixture::default()
        };
        Self {
            pipeline: fixture.pipeline(0, None),
            snapshot: fixture.snapshot(),
            frames: Frames::new(),
            now: Time(1_000_000_000),
        }
    }

    fn process(&mut self, numbers: &[u32]) {
        self.frames.write(numbers);
        let mut packets = self.frames.packets();
        self.pipeline.process(&mut packets, &self.snapshot, self.now);
        debug_assert!(packets.iter().all(|p| matches!(p.verdict, Verdict::Forward(_))));
        black_box(&packets);
    }

    /// What a worker does with the changes, less the system call.
    fn forget_changes(&mut self) {
        let changes = self.pipeline.flows.changes_mut();
        changes.begun.clear();
        changes.removed.clear();
    }
}

fn established(flows: u32) -> Row {
    let mut bed = Bed::new(flows);
    for first in (0..flows).step_by(BURST_FRAMES_MAX) {
        let numbers: Vec<u32> = (first..).take(BURST_FRAMES_MAX).map(|n| n % flows).collect();
        bed.process(&numbers);
        bed.forget_changes();
    }
    assert_eq!(bed.pipeline.flows.len(), flows as usize);
    let mut random = Random::new(1);
    let order: Vec<u32> = (0..PACKETS_PER_TURN).map(|_| random.below(flows)).collect();
    let work = |bed: &mut Bed| order.chunks_exact(BURST_FRAMES_MAX).for_each(|n| bed.process(n));
    measure("established", flows, &mut bed, &order, work)
}

/// Miss and insert: each packet begins a flow, as under a storm of new connections.
fn new_flows() -> Row {
    const FLOWS: u32 = 1 << 21;
    let mut bed = Bed::new(FLOWS);
    let order: Vec<u32> = (0..200_000).collect();
    let mut next = 0;
    let work = |bed: &mut Bed| {
        for _ in order.chunks_exact(BURST_FRAMES_MAX) {
            let numbers: Vec<u32> = (next..).take(BURST_FRAMES_MAX).collect();
            next += u32::try_from(BURST_FRAMES_MAX).unwrap_or(0);
            bed.process(&numbers);
            bed.forget_changes();
        }
    };
    measure("new flow", FLOWS, &mut bed, &order, work)
}

fn measure(
    name: &str,
    flows: u32,
    bed: &mut Bed,
    order: &[u32],
    mut work: impl FnMut(&mut Bed),
) -> Row {
    #[expect(clippy::cast_precision_loss, reason = "counts of packets")]
    let per_packet = |start: Instant| start.elapsed().as_nanos() as f64 / order.len() as f64;
    let turns = (0..TURNS)
        .map(|_| {
            let start = Instant::now();
            for numbers in order.chunks_exact(BURST_FRAMES_MAX) {
                bed.frames.write(numbers);
                black_box(bed.frames.packets());
            }
            let writing = per_packet(start);
            let start = Instant::now();
            work(bed);
            per_packet(start) - writing
        })
        .collect();
    Row::of(name, flows, turns)
}
