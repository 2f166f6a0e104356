//! From service port to endpoints: by slices, else by pods, as the endpoint controller would.

use super::endpoint::{Condition, Endpoint, Hint, Hints};
use super::pod::Pod;
use super::service::{Service, ServicePortSpec};
use super::slice::EndpointSlice;
use super::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::types::L4Port;

/// Names of ports in one message; more are left out.
const MISMATCHES_MAX: usize = 5;

impl Store {
    /// The endpoints of one port of `service`, sorted by address and port, each once
    /// (semantics B2-B5).
    pub fn endpoints(&self, service: &Service, port: &ServicePortSpec) -> Vec<Endpoint> {
        let mut merged = Merged::default();
        match self.slices.get(&service.key) {
            Some(slices) => {
                let slices = slices.iter().filter_map(|key| self.state.slices.get(key));
                slices.for_each(|slice| self.add_slice(slice, port, &mut merged));
            }
            None => self.add_pods(service, port, &mut merged),
        }
        merged.0.into_values().collect()
    }

    /// The names of the ports that the slices of `service` have, where they have endpoints and none
    /// of the ports is `port` (semantics B5): a mistake that nothing else would show.
    pub fn mismatch(&self, service: &Service, port: &ServicePortSpec) -> Option<Vec<Arc<str>>> {
        let slices = self.slices.get(&service.key)?.iter();
        let slices = slices.filter_map(|key| self.state.slices.get(key));
        let slices: Vec<_> = slices.filter(|slice| !slice.endpoints.is_empty()).collect();
        let mut ports = slices.iter().flat_map(|slice| &slice.ports);
        let is_it = |p: &super::SlicePort| p.name == port.name && p.protocol == port.protocol;
        if slices.is_empty() || ports.any(is_it) {
            return None;
        }
        let names = slices.iter().flat_map(|slice| &slice.ports).map(|port| port.name.clone());
        let names: BTreeSet<_> = names.collect();
        Some(names.into_iter().take(MISMATCHES_MAX).collect())
    }

    fn add_slice(&self, slice: &EndpointSlice, port: &ServicePortSpec, merged: &mut Merged) {
        let matching = |p: &&super::SlicePort| p.name == port.name && p.protocol == port.protocol;
        let zone = self.own_node().and_then(|node| node.zone.as_deref());
        for slice_port in slice.ports.iter().filter(matching) {
            for endpoint in &slice.endpoints {
                merged.add(Endpoint {
                    address: endpoint.address,
                    port: slice_port.port,
                    condition: endpoint.condition,
                    is_local: endpoint.node.as_deref() == Some(&*self.node_name),
                    hints: Hints {
                        node: Hint::of(&endpoint.for_nodes, Some(&self.node_name)),
                        zone: Hint::of(&endpoint.for_zones, zone),
                    },
                    pod: endpoint.pod.clone(),
                });
            }
        }
    }

    fn add_pods(&self, service: &Service, port: &ServicePortSpec, merged: &mut Merged) {
        for pod in self.selected_pods(service) {
            let Some(number) = pod.port_of(&port.target, port.protocol) else { continue };
            for address in &pod.addresses {
                merged.add(Endpoint {
                    address: *address,
                    port: number,
                    condition: pod.condition(service.publish_not_ready),
                    is_local: self.is_local(pod, *address),
                    hints: Hints::default(),
                    pod: Some(Arc::clone(&pod.key.name)),
                });
            }
        }
    }

    fn selected_pods(&self, service: &Service) -> impl Iterator<Item = &Pod> {
        let pods = self.selectors.pods_of(service).filter_map(|key| self.state.pods.get(key));
        let pods = pods.map(|pod| &**pod);
        pods.filter(|pod| !pod.has_ended && pod.is_selected_by(&service.selector))
    }

    /// By `spec.nodeName`; a pod that names none is local if this node's pod network holds it.
    fn is_local(&self, pod: &Pod, address: IpAddr) -> bool {
        let networks = self.own_node().map(|node| node.pod_networks.as_slice()).unwrap_or_default();
        match &pod.node {
            Some(node) => *node == self.node_name,
            None => networks.iter().any(|network| network.contains(&address)),
        }
    }
}

