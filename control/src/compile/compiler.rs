//! The compiler: keeps what it compiled, and compiles anew what a change concerns.

use super::Reports;
use super::claims::{Claimant, Claims};
use super::compiled::{Attached, Compiled, LeftOut, WantedInterface};
use super::fronts::{self, Wishes};
use super::held::HeldPort;
use super::ids::{Ids, PortKey};
use super::interfaces::{self, Slots};
use super::next_hops::{NextHops, World};
use super::port::PortPlan;
use super::share::{self, Retired};
use super::snat_pool;
use super::tables::Tables;
use crate::config::{ClusterIp, Config};
use crate::model::{Endpoint, Family, ObjectKey, Service, ServicePortSpec, Store};
use crate::netlink::NetworkState;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{FrontKey, FrontKind, Snapshot};
use tidegate_dataplane::types::{BackendSlot, IfIndex, ServiceId};

/// Compiles states into snapshots. One per process: it keeps the numbers of services, backends,
/// next hops and interfaces, and everything that the next change may leave as it is.
#[derive(Debug, Default)]
pub struct Compiler {
    pub(super) ids: Ids,
    pub(super) next_hops: NextHops,
    pub(super) tables: Tables,
    pub(super) claims: Claims,
    pub(super) retired: Retired,
    pub(super) held: BTreeMap<ObjectKey, Vec<HeldPort>>,
    pub(super) reports: Reports,
    /// The last one given.
    pub(super) snapshot: Snapshot,
    /// Fronts that differ from it so far.
    pub(super) changed_fronts: BTreeSet<FrontKey>,
    slots: Slots,
    basis: Basis,
    /// What Services of which no port is served would have told in their reports.
    portless: BTreeMap<ObjectKey, Vec<String>>,
    wanted: Arc<[WantedInterface]>,
    left_out: Arc<[LeftOut]>,
    /// What is told of interfaces and of the node's addresses.
    warnings: Vec<String>,
}

/// What all Services depend on, as it was at the last compilation.
#[derive(Debug, Default)]
struct Basis {
    /// None before the first.
    config: Option<Config>,
    world: World,
    /// The node's addresses that serve node ports.
    addresses: BTreeSet<IpAddr>,
    /// The interfaces that flows may leave by.
    egress: BTreeSet<IfIndex>,
    /// Those that backends are behind, and that flows may not leave by.
    barred: BTreeSet<IfIndex>,
}

/// A Service before anything is decided.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) ports: Vec<PortPlan<'a>>,
    /// What it had and has no more.
    pub(super) leaving: Vec<HeldPort>,
}

impl Compiler {
    /// The snapshot for this state of the world. Only what changed since the last call is compiled;
    /// all else is shared with its snapshot.
    pub fn compile(
        &mut self,
        store: &mut Store,
        network: &NetworkState,
        attached: &Attached,
        config: &Config,
    ) -> Compiled {
        self.ids.begin();
        let dirty = store.take_dirty();
        let store = &*store;
        let (network, interfaces) = (network.clone(), config.interfaces.clone());
        let frame_size = config.memory.frame_size;
        let world = World { network, attached: attached.clone(), interfaces, frame_size };
        let is_same = self.basis.world.is_same(&world)
            && self.basis.config.as_ref() == Some(config)
            && !dirty.is_node;
        let mut services = dirty.services;
        let is_basis_new = !is_same && self.is_basis_new(store, &world, config);
        if dirty.is_all || is_basis_new {
            services.extend(store.state().services.keys().cloned());
        }
        if !is_same {
            self.basis.config = Some(config.clone());
            self.basis.world = world.clone();
        }
        let changed_services = self.renew_services(store, services, config);
        self.renew_wanted(is_same);
        self.snapshot.next_hops = self.next_hops.table();
        self.compiled(changed_services)
    }

    fn compiled(&mut self, changed_services: Vec<ObjectKey>) -> Compiled {
        let portless = self.portless.iter().flat_map(|(service, warnings)| {
            warnings.iter().map(move |words| format!("Service {service}: {words}"))
        });
        Compiled {
            snapshot: self.snapshot.clone(),
            changed_fronts: core::mem::take(&mut self.changed_fronts).into_iter().collect(),
            changed_services,
            wanted: Arc::clone(&self.wanted),
            left_out: Arc::clone(&self.left_out),
            probes: self.next_hops.probes(),
            warnings: self.warnings.iter().cloned().chain(portless).collect(),
        }
    }

