//! From what is published to a snapshot.

use crate::scenario::{Cluster, Meets, Mtu};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, table_size};
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontKind, FrontState, MaglevTable, NextHop,
    NextHopState, Picker, Selection, ServicePort, Snapshot, Version,
};
use tidegate_dataplane::testing::{Family, Fixture};
use tidegate_dataplane::types::{BackendSlot, L4Port, NextHopId, Protocol, ServiceId};
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// Fronts of each family: policy Cluster, and policy Local.
const FRONT_PORTS: [(u16, bool); 2] = [(30_080, true), (30_081, false)];

const BACKENDS_MAX: u8 = 4;

/// What every snapshot has: interfaces, and next hops to copy.
static BASE: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut base = Fixture { maglev: false, ..Fixture::default() }.snapshot();
    base.fronts = [].into_iter().collect();
    base.services = [].into_iter().collect();
    base
});

/// The state of a cluster, as a snapshot with this number.
pub(crate) fn snapshot(version: u64, cluster: &Cluster) -> Snapshot {
    let mut snapshot = Snapshot { version: Version(version), ..BASE.clone() };
    let hops = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| (1..=BACKENDS_MAX).map(move |number| next_hop(family, number, cluster)));
    let template = snapshot.next_hop(NextHopId(0)).cloned().expect("the fixture's next hop");
    snapshot.next_hops = hops.map(|of| of(&template)).collect();
    let mut number = 1;
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (port, masquerade) in FRONT_PORTS {
                let service = Arc::new(service(number, family, protocol, cluster));
                let front = front(family, port, masquerade, &service, cluster);
                snapshot.fronts.insert(front.key, Arc::new(front));
                snapshot.services.insert(service.id, service);
                number += 1;
            }
        }
    }
    snapshot
}

fn next_hop(family: Family, number: u8, cluster: &Cluster) -> impl FnOnce(&NextHop) -> NextHop {
    let is_lost = cluster.one_is_lost.is_so() && number == 1;
    let mtu_bytes = match cluster.mtu {
        Mtu::Ethernet => 1500,
        Mtu::Small => 1280,
        Mtu::Narrow => 100,
    };
    move |template| NextHop {
        address: family.backend(number.into()),
        snat_address: Some(family.snat_address()),
        state: if is_lost { NextHopState::Unresolved } else { NextHopState::Resolved },
        mtu_bytes,
        ..template.clone()
    }
}

/// As many backends of a family as a byte says.
fn backends(family: Family, count: u8) -> Vec<Backend> {
    let first = if family == Family::V4 { 0 } else { u32::from(BACKENDS_MAX) };
    let of = |number: u8| Backend {
        address: family.backend(number.into()),
        port: L4Port::new(5000),
        next_hop: NextHopId(first + u32::from(number) - 1),
        slot: BackendSlot(first + u32::from(number)),
    };
    (1..=count % (BACKENDS_MAX + 1)).map(of).collect()
}

fn service(number: u32, family: Family, protocol: Protocol, cluster: &Cluster) -> ServicePort {
    let serving =
        backends(family, cluster.backends).into_iter().map(|b| (b.address, b.port)).collect();
    ServicePort {
        id: ServiceId(number),
        namespace: "default".into(),
        name: "fuzz".into(),
        port_name: "".into(),
        protocol,
        serving: Arc::new(serving),
        affinity_timeout: cluster.is_sticky.then_some(Duration::from_mins(1)),
    }
}

fn front(
    family: Family,
    port: u16,
    masquerade: bool,
    service: &Arc<ServicePort>,
    cluster: &Cluster,
) -> Front {
    let address: SocketAddr = family.front().parse().expect("an address and a port");
    let address: IpAddr = address.ip();
    let key =
        FrontKey { address: address.into(), port: L4Port::new(port), protocol: service.protocol };
    let meets = selection(family, masquerade, cluster);
    Front {
        key,
        kind: FrontKind::NodePort,
        state: if cluster.is_draining.is_so() { FrontState::Draining } else { FrontState::Active },
        service: Arc::clone(service),
        source_ranges: None,
        outside: meets.clone(),
        pods: meets,
    }
}

/// The tables of all sets that there are: by far the dearest part of a snapshot.
static TABLES: LazyLock<BTreeMap<(bool, usize), Arc<MaglevTable>>> = LazyLock::new(|| {
    let sizes = (1..=BACKENDS_MAX).flat_map(|size| Family::ALL.map(|family| (family, size)));
    let table = |(family, size)| {
        let set = backends(family, size);
        let identity = |b: &Backend| MaglevBackend {
            address: b.address,
            port: b.port,
            protocol: Protocol::Tcp,
            weight: 1,
        };
        let identities: Vec<_> = set.iter().map(identity).collect();
        let table = MaglevTable::try_new(&identities, table_size(set.len()), 0);
        ((family == Family::V4, set.len()), Arc::new(table.expect("a set that is not empty")))
    };
    sizes.map(table).collect()
});

fn selection(family: Family, masquerade: bool, cluster: &Cluster) -> Selection {
    let backends = backends(family, cluster.backends);
    let picker = match TABLES.get(&(family == Family::V4, backends.len())) {
        Some(table) if cluster.is_maglev => Picker::Maglev(Arc::clone(table)),
        _ => Picker::Random,
    };
    let set = BackendSet::new_checked(backends.into(), picker);
    match (cluster.meets, set) {
        (Meets::Backends | Meets::BackendsToo | Meets::BackendsAgain, Some(set)) => {
            Selection::Forward { backends: Arc::new(set), masquerade }
        }
        (Meets::Drop, _) => Selection::Drop(DropReason::NoLocalEndpoints),
        (Meets::Pass, _) => Selection::Pass(PassReason::LocalBackend),
        _ => Selection::Reject(RejectReason::NoEndpoints),
    }
}
