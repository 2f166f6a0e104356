//! From plans to fronts and reports.

use super::compiler::{Compiler, Plan};
use super::fronts::{self, Wishes};
use super::held::HeldPort;
use super::ids::PortKey;
use super::port::{Decision, Decisions, PortPlan};
use super::{ServiceReport, report, share};
use crate::config::LoadBalancer;
use crate::model::{Family, ObjectKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{
    Front, FrontKey, FrontKind, FrontState, Selection, ServicePort,
};

impl Compiler {
    /// Puts a Service's fronts into the snapshot, takes those out that it has no more, and renews
    /// its reports.
    pub(super) fn assemble(&mut self, key: &ObjectKey, plan: &Plan<'_>, config: &LoadBalancer) {
        let mut held = self.held.remove(key).unwrap_or_default();
        let mut reports = Vec::with_capacity(held.len());
        for (port, plan) in held.iter_mut().zip(&plan.ports) {
            let report = self.port(plan, &port.wishes, config);
            let before = core::mem::replace(&mut port.fronts, report.fronts.clone());
            self.remove_fronts(port, before.iter().filter(|front| !report.fronts.contains(front)));
            reports.push(report);
        }
        for port in &plan.leaving {
            self.remove_fronts(port, port.fronts.iter());
            self.retire(port);
        }
        if !held.is_empty() {
            self.held.insert(key.clone(), held);
        }
        self.reports.set(key, reports);
    }

    fn port(
        &mut self,
        plan: &PortPlan<'_>,
        wishes: &Wishes,
        config: &LoadBalancer,
    ) -> ServiceReport {
        let has = |of_cluster| wishes.iter().any(|(_, kind)| is_cluster(*kind) == of_cluster);
        let is_internal = has(true) && !has(false);
        let decisions = if is_internal {
            Decisions::new()
        } else {
            plan.decide(&self.next_hops, &mut self.tables, config)
        };
        let internal = if has(true) {
            plan.decide_internally(&self.next_hops, &mut self.tables, config)
        } else {
            Decisions::new()
        };
        let is_owned = |(key, _): &(FrontKey, FrontKind)| self.claims.is_owner(key, plan.id);
        let (owned, lost): (Wishes, Wishes) = wishes.iter().copied().partition(is_owned);
        let owned = self.publish(plan, (&decisions, &internal), owned);
        // Where nobody outside can dial, what pods meet is told.
        let told = if is_internal { &internal } else { &decisions };
        let mut report = report::report(plan, (told, is_internal), owned, &self.next_hops);
        report.warnings.extend(lost.iter().map(|(key, _)| {
            format!("{}:{}/{} belongs to another Service", key.address, key.port, key.protocol)
        }));
        if !plan.service.external_addresses.is_empty() && !self.serves_external_addresses() {
            report.warnings.push(
                "spec.externalIPs are not served: featureGates.AllowServiceExternalIPs is false"
                    .to_owned(),
            );
        }
        report
    }

    /// Puts the plan's service port and its own fronts into the snapshot. Gives the fronts.
    fn publish(
        &mut self,
        plan: &PortPlan<'_>,
        (decisions, internal): (&Decisions, &Decisions),
        wishes: Wishes,
    ) -> Vec<FrontKey> {
        let service = share::service(&self.snapshot, plan.service_port());
        self.snapshot.services.insert(plan.id, Arc::clone(&service));
        let share = |(decisions, of_cluster)| {
            let wishes = wishes.iter().filter(|(_, kind)| is_cluster(*kind) == of_cluster);
            self.share(decisions, &wishes.copied().collect())
        };
        let [(external, moved), (cluster, moved_too)] =
            [(decisions, false), (internal, true)].map(share);
        self.reports.add_moved_slots(plan.id, moved + moved_too);
        let shared = [external, cluster];
        let ranges = Arc::new(fronts::networks(&plan.service.source_ranges));
        let mut owned = Vec::with_capacity(wishes.len());
        for (key, kind) in wishes {
            let shared = &shared[usize::from(is_cluster(kind))];
            let Some((outside, pods)) = shared.get(&family(&key)) else { continue };
            let is_guarded = fronts::is_guarded(plan.service, &key, kind);
            self.put(Front {
                key,
                kind,
                state: FrontState::Active,
                service: Arc::clone(&service),
                source_ranges: is_guarded.then(|| Arc::clone(&ranges)),
                outside: outside.clone(),
                pods: pods.clone(),
            });
            owned.push(key);
        }
        owned
    }

    fn put(&mut self, front: Front) {
        let key = front.key;
        if !share::has_front(&self.snapshot, &front) {
            self.snapshot.fronts.insert(key, Arc::new(front));
            self.changed_fronts.insert(key);
        }
    }

    /// What new flows meet, from outside and from pods, as far as possible in the very form of the
    /// last snapshot; and how many entries of its Maglev tables got another backend.
    fn share(
        &self,
        decisions: &Decisions,
        wishes: &Wishes,
    ) -> (BTreeMap<Family, (Selection, Selection)>, u64) {
        let mut moved = 0;
        let share = |(of, decision): (&Family, &Decision)| {
            let mut keys = wishes.iter().map(|(key, _)| key).filter(|key| family(key) == *of);
            let old = keys.find_map(|key| self.snapshot.fronts.get(key));
            let new = |old: Option<&Selection>, new: &Selection| share::selection(old, new.clone());
            let outside = new(old.map(|front| &front.outside), &decision.outside);
            moved += old.map_or(0, |front| share::moved_slots(&front.outside, &outside));
            (*of, (outside, new(old.map(|front| &front.pods), &decision.pods)))
        };
        let shared = decisions.iter().map(share).collect();
        (shared, moved)
    }

    /// Takes fronts out of the snapshot, if they are not another's by now.
    fn remove_fronts<'a>(&mut self, port: &HeldPort, keys: impl Iterator<Item = &'a FrontKey>) {
        for key in keys {
            let owner = self.snapshot.fronts.get(key).map(|front| front.service.id);
            if owner == Some(port.id) {
                self.snapshot.fronts.remove(key);
                self.changed_fronts.insert(*key);
            }
        }
    }

    /// A service port is gone; its name stays for the flows that name it.
    fn retire(&mut self, port: &HeldPort) {
        if let Some(forgotten) = self.retired.add(port.id, &mut self.snapshot) {
            self.ids.forget_service(&port_key(&forgotten));
        }
    }
}

fn is_cluster(kind: FrontKind) -> bool {
    kind == FrontKind::ClusterIp
}

fn family(key: &FrontKey) -> Family {
    Family::of(key.address.into())
}

fn port_key(service: &ServicePort) -> PortKey {
    PortKey {
        service: ObjectKey {
            namespace: Arc::clone(&service.namespace),
            name: Arc::clone(&service.name),
        },
        port_name: Arc::clone(&service.port_name),
        protocol: service.protocol,
    }
}
