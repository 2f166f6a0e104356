//! tidegate: the whole packet path, with a snapshot made by hand. Policy Cluster, Maglev, NAT with
//! masquerading, latency sampled as by default.

use super::{Forwarder, Session};
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::rig::{BACKEND_PORT, Link, NODE_PORT, Rig, link};
use crate::rivals::scenario::Scenario;
use anyhow::{Context as _, Result};
use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tidegate_control::demo::rig::GATEWAY;
use tidegate_dataplane::admission::{Admission, SynProxyMode};
use tidegate_dataplane::engine::{
    AttachMode, AttachRequest, CopyMode, Engine, EngineConfig, KernelRoad, PollMode,
};
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, table_size};
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontKind, FrontState, Interface, MaglevTable, NextHop,
    NextHopState, Picker, Selection, ServicePort, Side, Snapshot,
};
use tidegate_dataplane::types::{
    BackendSlot, InterfaceSlot, IpAddress, L4Port, NextHopId, PortRange, Protocol, ServiceId,
};

const OUTER: InterfaceSlot = InterfaceSlot(1);
const INNER: InterfaceSlot = InterfaceSlot(2);

/// One packet in this many is stamped: the default of `tidegate run`.
pub(crate) const LATENCY_SAMPLE: u32 = 64;

/// tidegate with one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tidegate {
    pub(crate) name: &'static str,
    pub(crate) cpu: usize,
    pub(crate) placement: Placement,
    pub(crate) poll_mode: PollMode,
    /// One packet in this many is stamped and recorded; 0 for none.
    pub(crate) latency_sample: u32,
}

impl Forwarder for Tidegate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn can(&self, _scenario: &Scenario) -> bool {
        true
    }

    fn serve(&self, rig: &Rig, scenario: &Scenario, session: &Session) -> Result<()> {
        let mut engine = self.start(rig, scenario)?;
        engine.publish_all(snapshot(rig, scenario.protocol())?)?;
        session.ready();
        session.wait(|| {
            engine.tick();
        });
        engine.stop();
        Ok(())
    }
}

impl Tidegate {
    fn start(&self, rig: &Rig, scenario: &Scenario) -> Result<Engine> {
        let gateway = rig.gateway();
        gateway.ip("link add tidegate0 type veth peer name tidegate1")?;
        gateway.ip("link set tidegate0 up")?;
        gateway.ip("link set tidegate1 up")?;
        let mut config = EngineConfig::small(KernelRoad {
            device: "tidegate0".into(),
            device_index: link(gateway, "tidegate0")?.index,
            peer_index: link(gateway, "tidegate1")?.index,
        });
        config.worker_cpus = vec![Some(self.cpu)];
        config.poll_mode = self.poll_mode;
        config.latency_sample = self.latency_sample;
        config.flows_max = scenario.flows_max()?;
        // Kube-proxy's rules answer no SYN themselves, and the ends of connections send nothing
        // twice: handshakes that a load beyond the limit left unfinished would have `auto` ask it.
        let syn_proxy = SynProxyMode::Off;
        config.admission = Admission { syn_proxy, ..Admission::for_flows(config.flows_max) };
        if scenario.is_crowded() {
            config.source_ports = PortRange::new_checked(1_024, 65_535).context("name ports")?;
        }
        config.ring_size = super::RING;
        config.frames_per_queue = super::FRAMES / config.queues_per_worker_max.max(1);
        let mut engine = Engine::start(config)?;
        for (slot, end) in [(OUTER, &rig.outer), (INNER, &rig.inner)] {
            engine.attach(&request(slot, end))?;
        }
        Ok(engine)
    }
}

fn request(slot: InterfaceSlot, end: &Link) -> AttachRequest {
    AttachRequest {
        slot,
        name: end.name.into(),
        index: end.index,
        mac: end.mac,
        queues: vec![0],
        attach_mode: AttachMode::Native,
        copy_mode: CopyMode::Copy,
        is_small: false,
        side: Side::Clients,
        vlans: Vec::new(),
    }
}

fn snapshot(rig: &Rig, protocol: Protocol) -> Result<Snapshot> {
    let address = |address: &Ipv4Addr| IpAddress::from(IpAddr::V4(*address));
    let addresses: Vec<IpAddress> = rig.backends.iter().map(address).collect();
    let port = L4Port::new(BACKEND_PORT);
    let service = Arc::new(ServicePort {
        id: ServiceId(1),
        namespace: "default".into(),
        name: "bench".into(),
        port_name: "".into(),
        protocol,
        serving: Arc::new(addresses.iter().map(|address| (*address, port)).collect()),
        affinity_timeout: None,
    });
    let key =
        FrontKey { address: IpAddr::V4(GATEWAY).into(), port: L4Port::new(NODE_PORT), protocol };
    let backends = Arc::new(backends(&addresses, protocol)?);
    let outside = Selection::Forward { backends, masquerade: true };
    let front = Front {
        key,
        kind: FrontKind::NodePort,
        state: FrontState::Active,
        service: Arc::clone(&service),
        source_ranges: None,
        pods: outside.clone(),
        outside,
    };
    let interface = |end: &Link| Interface {
        index: end.index,
        name: end.name.into(),
        mac: end.mac,
        mtu_bytes: 1500,
        side: Side::Clients,
    };
    Ok(Snapshot {
        fronts: core::iter::once((key, Arc::new(front))).collect(),
        services: core::iter::once((service.id, service)).collect(),
        next_hops: addresses.iter().map(|address| next_hop(rig, *address)).collect(),
        interfaces: Arc::new(vec![None, Some(interface(&rig.outer)), Some(interface(&rig.inner))]),
        ..Snapshot::default()
    })
}

fn backends(addresses: &[IpAddress], protocol: Protocol) -> Result<BackendSet> {
    let port = L4Port::new(BACKEND_PORT);
    let identity =
        |address: &IpAddress| MaglevBackend { address: *address, port, protocol, weight: 1 };
    let identities: Vec<_> = addresses.iter().map(identity).collect();
    let table = MaglevTable::try_new(&identities, table_size(identities.len()), 0)?;
    let backend = |(address, number): (&IpAddress, u32)| Backend {
        address: *address,
        port,
        next_hop: NextHopId(number),
        slot: BackendSlot(number + 1),
    };
    let backends = addresses.iter().zip(0..).map(backend).collect();
    BackendSet::new_checked(backends, Picker::Maglev(Arc::new(table))).context("make a backend set")
}

fn next_hop(rig: &Rig, address: IpAddress) -> NextHop {
    NextHop {
        address,
        state: NextHopState::Resolved,
        egress: INNER,
        source_mac: rig.inner.mac,
        destination_mac: rig.backend.mac,
        snat_address: Some(IpAddr::V4(rig.gateway_inside()).into()),
        mtu_bytes: 1500,
    }
}
