//! Fixed reports for tests.

use crate::admin::report::{
    BackendReport, Check, DropsReport, FlowReport, HandshakeReport, InterfaceReport, LatencyReport,
    NeighborReport, PacketSum, QueueReport, ReasonReport, ServiceReport, SourceReport, StageReport,
    StatusReport, WorkerReport,
};
use crate::latency::interval::{History, Interval, Packed, Span};
use crate::latency::measured::{Intervals, Measured};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate_dataplane::stats::{LatencySet, Stage, Traffic};
use tidegate_dataplane::types::WorkerId;

pub(crate) fn service(namespace: &str) -> ServiceReport {
    ServiceReport {
        namespace: namespace.into(),
        service: "web".into(),
        port: "http".into(),
        protocol: "TCP".into(),
        node_port: Some(30_080),
        policy: "Cluster".into(),
        fronts: vec!["203.0.113.10:30080".into()],
        ready: 3,
        draining: 1,
        flows: 18_204,
        packets: 5_000_000,
        bytes: 3_000_000_000,
        packets_per_second: 412_300.0,
        bits_per_second: 1.91e9,
        refused_packets: 0,
        refused_per_second: 0.0,
        refusal: None,
        problems: vec![],
    }
}

pub(crate) fn backend() -> BackendReport {
    BackendReport {
        namespace: "shop".into(),
        service: "web".into(),
        port: "http".into(),
        address: "10.244.2.17:8080".into(),
        state: "ready".into(),
        reason: None,
        flows: 12,
        new_flows: 100,
        packets: 4_000,
        bytes: 400_000,
        share: 0.333_3,
    }
}

pub(crate) fn flow() -> FlowReport {
    FlowReport {
        namespace: "shop".into(),
        service: "web".into(),
        protocol: "TCP".into(),
        client: "198.51.100.7:41522".into(),
        front: "203.0.113.10:30080".into(),
        backend: "10.244.2.17:8080".into(),
        snat: Some("10.0.0.11:15377".into()),
        state: "ESTABLISHED".into(),
        worker: 1,
        idle_milliseconds: 12,
        expires_milliseconds: 86_399_988,
    }
}

fn queue(number: u32, worker: u8) -> QueueReport {
    QueueReport {
        queue: number,
        worker,
        rx_dropped: 0,
        rx_ring_full: 0,
        fill_ring_empty: 0,
        invalid_descriptors: 0,
    }
}

pub(crate) fn interface() -> InterfaceReport {
    InterfaceReport {
        name: "eth0".into(),
        index: 2,
        mtu: 1_500,
        attached: true,
        error: None,
        attach_mode: Some("generic".into()),
        native_refused: Some("generic netdevice".into()),
        copy_mode: Some("COPY".into()),
        zero_copy_refused: Some("EOPNOTSUPP".into()),
        queues: vec![queue(0, 0), queue(1, 1)],
        received_packets: 70,
        received_bytes: 7_000,
        redirected_packets: 60,
        passed_packets: 10,
        transmitted_packets: 50,
        transmitted_bytes: 5_000,
        received_per_second: 7.0,
        transmitted_per_second: 5.0,
    }
}

pub(crate) fn waiting_interface() -> InterfaceReport {
    InterfaceReport {
        name: "eth1".into(),
        index: 3,
        mtu: 9_000,
        attached: false,
        error: Some("Peer MTU is too large".into()),
        attach_mode: None,
        native_refused: None,
        copy_mode: None,
        zero_copy_refused: None,
        queues: vec![],
        received_packets: 0,
        received_bytes: 0,
        redirected_packets: 0,
        passed_packets: 0,
        transmitted_packets: 0,
        transmitted_bytes: 0,
        received_per_second: 0.0,
        transmitted_per_second: 0.0,
    }
}

pub(crate) fn worker() -> WorkerReport {
    let frames = [("free", 2_040), ("fill", 2_048), ("held", 0), ("handed", 0), ("tx", 8)];
    WorkerReport {
        worker: 0,
        cpu: Some(1),
        sleep: "io_uring".into(),
        io_uring_refused: None,
        busy: 0.125,
        heartbeat_milliseconds: 3,
        heartbeat_gap_milliseconds: 251,
        polls_work: 900,
        polls_empty: 100,
        sleeps: 7,
        flows: 12,
        snat_ports: 12,
        handed_packets: 1,
        taken_packets: 2,
        generated_packets: 3,
        kicks: 4,
        frames_total: 4_096,
        frames: frames.into_iter().map(|(place, count)| (place.to_owned(), count)).collect(),
        snapshot_version: 7,
    }
}