    /// What became of each service port.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The reports alone.
    pub fn into_reports(self) -> Reports {
        self.reports
    }

    /// Frees what no backend needs any more and no flow either: `has_flows` tells of the flows of a
    /// (service port, backend) pair, on all workers. To be called about once per second, and only
    /// while the last compilation is the one that is published.
    pub fn reap(&mut self, has_flows: impl Fn(BackendSlot) -> bool) {
        self.next_hops.reap(has_flows);
    }

    /// Whether flows go by an interface; `has_flows` as in [`Self::reap`].
    pub fn has_flows_by(
        &self,
        interface: IfIndex,
        has_flows: impl Fn(BackendSlot) -> bool,
    ) -> bool {
        self.next_hops.has_flows_by(interface, has_flows)
    }

    /// Renews what depends on no Service. Whether all Services must be compiled anew.
    fn is_basis_new(&mut self, store: &Store, world: &World, config: &Config) -> bool {
        let own = store.own_node();
        let addresses = fronts::node_addresses(own, &world.network, config);
        let on_all = |config: &Config| {
            (config.load_balancer.clone(), config.feature_gates.clone(), config.cluster_ip)
        };
        let before = self.basis.config.as_ref().map(on_all);
        let is_new = before != Some(on_all(config)) || self.basis.addresses != addresses;
        self.basis.addresses = addresses;
        let table = interfaces::table(&world.attached, &world.network, &config.interfaces);
        self.snapshot.interfaces = share::value(&self.snapshot.interfaces, table);
        let pool = snat_pool::pool(&world.network, &config.load_balancer);
        self.snapshot.snat_pool = share::value(&self.snapshot.snat_pool, pool);
        let networks = own.map(|node| node.pod_networks.as_slice()).unwrap_or_default();
        self.snapshot.pod_networks =
            share::value(&self.snapshot.pod_networks, fronts::networks(networks));
        is_new
    }

    /// Compiles these Services, and those that they or the world's change concern. Gives all of
    /// them.
    fn renew_services(
        &mut self,
        store: &Store,
        mut services: BTreeSet<ObjectKey>,
        config: &Config,
    ) -> Vec<ObjectKey> {
        let mut plans = BTreeMap::new();
        loop {
            let mut touched = BTreeSet::new();
            for key in services {
                let plan = self.plan(store, &key, &mut touched);
                plans.insert(key, plan);
            }
            let moved = self.next_hops.resolve(&self.basis.world);
            touched.extend(moved.iter().filter_map(|id| self.reports.service(*id)).cloned());
            touched.retain(|key| !plans.contains_key(key));
            services = touched;
            if services.is_empty() {
                break;
            }
        }
        for (key, plan) in &plans {
            self.assemble(key, plan, &config.load_balancer);
        }
        plans.into_keys().collect()
    }

