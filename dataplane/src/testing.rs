//! Packets and snapshots for tests, benchmarks and fuzzers. The packets are written by an
//! independent builder (etherparse), so that our own parser is not its own witness.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    reason = "test support"
)]

mod family;
mod fragments;
mod frames;
mod link;

pub use family::Family;
pub use fragments::{fragments, reassembled};
pub use frames::{
    checksums_are_right, ends, icmp_error, tcp_frame, tcp_frame_with, udp_frame, with_extensions,
};
pub use link::Link;

use crate::admission::{Admission, SynProxyMode};
use crate::affinity::AffinityTable;
use crate::datagrams::DatagramTable;
use crate::engine::FlowTimeouts;
use crate::flow_table::{FlowTable, FlowTableConfig, HashKey, OwnerDirectory};
use crate::pipeline::{Gate, Packet, Pipeline};
use crate::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontKind, FrontState, Interface, MaglevTable, NextHop,
    NextHopState, Picker, Selection, ServicePort, Side, Snapshot, Version,
    maglev::{MaglevBackend, table_size},
};
use crate::stats::WorkerCounters;
use crate::syn_cookie::SynCookies;
use crate::types::{
    BackendSlot, IfIndex, InterfaceSlot, IpAddress, L4Port, MacAddress, NextHopId, PortRange,
    Protocol, ServiceId, Time, WorkerId,
};
use crate::verdict::Verdict;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

/// A fixed hash key.
const HASH_WORDS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

/// The client's link address.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The gateway's link address towards clients.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The gateway's link address towards backends.
pub const GATEWAY_INNER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// The backends' link address.
pub const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];
/// Where clients are.
pub const OUTER: InterfaceSlot = InterfaceSlot(1);
/// Where backends are.
pub const INNER: InterfaceSlot = InterfaceSlot(2);
/// The front's address in an IPv4 [`Fixture`].
pub const FRONT: &str = "10.1.0.254:30080";
/// The node's IPv4 address towards backends.
pub const SNAT_ADDRESS: &str = "10.2.0.1";

/// One service behind [`Family::front`], TCP and UDP, with backends [`Family::backend`] 1 and up.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// IPv4 or IPv6.
    pub family: Family,
    /// How many backends.
    pub backends: u16,
    /// Policy Cluster (true) or Local (false).
    pub masquerade: bool,
    /// Maglev (true) or random (false).
    pub maglev: bool,
    /// Flows of the table.
    pub flows_max: u32,
    /// What new flows must pass.
    pub admission: Admission,
    /// ClientIP affinity of the services.
    pub affinity_timeout: Option<Duration>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            family: Family::V4,
            backends: 3,
            masquerade: true,
            maglev: true,
            flows_max: 1024,
            // As many SYNs as a test likes, each with its flow.
            admission: Admission {
                embryonic_flows_max: 1024,
                syn_proxy: SynProxyMode::Off,
                ..Admission::for_flows(1024)
            },
            affinity_timeout: None,
        }
    }
}

impl Fixture {
    /// The backends' set.
    pub fn backend_set(&self) -> Arc<BackendSet> {
        let backends: Vec<Backend> = (1..=self.backends).map(|n| self.backend(n)).collect();
        let identity = |b: &Backend| MaglevBackend {
            address: b.address,
            port: b.port,
            protocol: Protocol::Tcp,
            weight: 1,
        };
        let identities: Vec<_> = backends.iter().map(identity).collect();
        let table = MaglevTable::try_new(&identities, table_size(backends.len()), 0).unwrap();
        let picker = if self.maglev { Picker::Maglev(Arc::new(table)) } else { Picker::Random };
        Arc::new(BackendSet::new_checked(backends.into(), picker).unwrap())
    }

    /// The snapshot.
    pub fn snapshot(&self) -> Snapshot {
        let selection =
            Selection::Forward { backends: self.backend_set(), masquerade: self.masquerade };
        self.snapshot_with(selection)
    }

