//! A packet path with its flows, and the loop that is timed.

use super::frames::{Frames, Packets};
use core::net::SocketAddr;
use core::str::FromStr as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidegate_dataplane::pipeline::{BURST_FRAMES_MAX, Pipeline};
use tidegate_dataplane::snapshot::{Front, FrontKey, Snapshot};
use tidegate_dataplane::testing::{Family, Fixture};
use tidegate_dataplane::types::{IpAddress, Time};
use tidegate_dataplane::verdict::Verdict;

/// Turns of the loops; the median counts.
pub(super) const TURNS: usize = 9;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Reply,
}

/// How much of the packet path runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Until {
    /// Nothing: what the loop itself costs.
    Written,
    Parsed,
    Hashed,
    Found,
    /// All of it.
    Decided,
}

impl Until {
    /// The word for the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Parsed => "parsed",
            Self::Hashed => "hashed",
            Self::Found => "found",
            Self::Decided => "decided",
        }
    }
}

/// What a bed is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) family: Family,
    /// Room for so many flows.
    pub(super) flows: u32,
    pub(super) services: u32,
    pub(super) backends: u16,
}

impl Plan {
    /// One IPv4 service with a hundred backends.
    pub(super) const fn of(flows: u32) -> Self {
        Self { family: Family::V4, flows, services: 1, backends: 100 }
    }

    /// What a packet path of it is made of. Policy Local: a million flows do not fit into 15,000
    /// source ports towards a hundred backends. The path of an established flow is the same.
    pub(super) fn fixture(&self) -> Fixture {
        Fixture {
            family: self.family,
            backends: self.backends,
            masquerade: false,
            flows_max: self.flows.max(1024),
            ..Fixture::default()
        }
    }

    /// The fixture's snapshot, with so many fronts that have its backends.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.fixture().snapshot();
        let fronts: Vec<Arc<Front>> = snapshot.fronts.values().cloned().collect();
        for number in 0..self.services {
            for front in &fronts {
                let key = FrontKey { address: self.front(number), ..front.key };
                snapshot.fronts.insert(key, Arc::new(Front { key, ..(**front).clone() }));
            }
        }
        snapshot
    }

    /// The front's address of a service.
    fn front(&self, number: u32) -> IpAddress {
        let end = front_end(number);
        match self.family {
            Family::V4 => IpAddress::v4(end),
            // The other twelve bytes are those of the fixture's front.
            Family::V6 => {
                let front = SocketAddr::from_str(self.family.front()).map(|end| end.ip());
                let mut bytes = *front.map(IpAddress::from).unwrap_or_default().bytes();
                bytes[12..].copy_from_slice(&end);
                IpAddress::from_bytes(bytes)
            }
        }
    }

    /// The service that a flow's client dials.
    fn service_of(&self, flow: u32) -> u32 {
        flow % self.services
    }
}

/// The last four bytes of the address of a service's front: none that a client has.
pub(super) fn front_end(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [172, a, b, c]
}

/// A packet path and what it is fed.
pub(super) struct Bed {
    plan: Plan,
    pub(super) pipeline: Pipeline,
    snapshot: Snapshot,
    frames: Frames,
    /// The ends of the backends' addresses, by flow.
    backends: Vec<[u8; 4]>,
    now: Time,
}

impl Bed {
    /// Without flows.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            pipeline: plan.fixture().pipeline(0, None),
            snapshot: plan.snapshot(),
            frames: Frames::new(plan.family),
            backends: Vec::new(),
            now: Time(1_000_000_000),
            plan,
        }
    }

    /// With all flows that it has room for.
    pub(super) fn full(plan: Plan) -> Self {
        let mut bed = Self::new(plan);
        for first in (0..plan.flows).step_by(BURST_FRAMES_MAX) {
            let numbers: Vec<u32> = (first..plan.flows).take(BURST_FRAMES_MAX).collect();
            bed.burst(Way::Forward, &numbers, |pipeline, packets, snapshot, now| {
                pipeline.process(packets, snapshot, now);
            });
            bed.backends.extend((0..numbers.len()).map(|frame| bed.frames.destination(frame)));
        }
        assert_eq!(bed.pipeline.flows.len(), plan.flows as usize);
        bed
    }

    /// One burst: a packet of each of these flows, and what is done with them.
    #[inline]
    fn burst(
        &mut self,
        way: Way,
        numbers: &[u32],
        work: impl FnOnce(&mut Pipeline, &mut Packets<'_>, &Snapshot, Time),
    ) {
        let Self { plan, frames, backends, .. } = self;
        match way {
            Way::Forward => frames.write(way, numbers, |flow| front_end(plan.service_of(flow))),
            Way::Reply => frames.write(way, numbers, |flow| backends[flow as usize]),
        }
        let mut packets = frames.packets(way);
        packets.truncate(numbers.len());
        work(&mut self.pipeline, &mut packets, &self.snapshot, self.now);
        black_box(&packets);
        // What a worker does with the changes, less the system call.
        self.pipeline.flows.changes_mut().begun.clear();
        self.pipeline.flows.forgotten();
    }

    /// Runs a part of the packet path over packets of flows in this order.
    pub(super) fn run(&mut self, way: Way, order: &[u32], until: Until) {
        for numbers in order.chunks(BURST_FRAMES_MAX) {
            self.burst(way, numbers, |pipeline, packets, snapshot, now| {
                pipeline_alone(pipeline, (packets, until), snapshot, now);
            });
        }
    }

    /// Nanoseconds per packet of that.
    pub(super) fn timed(&mut self, way: Way, order: &[u32], until: Until) -> f64 {
        let start = Instant::now();
        self.run(way, order, until);
        per_packet(start, order.len())
    }
}

/// Nanoseconds since `start`, shared out.
#[expect(clippy::cast_precision_loss, reason = "counts of packets and nanoseconds of seconds")]
pub(super) fn per_packet(start: Instant, packets: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / packets as f64
}

/// A function of its own, so that its instructions can be told from those of the loop around it.
#[inline(never)]
pub(super) fn pipeline_alone(
    pipeline: &mut Pipeline,
    (packets, until): (&mut Packets<'_>, Until),
    snapshot: &Snapshot,
    now: Time,
) {
    if until == Until::Decided {
        pipeline.process(packets, snapshot, now);
        debug_assert!(packets.iter().all(|p| matches!(p.verdict, Verdict::Forward(_))));
        return;
    }
    if until != Until::Written {
        Pipeline::parse_all(packets);
    }
    if matches!(until, Until::Hashed | Until::Found) {
        pipeline.hash_all(packets);
    }
    if until == Until::Found {
        pipeline.find_all(packets);
    }
}