/// Endpoints by address and port, each once: a local copy wins over another (semantics B3), then
/// the better condition, so that the result does not depend on the order.
#[derive(Default)]
struct Merged(BTreeMap<(IpAddr, L4Port), Endpoint>);

impl Merged {
    fn add(&mut self, endpoint: Endpoint) {
        let key = (endpoint.address, endpoint.port);
        let rank = |e: &Endpoint| {
            let Condition { is_ready, is_serving, is_terminating } = e.condition;
            (e.is_local, is_ready, is_serving, is_terminating)
        };
        match self.0.get(&key) {
            Some(known) if rank(known) >= rank(&endpoint) => {}
            _ => {
                self.0.insert(key, endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, ClusterState, Node, Object, ObjectKey, TargetPort, TrafficPolicy};
    use k8s_openapi::api::core::v1 as core;
    use tidegate_dataplane::types::Protocol;

    fn pod(name: &str, spec: &str, status: &str) -> Object {
        let object: core::Pod = serde_saphyr::from_str(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{a: b, c: d}}}}, \
             spec: {{containers: []{spec}}}, status: {{{status}}}}}"
        ))
        .unwrap();
        Object::Pod(Pod::try_from(&object).unwrap())
    }

    fn service(selector: &[(&str, &str)], publish_not_ready: bool) -> Service {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Service {
            key: ObjectKey::new("default", "web"),
            skipped: None,
            families: Box::default(),
            ports: vec![],
            external_policy: TrafficPolicy::Cluster,
            internal_policy: TrafficPolicy::Cluster,
            cluster_addresses: Box::default(),
            selector: selector.iter().map(own).collect(),
            publish_not_ready,
            load_balancer_addresses: Box::default(),
            external_addresses: Box::default(),
            source_ranges: Box::default(),
            affinity_timeout: None,
            health_check_port: None,
            face: Arc::default(),
            unsupported: vec![],
        }
    }

    fn endpoints(objects: Vec<Object>, service: &Service) -> Vec<Endpoint> {
        let mut store = Store::new("gw");
        store.replace(&ClusterState::try_new(objects).unwrap());
        // A Service that comes after its Pods finds them, too.
        store.apply(Change::Upserted(Object::Service(service.clone())));
        let port = ServicePortSpec {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: L4Port::new(80),
            node_port: None,
            wants_node_port: false,
            target: TargetPort::Number(L4Port::new(5000)),
        };
        store.endpoints(service, &port)
    }

    #[test]
    fn a_pod_is_local_by_node_name_else_by_the_nodes_pod_network() {
        let node: core::Node = serde_saphyr::from_str(
            "{apiVersion: v1, kind: Node, metadata: {name: gw}, spec: {podCIDR: 10.244.0.0/24}}",
        )
        .unwrap();
        let objects = vec![
            Object::Node(Node::try_from(&node).unwrap()),
            pod("a", "", "podIP: 10.244.0.5"),
            pod("b", "", "podIP: 10.244.1.5"),
            pod("c", ", nodeName: other", "podIP: 10.244.0.6"),
            pod("d", ", nodeName: gw", "podIP: 192.0.2.1"),
        ];
        let found = endpoints(objects, &service(&[("a", "b")], false));
        let local: Vec<_> =
            found.iter().filter(|e| e.is_local).filter_map(|e| e.pod.as_deref()).collect();
        assert_eq!((local, found.len()), (vec!["a", "d"], 4));
    }

    #[test]
    fn every_label_must_match_and_no_selector_selects_nothing() {
        let pods = || vec![pod("a", "", "podIP: 10.244.0.5")];
        let count = |selector: &[(&str, &str)]| endpoints(pods(), &service(selector, false)).len();
        assert_eq!(count(&[("a", "b"), ("c", "d")]), 1);
        assert_eq!(count(&[("a", "b"), ("c", "x")]), 0);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn a_pod_that_is_not_ready_counts_as_ready_where_the_service_says_so() {
        let unready = "podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]";
        let is_ready = |publish| {
            let found = endpoints(vec![pod("a", "", unready)], &service(&[("a", "b")], publish));
            found[0].condition.is_ready
        };
        assert!(is_ready(true) && !is_ready(false));
        assert_eq!(endpoints(vec![pod("a", "", "")], &service(&[("a", "b")], true)).len(), 0);
    }
}
