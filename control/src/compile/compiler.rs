//! The compiler: keeps the numbers that must stay stable between compilations.

use super::compiled::{Attached, Compiled};
use super::fronts::{self, Claims};
use super::ids::Ids;
use super::interfaces::{self, Slots};
use super::next_hops::{NextHops, World};
use super::port::{Decision, Decisions, PortPlan};
use super::share::{self, Retired};
use super::tables::Tables;
use super::{ServiceReport, report};
use crate::config::Config;
use crate::model::{ClusterState, EndpointIndex, Family};
use crate::netlink::NetworkState;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{
    Front, FrontKey, FrontKind, FrontState, Interface, Networks, Selection, Snapshot,
};
use tidegate_dataplane::types::{IfIndex, IpAddress};

/// Compiles states into snapshots. One per process: it keeps the numbers of services, backends,
/// next hops and interfaces.
#[derive(Debug)]
pub struct Compiler {
    node_name: Arc<str>,
    ids: Ids,
    next_hops: NextHops,
    slots: Slots,
    tables: Tables,
    interfaces: Arc<Vec<Option<Interface>>>,
    pod_networks: Arc<Networks>,
    retired: Retired,
    last: Snapshot,
}

impl Compiler {
    /// A compiler for the node of this name.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            ids: Ids::default(),
            next_hops: NextHops::default(),
            slots: Slots::default(),
            tables: Tables::default(),
            interfaces: Arc::default(),
            pod_networks: Arc::default(),
            retired: Retired::default(),
            last: Snapshot::default(),
        }
    }

    /// The snapshot for this state of the world. What did not change since the last call is shared
    /// with its snapshot.
    pub fn compile(
        &mut self,
        cluster: &ClusterState,
        network: &NetworkState,
        attached: &Attached,
        config: &Config,
    ) -> Compiled {
        self.ids.begin();
        self.tables.begin();
        let plans = self.plans(cluster);
        let world = World::new(network, attached, &config.interfaces);
        let probes = self.resolve(&plans, &world);
        let mut warnings = Vec::new();
        let egress = self.egress(&plans, &world);
        let wanted = interfaces::wanted(
            &mut self.slots,
            network,
            config,
            (&egress, attached),
            &mut warnings,
        );
        let addresses = fronts::node_addresses(&self.node_name, cluster, network, config);
        warnings.extend(portless(cluster));
        if addresses.is_empty() {
            warnings.push("no node address is allowed by nodePortAddresses".to_owned());
        }
        self.interfaces = share::value(&self.interfaces, interfaces::table(attached, network));
        let own = cluster.nodes.get(&self.node_name);
        let pod_networks = own.map(|node| node.pod_networks.as_slice()).unwrap_or_default();
        self.pod_networks = share::value(&self.pod_networks, fronts::networks(pod_networks));
        let (snapshot, report) = self.assemble(&plans, &addresses, config);
        self.last = snapshot.clone();
        Compiled { snapshot, wanted, probes, report, warnings }
    }

    /// Every port of every Service with its endpoints, sorted by namespace, name and port.
    fn plans<'a>(&mut self, cluster: &'a ClusterState) -> Vec<PortPlan<'a>> {
        let node_name = Arc::clone(&self.node_name);
        let index = EndpointIndex::new(cluster, &node_name);
        let mut plans = Vec::new();
        let fronted = cluster.services.values().filter(|service| service.skipped.is_none());
        for service in fronted {
            for port in &service.ports {
                let mut endpoints = index.endpoints(service, port);
                endpoints.retain(|e| service.families.contains(&Family::of(e.address)));
                let numbers = (&mut self.ids, &mut self.next_hops);
                plans.push(PortPlan::new(service, port, endpoints, numbers));
            }
        }
        plans
    }

    fn resolve(&mut self, plans: &[PortPlan<'_>], world: &World<'_>) -> Vec<(IfIndex, IpAddr)> {
        let used: BTreeSet<IpAddress> =
            plans.iter().flat_map(PortPlan::serving_addresses).collect();
        let mut probes = BTreeSet::new();
        self.next_hops.resolve(world, &used, &mut probes);
        probes.into_iter().collect()
    }

    /// The interfaces that flows may leave by; not those that are for clients alone.
    fn egress(&self, plans: &[PortPlan<'_>], world: &World<'_>) -> BTreeSet<IfIndex> {
        let addresses = plans.iter().flat_map(PortPlan::serving_addresses);
        let interfaces = addresses.filter_map(|address| self.next_hops.interface(address));
        interfaces.filter(|interface| world.is_for_backends(*interface)).collect()
    }

    fn assemble(
        &mut self,
        plans: &[PortPlan<'_>],
        addresses: &BTreeSet<IpAddr>,
        config: &Config,
    ) -> (Snapshot, Vec<ServiceReport>) {
        let mut next = Snapshot {
            next_hops: self.next_hops.table(),
            pod_networks: Arc::clone(&self.pod_networks),
            interfaces: Arc::clone(&self.interfaces),
            ..Snapshot::default()
        };
        let claims =
            |plan: &PortPlan<'_>| (plan.id, fronts::fronts(plan.service, plan.port, addresses));
        let claims: Vec<_> = plans.iter().map(claims).collect();
        let owners = fronts::owners(&claims);
        let mut reports = Vec::with_capacity(plans.len());
        for (plan, (_, keys)) in plans.iter().zip(claims) {
            let decisions = plan.decide(&self.next_hops, &mut self.tables, &config.load_balancer);
            let is_owned = |(key, _): &(FrontKey, FrontKind)| owners.get(key) == Some(&plan.id);
            let (owned, lost): (Claims, Claims) = keys.into_iter().partition(is_owned);
            let owned = self.publish(plan, &decisions, owned, &mut next);
            let mut report = report::report(plan, &decisions, owned, &self.next_hops);
            report.warnings.extend(lost.iter().map(|(key, _)| {
                format!("{}:{}/{} belongs to another Service", key.address, key.port, key.protocol)
            }));
            reports.push(report);
        }
        self.retired.carry(&self.last, &mut next);
        (next, reports)
    }

    /// Adds the plan's service port and its own fronts to `next`. Gives the fronts, each once: an
    /// address may be VIP and external IP at a time.
    fn publish(
        &self,
        plan: &PortPlan<'_>,
        decisions: &Decisions,
        keys: Claims,
        next: &mut Snapshot,
    ) -> Vec<FrontKey> {
        let service = share::service(&self.last, plan.service_port());
        next.services.insert(plan.id, Arc::clone(&service));
        let shared = self.share(decisions, &keys);
        let ranges = Arc::new(fronts::networks(&plan.service.source_ranges));
        let mut owned = Vec::new();
        for (key, kind) in keys {
            if next.fronts.contains_key(&key) {
                continue;
            }
            let Some((outside, pods)) = shared.get(&family(&key)) else { continue };
            let is_guarded = fronts::is_guarded(plan.service, &key, kind);
            let front = Front {
                key,
                kind,
                state: FrontState::Active,
                service: Arc::clone(&service),
                source_ranges: is_guarded.then(|| Arc::clone(&ranges)),
                outside: outside.clone(),
                pods: pods.clone(),
            };
            next.fronts.insert(key, share::front(&self.last, front));
            owned.push(key);
        }
        owned
    }

    /// What new flows meet, from outside and from pods, as far as possible in the very form of the
    /// last snapshot.
    fn share(
        &self,
        decisions: &Decisions,
        keys: &Claims,
    ) -> BTreeMap<Family, (Selection, Selection)> {
        let share = |(of, decision): (&Family, &Decision)| {
            let mut keys = keys.iter().map(|(key, _)| key).filter(|key| family(key) == *of);
            let old = keys.find_map(|key| self.last.fronts.get(key));
            let new = |old: Option<&Selection>, new: &Selection| share::selection(old, new.clone());
            let outside = new(old.map(|front| &front.outside), &decision.outside);
            (*of, (outside, new(old.map(|front| &front.pods), &decision.pods)))
        };
        decisions.iter().map(share).collect()
    }
}

fn family(key: &FrontKey) -> Family {
    Family::of(key.address.into())
}

/// What Services of which no port is served would have told in their reports.
fn portless(cluster: &ClusterState) -> impl Iterator<Item = String> {
    let services = cluster.services.values().filter(|s| s.skipped.is_none() && s.ports.is_empty());
    services.flat_map(|service| {
        service.unsupported.iter().map(|words| format!("Service {}: {words}", service.key))
    })
}