    /// The snapshot with another selection.
    pub fn snapshot_with(&self, outside: Selection) -> Snapshot {
        let mut snapshot = Snapshot { version: Version(1), ..Snapshot::default() };
        for (id, protocol) in [(1, Protocol::Tcp), (2, Protocol::Udp)] {
            let service = Arc::new(self.service(ServiceId(id), protocol));
            let front: SocketAddr = self.family.front().parse().unwrap();
            let key =
                FrontKey { address: front.ip().into(), port: L4Port::new(front.port()), protocol };
            let front = Front {
                key,
                kind: FrontKind::NodePort,
                state: FrontState::Active,
                service: Arc::clone(&service),
                source_ranges: None,
                outside: outside.clone(),
                pods: outside.clone(),
            };
            snapshot.fronts.insert(key, Arc::new(front));
            snapshot.services.insert(service.id, service);
        }
        snapshot.next_hops = (1..=self.backends.max(1)).map(|n| self.next_hop(n)).collect();
        snapshot.interfaces = Arc::new(vec![
            None,
            Some(interface(1, "outer", GATEWAY_MAC, Side::Clients)),
            Some(interface(2, "inner", GATEWAY_INNER_MAC, Side::Pods)),
        ]);
        snapshot
    }

    fn backend(&self, number: u16) -> Backend {
        Backend {
            address: self.family.backend(number),
            port: L4Port::new(5000),
            next_hop: NextHopId(u32::from(number) - 1),
            slot: BackendSlot(u32::from(number)),
        }
    }

    fn next_hop(&self, number: u16) -> NextHop {
        NextHop {
            address: self.family.backend(number),
            state: NextHopState::Resolved,
            egress: INNER,
            source_mac: MacAddress(GATEWAY_INNER_MAC),
            destination_mac: MacAddress(BACKEND_MAC),
            snat_address: Some(self.family.snat_address()),
            mtu_bytes: 1500,
        }
    }

    fn service(&self, id: ServiceId, protocol: Protocol) -> ServicePort {
        ServicePort {
            id,
            namespace: "default".into(),
            name: "frontend-svc".into(),
            port_name: "".into(),
            protocol,
            serving: Arc::new((1..=self.backends).map(|n| end_of(&self.backend(n))).collect()),
            affinity_timeout: self.affinity_timeout,
        }
    }

    /// A packet path with an empty table, alone or with a directory that others share.
    pub fn pipeline(&self, worker: u8, directory: Option<Arc<OwnerDirectory>>) -> Pipeline {
        let affinity = Arc::new(AffinityTable::with_capacity(1024));
        let datagrams = Arc::new(DatagramTable::with_capacity(64));
        self.pipeline_sharing(worker, directory, (affinity, datagrams))
    }

    /// A packet path that shares its memory of clients and of datagrams with others.
    pub fn pipeline_sharing(
        &self,
        worker: u8,
        directory: Option<Arc<OwnerDirectory>>,
        (affinity, datagrams): (Arc<AffinityTable>, Arc<DatagramTable>),
    ) -> Pipeline {
        let config = FlowTableConfig {
            worker: WorkerId(worker),
            flows_max: self.flows_max,
            embryonic_max: self.admission.embryonic_flows_max,
            hash_key: HashKey::new(HASH_WORDS),
            timeouts: FlowTimeouts::default(),
            source_ports: PortRange::new_checked(15_000, 29_999).unwrap().into(),
            seed: 42,
        };
        let counters = Arc::new(WorkerCounters::default());
        let cookies = Arc::new(SynCookies::new([1, 2]));
        let gate = Gate::new(&self.admission, &config, cookies);
        let flows = FlowTable::new(config, counters, directory);
        Pipeline::new(flows, affinity, datagrams).with_gate(gate)
    }
}

fn end_of(backend: &Backend) -> (IpAddress, L4Port) {
    (backend.address, backend.port)
}

fn interface(index: u32, name: &str, mac: [u8; 6], side: Side) -> Interface {
    let mac = MacAddress(mac);
    Interface { index: IfIndex(index), name: name.into(), mac, mtu_bytes: 1500, side }
}

/// Sends one frame through a packet path. Returns the verdict and the frame as it leaves.
pub fn send(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    frame: &[u8],
    now: Time,
) -> (Verdict, Vec<u8>) {
    let mut buffer = frame.to_vec();
    buffer.resize(2048, 0);
    let ingress = if Family::is_from_backend(frame) { INNER } else { OUTER };
    let mut packets = [Packet::new(&mut buffer, frame.len(), ingress)];
    pipeline.process(&mut packets, snapshot, now);
    let [packet] = packets;
    (packet.verdict, packet.bytes().to_vec())
}