    /// Takes what a Service needs now, and gives back what it needs no more. Adds to `touched`
    /// other Services whose fronts change by it.
    fn plan<'a>(
        &mut self,
        store: &'a Store,
        key: &ObjectKey,
        touched: &mut BTreeSet<ObjectKey>,
    ) -> Plan<'a> {
        let service = store.state().services.get(key).filter(|service| service.skipped.is_none());
        self.portless.remove(key);
        let mut before = self.held.remove(key).unwrap_or_default();
        let mut plan = Plan::default();
        let mut held = Vec::new();
        if let Some(service) = service {
            if service.ports.is_empty() && !service.unsupported.is_empty() {
                self.portless.insert(key.clone(), service.unsupported.clone());
            }
            for (place, port) in service.ports.iter().enumerate() {
                let id = self.ids.service(&port_key(service, port));
                let known = before.iter().position(|held| held.id == id);
                let known = known.map(|at| before.swap_remove(at));
                let mut port_held = known.unwrap_or_else(|| self.hold_anew(id));
                let endpoints = self.endpoints(store, service, port, &mut port_held);
                let mut wishes = fronts::fronts(service, port, &self.basis.addresses);
                wishes.retain(|(_, kind)| self.serves(*kind));
                let claimant = Claimant { service: key, place, id };
                self.claim(claimant, &mut port_held, wishes, touched);
                let found = (endpoints, store.mismatch(service, port));
                plan.ports.push(PortPlan::new(service, port, found, &port_held));
                held.push(port_held);
            }
        }
        for mut leaving in before {
            leaving.renew(&[], (&mut self.ids, &mut self.next_hops));
            let claimant = Claimant { service: key, place: 0, id: leaving.id };
            self.claim(claimant, &mut leaving, Wishes::new(), touched);
            plan.leaving.push(leaving);
        }
        if !held.is_empty() {
            self.held.insert(key.clone(), held);
        }
        plan
    }

    fn serves(&self, kind: FrontKind) -> bool {
        match kind {
            FrontKind::ExternalIp => self.serves_external_addresses(),
            FrontKind::ClusterIp => self.serves_cluster_addresses(),
            FrontKind::NodePort | FrontKind::LoadBalancer => true,
        }
    }

    /// Whether `spec.clusterIPs` are fronts, for pods.
    fn serves_cluster_addresses(&self) -> bool {
        let config = self.basis.config.as_ref();
        config.is_some_and(|config| config.cluster_ip == ClusterIp::Serve)
    }

    /// Whether `spec.externalIPs` are fronts (semantics E14).
    pub(super) fn serves_external_addresses(&self) -> bool {
        let config = self.basis.config.as_ref();
        config.is_none_or(|config| config.feature_gates.allow_service_external_ips)
    }

    fn hold_anew(&mut self, id: ServiceId) -> HeldPort {
        self.retired.take_back(id);
        HeldPort { id, ..HeldPort::default() }
    }

    /// The endpoints of a port, sorted by address and port, and their numbers.
    fn endpoints(
        &mut self,
        store: &Store,
        service: &Service,
        port: &ServicePortSpec,
        held: &mut HeldPort,
    ) -> Vec<Endpoint> {
        let mut endpoints = store.endpoints(service, port);
        endpoints.retain(|e| service.families.contains(&Family::of(e.address)));
        held.renew(&endpoints, (&mut self.ids, &mut self.next_hops));
        endpoints
    }

    fn claim(
        &mut self,
        claimant: Claimant<'_>,
        held: &mut HeldPort,
        wishes: Wishes,
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        if held.wishes != wishes || held.place != claimant.place {
            self.claims.change(claimant, (&held.wishes, &wishes), touched);
            (held.wishes, held.place) = (wishes, claimant.place);
        }
    }

    fn renew_wanted(&mut self, is_same: bool) {
        let egress: BTreeSet<IfIndex> = self.next_hops.egress().collect();
        let barred: BTreeSet<IfIndex> = self.next_hops.barred().collect();
        let Basis { config: Some(config), world, addresses, .. } = &self.basis else { return };
        if is_same && egress == self.basis.egress && barred == self.basis.barred {
            return;
        }
        self.warnings.clear();
        let in_use = (&egress, &world.attached);
        let (slots, warnings) = (&mut self.slots, &mut self.warnings);
        let mut left_out = Vec::new();
        let tell = (&mut left_out, warnings);
        self.wanted = interfaces::wanted(slots, &world.network, config, in_use, tell).into();
        self.warnings.extend(left_out.iter().map(interfaces::sentence));
        self.left_out = left_out.into();
        self.warnings.extend(snat_pool::warnings(&world.network, &config.load_balancer));
        if addresses.is_empty() {
            self.warnings.push("no node address is allowed by nodePortAddresses".to_owned());
        }
        self.warnings.extend(interfaces::barred(&world.network, config, &barred));
        (self.basis.egress, self.basis.barred) = (egress, barred);
    }
}

fn port_key(service: &Service, port: &ServicePortSpec) -> PortKey {
    PortKey {
        service: service.key.clone(),
        port_name: Arc::clone(&port.name),
        protocol: port.protocol,
    }
}
