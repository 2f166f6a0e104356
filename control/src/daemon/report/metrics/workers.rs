//! Workers: their time, flows and frames, and how long packets stay with them.

use crate::config::Config;
use crate::daemon::report::node::{heartbeat_gap_ns, monotonic_ns};
use crate::metrics::distribution::Distribution;
use crate::metrics::family::{Family, Label};
use hdrhistogram::Histogram;
use std::time::{Duration, SystemTime};
use tidegate_dataplane::engine::{Engine, WorkerPlacement};
use tidegate_dataplane::flow_table::SHARE_ONE;
use tidegate_dataplane::stats::counters::{CookieEvent, FlowEnd, FramePlace, LoopCounters};
use tidegate_dataplane::stats::{Counter, LatencySet, Stage, Traffic};

/// Upper bounds of latencies: 250 ns to 8 ms, each twice the one before.
const LATENCY_FIRST_SECONDS: f64 = 250e-9;
const LATENCY_BUCKETS: i32 = 16;

pub(super) fn families(engine: &Engine, config: &Config, now: SystemTime) -> Vec<Family> {
    let placements = engine.placements();
    let counters = engine.counters();
    let pairs: Vec<_> = placements
        .iter()
        .filter_map(|p| Some((p, &counters.get(usize::from(p.worker.0))?.work)))
        .collect();
    let mut families = of_time(&pairs, now);
    families.extend(of_flows(&pairs));
    families.extend(of_what_we_make(&pairs));
    families.push(frames(&pairs));
    let held_back = Family::counter(
        "tidegate_host_packets_held_back",
        "The host's own packets that were dropped because their answers would be taken for ours.",
    );
    families.push(held_back.with(engine.host_packets_held_back()));
    families.push(bursts(&pairs));
    let capacity = Family::gauge("tidegate_flow_table_capacity", "Flows that fit the tables.");
    families.push(capacity.with(u64::from(config.conntrack.max_flows)));
    families
}

type Pairs<'a> = [(&'a WorkerPlacement, &'a LoopCounters)];

fn worker(placement: &WorkerPlacement) -> (&'static str, Label) {
    ("worker", placement.worker.0.to_string().into())
}

fn of_time(pairs: &Pairs<'_>, now: SystemTime) -> Vec<Family> {
    let mut busy =
        Family::counter("tidegate_worker_busy_seconds", "Time that a worker spent on packets.");
    let mut polls =
        Family::counter("tidegate_worker_polls", "Rounds of a worker's loop by their outcome.");
    let mut beat = Family::gauge(
        "tidegate_worker_last_heartbeat_timestamp_seconds",
        "When a worker beat last.",
    );
    let mut gap = Family::gauge(
        "tidegate_worker_heartbeat_gap_seconds_max",
        "The longest time between two heartbeats of a worker since the start; a sleep is 0.25.",
    );
    let mut late = Family::counter(
        "tidegate_worker_heartbeats_late",
        "Heartbeats that came more than half a second after the one before.",
    );
    let mut handed = Family::counter(
        "tidegate_worker_handed_packets",
        "Packets that a worker handed to the owner of their flow or egress.",
    );
    for (placement, counters) in pairs {
        let cpu = placement.cpu.map_or_else(|| "none".to_owned(), |cpu| cpu.to_string());
        busy.push_real([worker(placement), ("cpu", cpu.into())], seconds(counters.busy_ns.get()));
        let rounds = [
            ("work", &counters.polls_work),
            ("empty", &counters.polls_empty),
            ("sleep", &counters.sleeps),
        ];
        for (result, count) in rounds {
            polls.push([worker(placement), ("result", result.into())], count.get());
        }
        let age_ns = monotonic_ns().saturating_sub(counters.heartbeat_ns.get());
        let at = now.checked_sub(Duration::from_nanos(age_ns)).unwrap_or(SystemTime::UNIX_EPOCH);
        beat.push_real([worker(placement)], unix_seconds(at));
        gap.push_real([worker(placement)], seconds(heartbeat_gap_ns(counters)));
        late.push([worker(placement)], counters.heartbeats_late.get());
        handed.push([worker(placement)], counters.handed_packets.get());
    }
    vec![busy, polls, beat, gap, late, handed]
}

fn of_flows(pairs: &Pairs<'_>) -> Vec<Family> {
    let mut flows = Family::gauge("tidegate_flows", "Live flows.");
    let mut embryonic = Family::gauge("tidegate_flows_embryonic", "TCP handshakes under way.");
    let mut ports = Family::gauge("tidegate_snat_ports_used", "Source ports in use.");
    let mut share = Family::gauge(
        "tidegate_snat_ports_used_ratio",
        "Of the source ports that new flows tried lately, the share in use to the same backend.",
    );
    let mut ended = Family::counter("tidegate_flows_expired", "Flows that ended, by cause.");
    for (placement, counters) in pairs {
        flows.push([worker(placement)], counters.flows.get());
        embryonic.push([worker(placement)], counters.embryonic_flows.get());
        ports.push([worker(placement)], counters.snat_ports_used.get());
        share.push_real([worker(placement)], of_one(counters.snat_ports_share.get()));
        for end in FlowEnd::ALL {
            let count = counters.flows_ended.get(*end as usize).map_or(0, Counter::get);
            ended.push([worker(placement), ("cause", end.name().into())], count);
        }
    }
    vec![flows, embryonic, ports, share, ended]
}

