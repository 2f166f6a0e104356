//! The packet path alone, without the control side: real veths, sockets and servers, and a snapshot
//! made by hand.

use anyhow::{Context as _, Result};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_control::demo::rig::{GATEWAY, NetNs, Node, RigPlan, Topology};
use tidegate_dataplane::engine::{
    AttachMode, AttachRequest, CopyMode, Engine, EngineConfig, KernelRoad,
};
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, table_size};
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontKind, FrontState, Interface, MaglevTable, NextHop,
    NextHopState, Picker, Selection, ServicePort, Side, Snapshot,
};
use tidegate_dataplane::stats::{Counter, FramePlace, WorkerCounters};
use tidegate_dataplane::types::{
    BackendSlot, IfIndex, InterfaceSlot, L4Port, MacAddress, NextHopId, Protocol, ServiceId,
};
use tidegate_tests::load;
use tidegate_tests::setting::{POD_HTTP, POD_UDP, binary, take_turn, wait_until};

const OUTER: InterfaceSlot = InterfaceSlot(1);
const INNER: InterfaceSlot = InterfaceSlot(2);

struct Link {
    index: IfIndex,
    mac: MacAddress,
}

fn link(netns: &NetNs, name: &str) -> Result<Link> {
    let json: serde_json::Value =
        serde_json::from_str(&netns.ip(&format!("-j link show {name}"))?)?;
    let index = json[0]["ifindex"].as_u64().context("ifindex")?;
    let bytes = json[0]["address"].as_str().context("address")?.split(':');
    let bytes: Vec<u8> = bytes.map(|b| u8::from_str_radix(b, 16)).collect::<Result<_, _>>()?;
    let mac = bytes.try_into().ok().context("six bytes")?;
    Ok(Link { index: IfIndex(u32::try_from(index)?), mac: MacAddress(mac) })
}

fn interface(link: &Link, name: &str) -> Interface {
    Interface {
        index: link.index,
        name: name.into(),
        mac: link.mac,
        mtu_bytes: 1500,
        side: Side::Clients,
    }
}

struct Rig {
    topology: Topology,
    outer: Link,
    inner: Link,
    backend_mac: MacAddress,
    pod: Ipv4Addr,
}

fn rig(queues: u32) -> Result<Rig> {
    let mut topology = RigPlan::new("engine").queues(queues).build()?;
    let pod = topology.add_pod(Node::Node2, "far")?;
    pod.start_servers(&binary()?, (POD_HTTP, POD_UDP), std::process::Stdio::inherit())?;
    let pod = pod.address();
    let gateway = topology.gateway();
    for line in [
        "link add tidegate0 numtxqueues 2 numrxqueues 2 type veth peer name tidegate1",
        "link set tidegate0 up",
        "link set tidegate1 up",
    ] {
        gateway.ip(line)?;
    }
    let (outer, inner) = (link(gateway, "eth0")?, link(gateway, "eth1")?);
    let backend_mac = link(topology.node2(), "eth0")?.mac;
    Ok(Rig { topology, outer, inner, backend_mac, pod })
}

fn snapshot(rig: &Rig, masquerade: bool) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let pod = IpAddr::V4(rig.pod).into();
    for (id, protocol, node_port, port) in
        [(1, Protocol::Tcp, 30_080, POD_HTTP), (2, Protocol::Udp, 30_090, POD_UDP)]
    {
        let port = L4Port::new(port);
        let backend = Backend { address: pod, port, next_hop: NextHopId(0), slot: BackendSlot(id) };
        let identity = MaglevBackend { address: pod, port, protocol, weight: 1 };
        let table = MaglevTable::try_new(&[identity], table_size(1), 0)?;
        let set = BackendSet::new_checked([backend].into(), Picker::Maglev(Arc::new(table)));
        let set = Arc::new(set.context("one backend")?);
        let service = Arc::new(ServicePort {
            id: ServiceId(id),
            namespace: "default".into(),
            name: "frontend-svc".into(),
            port_name: "".into(),
            protocol,
            serving: Arc::new(core::iter::once((pod, port)).collect()),
            affinity_timeout: None,
        });
        let address = IpAddr::V4(GATEWAY).into();
        let key = FrontKey { address, port: L4Port::new(node_port), protocol };
        let outside = Selection::Forward { backends: set, masquerade };
        let front = Front {
            key,
            kind: FrontKind::NodePort,
            state: FrontState::Active,
            service: Arc::clone(&service),
            source_ranges: None,
            pods: outside.clone(),
            outside,
        };
        snapshot.fronts.insert(key, Arc::new(front));
        snapshot.services.insert(service.id, service);
    }
    let hop = NextHop {
        address: pod,
        state: NextHopState::Resolved,
        egress: INNER,
        source_mac: rig.inner.mac,
        destination_mac: rig.backend_mac,
        snat_address: Some(IpAddr::V4(rig.topology.plan().gateway_inside()).into()),
        mtu_bytes: 1500,
    };
    snapshot.next_hops = [hop].into_iter().collect();
    let interfaces = [interface(&rig.outer, "eth0"), interface(&rig.inner, "eth1")];
    snapshot.interfaces = Arc::new(core::iter::once(None).chain(interfaces.map(Some)).collect());
    Ok(snapshot)
}