pub(crate) fn sum() -> PacketSum {
    PacketSum {
        received: 100,
        forwarded: 70,
        passed: 16,
        rejected: 1,
        dropped: 12,
        in_flight: 1,
        unaccounted: 0,
    }
}

fn reason(name: &str, stage: &str, kind: &str, next_step: &str) -> ReasonReport {
    ReasonReport {
        reason: name.into(),
        stage: stage.into(),
        kind: kind.into(),
        packets: 1_204,
        per_second: 12.4,
        last_seconds: Some(0),
        interface: "eth1".into(),
        next_step: next_step.into(),
    }
}

pub(crate) fn drops() -> DropsReport {
    let dropped = reason("SERVICE_BACKEND_NOT_FOUND", "service", "config", "tidegate get backends");
    DropsReport {
        dropped: vec![dropped],
        rejected: vec![],
        passed: vec![reason("NO_SERVICE", "xdp", "traffic", "nothing")],
        sum: sum(),
    }
}

pub(crate) fn latency() -> LatencyReport {
    let forwarding = StageReport {
        stage: "forwarding".into(),
        kind: "all".into(),
        count: 1_200_000,
        min_ns: 210,
        p50_ns: 340,
        p90_ns: 460,
        p99_ns: 1_100,
        p999_ns: 6_800,
        p9999_ns: 22_000,
        max_ns: 190_000,
    };
    let total = StageReport { stage: "total".into(), count: 0, ..forwarding.clone() };
    let row = |kind: &str, count, of: &StageReport| StageReport {
        kind: kind.into(),
        count,
        ..of.clone()
    };
    let [new, reply] = [row("new flow", 0, &forwarding), row("reply", 600_000, &forwarding)];
    let stages = vec![forwarding, new, reply, row("reply", 0, &total), total];
    LatencyReport { sampled_every: 64, seconds: 60, last_interval: 0, stages }
}

/// Three intervals; a packet in each stage and interval.
pub(crate) fn intervals(span: Span) -> Intervals {
    let mut history = History::default();
    let mut set = LatencySet::default();
    for stage in Stage::ALL {
        set.of_mut(Traffic::Reply, *stage).saturating_record(1_000);
    }
    let start = SystemTime::UNIX_EPOCH;
    for number in 1..=3 {
        let workers = vec![(WorkerId(0), Packed::new(&set))];
        history.add(Arc::new(Interval { number, start, length: Duration::from_secs(1), workers }));
    }
    Intervals { sampled_every: 64, last: 3, list: history.of(span, start) }
}

/// The same, all together.
pub(crate) fn measured() -> Measured {
    intervals(Span::default()).into()
}

pub(crate) fn neighbor() -> NeighborReport {
    NeighborReport {
        address: "10.244.2.17".into(),
        state: "resolved".into(),
        interface: Some("eth1".into()),
        mac: Some("52:54:00:ab:cd:03".into()),
        snat_address: None,
    }
}

pub(crate) fn status() -> StatusReport {
    StatusReport {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        node: "gw-1".into(),
        started: "2026-11-24T12:00:00Z".into(),
        uptime_seconds: 61,
        ready: false,
        checks: vec![Check {
            name: "interfaces".into(),
            ok: false,
            detail: "eth1: Peer MTU is too large".into(),
        }],
        source: SourceReport {
            kind: "file".into(),
            location: "/etc/m".into(),
            listing: None,
            kept_age_seconds: None,
            age_seconds: Some(5),
            error: Some("a.yaml:3: no".into()),
            service_ports: 2,
            fronts: 4,
        },
        snapshot_version: 7,
        interfaces: vec![interface(), waiting_interface()],
        workers: 2,
        heartbeat_gap_milliseconds: 1_200,
        flows: 12,
        handshakes: HandshakeReport {
            under_way: 7,
            limit: 131_072,
            syn_proxy: "auto".to_owned(),
            proxying_workers: 1,
            cookies_sent: 900,
            cookies_valid: 30,
            cookies_invalid: 2,
        },
        packets: sum(),
        warnings: vec!["the host has packet filter rules".into()],
        notes: vec!["kube-proxy (process 7) answers on 0.0.0.0:32000".into()],
    }
}