#[expect(clippy::cast_precision_loss, reason = "33 bits at most")]
fn of_one(share: u64) -> f64 {
    share as f64 / SHARE_ONE as f64
}

fn of_what_we_make(pairs: &Pairs<'_>) -> [Family; 4] {
    let mut cookies =
        Family::counter("tidegate_syn_cookies", "SYN cookies by what became of them.");
    let mut is_on =
        Family::gauge("tidegate_syn_proxy_active", "1 while SYNs are answered with cookies.");
    let mut generated = Family::counter(
        "tidegate_generated_packets",
        "Packets that tidegate made, by whether they were sent.",
    );
    let mut cut = Family::counter(
        "tidegate_fragmented_packets",
        "IPv4 packets that left in pieces, since the egress MTU is smaller.",
    );
    for (placement, counters) in pairs {
        cut.push([worker(placement)], counters.fragmented_packets.get());
        for (event, count) in CookieEvent::ALL.iter().zip(&counters.syn_cookies) {
            cookies.push([worker(placement), ("result", event.name().into())], count.get());
        }
        is_on.push([worker(placement)], counters.syn_proxy_on.get());
        let results = [("sent", &counters.generated_packets), ("lost", &counters.generated_lost)];
        for (result, count) in results {
            generated.push([worker(placement), ("result", result.into())], count.get());
        }
    }
    [cookies, is_on, generated, cut]
}

fn frames(pairs: &Pairs<'_>) -> Family {
    let mut frames = Family::gauge("tidegate_umem_frames", "Frames by where they are.");
    for (placement, counters) in pairs {
        for place in FramePlace::ALL {
            let count = counters.frames.get(*place as usize).map_or(0, Counter::get);
            frames.push([worker(placement), ("place", place.name().into())], count);
        }
    }
    frames
}

/// Upper bounds of burst sizes: 1 to 64, each twice the one before.
const BURST_BUCKETS: i32 = 7;

fn bursts(pairs: &Pairs<'_>) -> Family {
    let help = "Packets that a worker found in a receive ring, where it found any.";
    let family = Family::histogram("tidegate_batch_packets", help);
    pairs.iter().fold(family, |family, (placement, counters)| {
        let mut seen = Distribution::exponential(1.0, 2.0, BURST_BUCKETS);
        let met = counters.bursts.iter().filter(|(_, times)| *times > 0);
        met.for_each(|(packets, times)| seen.observe(f64::from(packets), times));
        family.with_distribution([worker(placement)], seen)
    })
}

/// Sampled packets' latencies since the start; a reset of `tidegate latency` does not touch them.
pub(super) fn latency(set: &LatencySet) -> [Family; 3] {
    let told = [
        (
            Stage::Forwarding,
            "tidegate_forwarding_duration_seconds",
            "From a worker's read to the transmit ring, of sampled packets.",
        ),
        (
            Stage::QueueWait,
            "tidegate_queue_wait_duration_seconds",
            "From the XDP program to a worker's read, of sampled packets.",
        ),
        (
            Stage::Total,
            "tidegate_total_duration_seconds",
            "From the XDP program to the transmit ring, of sampled packets.",
        ),
    ];
    told.map(|(stage, name, help)| {
        let family = Family::histogram(name, help);
        Traffic::ALL.iter().fold(family, |family, kind| {
            let seen = distribution(set.of(*kind, stage));
            family.with_distribution([("kind", kind.name().replace(' ', "_").into())], seen)
        })
    })
}

/// A recorded histogram in Prometheus' buckets; within its own 1 %.
fn distribution(recorded: &Histogram<u64>) -> Distribution {
    let mut seen = Distribution::exponential(LATENCY_FIRST_SECONDS, 2.0, LATENCY_BUCKETS);
    for step in recorded.iter_recorded() {
        seen.observe(seconds(step.value_iterated_to()), step.count_since_last_iteration());
    }
    seen
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::{Form, write};
    use tidegate_dataplane::types::WorkerId;

    #[test]
    fn bursts_are_told_by_size() {
        let placement = WorkerPlacement { worker: WorkerId(3), cpu: None, io_uring_refused: None };
        let counters = LoopCounters::default();
        [0, 1, 3, 3, 64, 65].into_iter().for_each(|packets| counters.bursts.add(packets));
        let family = bursts(&[(&placement, &counters)]);
        let text = String::from_utf8(write(vec![family], Form::Classic, false).unwrap()).unwrap();
        for line in [
            "tidegate_batch_packets_sum{worker=\"3\"} 71.0",
            "tidegate_batch_packets_bucket{le=\"2.0\",worker=\"3\"} 1",
            "tidegate_batch_packets_bucket{le=\"4.0\",worker=\"3\"} 3",
            "tidegate_batch_packets_bucket{le=\"64.0\",worker=\"3\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn recorded_latencies_fall_into_their_buckets() {
        let mut recorded = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        recorded.record_n(240, 5).unwrap();
        recorded.record_n(900, 2).unwrap();
        recorded.record(1_000_000_000).unwrap();
        let seen = distribution(&recorded);
        let met: Vec<_> = seen.classic().iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(met, [&(250e-9, 5), &(1e-6, 2), &(f64::INFINITY, 1)]);
        assert_eq!(seen.sum_and_count().1, 8);
    }
}