fn start(rig: &Rig, workers: usize, queues: u32) -> Result<Engine> {
    let gateway = rig.topology.gateway();
    let road = KernelRoad {
        device: "tidegate0".into(),
        device_index: link(gateway, "tidegate0")?.index,
        peer_index: link(gateway, "tidegate1")?.index,
    };
    let mut config = EngineConfig::small(road);
    config.worker_cpus = vec![None; workers];
    let mut engine = Engine::start(config)?;
    for (slot, name, link) in [(OUTER, "eth0", &rig.outer), (INNER, "eth1", &rig.inner)] {
        let attachment = engine.attach(&AttachRequest {
            slot,
            name: name.into(),
            index: link.index,
            mac: link.mac,
            queues: (0..queues).collect(),
            attach_mode: AttachMode::Auto,
            copy_mode: CopyMode::Auto,
            is_small: true,
            side: Side::Clients,
            vlans: Vec::new(),
        })?;
        assert_eq!(attachment.attach_mode, AttachMode::Native);
        let binding = &attachment.queues[0];
        assert_eq!(binding.copy_mode, CopyMode::Copy);
        let refused = binding.zero_copy_refused.as_deref().unwrap_or_default();
        assert!(refused.contains("EOPNOTSUPP"), "{refused}");
    }
    Ok(engine)
}

fn check_traffic(rig: &Rig, engine: &mut Engine) -> Result<()> {
    let to = |port| SocketAddr::new(GATEWAY.into(), port);
    load::udp(rig.topology.client(), to(30_090), 300, 8)?.ensure_all(300)?;
    let answers = load::http(rig.topology.client(), to(30_080), 300, 8)?;
    answers.ensure_all(300)?;
    assert!(answers.peers.iter().all(|peer| rig.topology.is_gateway(*peer)), "{answers:?}");
    let (bytes, _) = load::download(rig.topology.client(), to(30_080), "/bytes/3000000")?;
    assert_eq!(bytes, 3_000_000);
    assert!(!engine.flows(1000, Duration::from_secs(5)).is_empty());
    Ok(())
}

fn check_books(engine: &Engine) -> Result<()> {
    let is_settled = || {
        engine.counters().iter().all(|worker| {
            let work = &worker.work;
            let places: u64 = work.frames.iter().map(Counter::get).sum();
            let held = work.frames[FramePlace::Held as usize].get();
            let handed = work.frames[FramePlace::Handed as usize].get();
            places == work.frames_total.get() && held == 0 && handed == 0
        })
    };
    wait_until("frames are conserved", Duration::from_secs(5), is_settled)?;
    let redirected: u64 = engine.steering_counters().iter().map(|c| c.redirected_packets).sum();
    let lost: u64 = engine.queue_statistics().iter().map(|q| q.rx_dropped + q.rx_ring_full).sum();
    let decided: u64 = engine.counters().iter().map(|worker| decided_by(worker)).sum();
    assert_eq!(redirected, decided + lost, "every redirected packet is accounted for");
    assert!(decided > 600);
    Ok(())
}

fn decided_by(worker: &WorkerCounters) -> u64 {
    [OUTER, INNER].map(|slot| worker.interface(slot)).into_iter().fold(0, |sum, c| {
        let all = |list: &[Counter]| -> u64 { list.iter().map(Counter::get).sum() };
        let refused = all(&c.dropped_packets) + all(&c.rejected_packets) + all(&c.passed_packets);
        sum + c.forwarded_packets.get() + refused
    })
}

fn run(workers: usize, queues: u32) -> Result<()> {
    let _turn = take_turn()?;
    let rig = rig(queues)?;
    rig.topology.gateway().enter(|| -> Result<()> {
        let mut engine = start(&rig, workers, queues)?;
        engine.publish_all(snapshot(&rig, true)?)?;
        check_traffic(&rig, &mut engine)?;
        check_books(&engine)?;
        engine.stop();
        Ok(())
    })?
}

#[test]
fn one_worker_serves_tcp_and_udp() -> Result<()> {
    run(1, 1)
}

#[test]
fn two_workers_hand_each_other_what_is_not_theirs() -> Result<()> {
    run(2, 2)
}
