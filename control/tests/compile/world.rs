//! A cluster and a node's network that change at random.

use crate::rig::{CNI0, ETH0, ETH1, Rig, VETH_A, VETH_B, mac};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::{Value, json};
use std::sync::Arc;
use tidegate_control::config::Algorithm;
use tidegate_control::model::{
    Change, EndpointSlice, Node, Object, ObjectKey, ObjectName, Pod, Service, Store,
};
use tidegate_control::netlink::NeighbourState;
use tidegate_dataplane::random::Random;
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, MacAddress};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ADDRESSES: [&str; 8] = [
    "10.244.0.5",
    "10.244.0.6",
    "10.244.1.7",
    "10.244.1.8",
    "192.168.1.1",
    "192.168.1.9",
    "172.16.0.1",
    "10.0.0.77",
];
const LINKS: [(IfIndex, u16); 5] = [(ETH0, 1), (ETH1, 2), (VETH_A, 3), (VETH_B, 4), (CNI0, 5)];

/// What a compiler is told.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) rig: Rig,
    pub(crate) random: Random,
    /// The changes, for people.
    pub(crate) told: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let mut rig = Rig::new();
        rig.add_link(CNI0, "cni0");
        Self { store: Store::new("gw"), rig, random, told: Vec::new() }
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.random.below(u32::try_from(list.len()).unwrap()) as usize]
    }

    fn is(&mut self, percent: u32) -> bool {
        self.random.below(100) < percent
    }

    /// Changes one thing.
    pub(crate) fn change(&mut self) {
        match self.random.below(10) {
            0..=2 => self.change_service(),
            3..=5 => self.change_slice(),
            6 => self.change_pod(),
            7 => self.change_node(),
            _ => self.change_network(),
        }
    }

    fn apply(&mut self, change: Change) {
        self.told.push(format!("{change:?}"));
        if self.is(20) {
            // As a relist tells it: the whole state with the change in it.
            let mut next = self.store.state().clone();
            next.apply(change);
            self.store.replace(&next);
        } else {
            self.store.apply(change);
        }
    }

    fn upsert(&mut self, kind: &str, value: Value) {
        let object = match kind {
            "Service" => Object::Service(
                Service::try_from(&serde_json::from_value::<core::Service>(value).unwrap())
                    .unwrap(),
            ),
            "EndpointSlice" => {
                let slice = serde_json::from_value::<discovery::EndpointSlice>(value).unwrap();
                Object::EndpointSlice(EndpointSlice::try_from(&slice).unwrap())
            }
            "Pod" => Object::Pod(
                Pod::try_from(&serde_json::from_value::<core::Pod>(value).unwrap()).unwrap(),
            ),
            _ => Object::Node(
                Node::try_from(&serde_json::from_value::<core::Node>(value).unwrap()).unwrap(),
            ),
        };
        self.apply(Change::Upserted(object));
    }

    /// A NodePort Service with one ready endpoint.
    pub(crate) fn serve(&mut self, name: &str, address: &str, node_port: u16) {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]});
        self.upsert("Service", json!({"metadata": {"name": name}, "spec": spec}));
        self.upsert(
            "EndpointSlice",
            json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            }),
        );
    }

    fn change_service(&mut self) {
        let name = self.pick(&NAMES);
        if self.is(20) {
            let key = ObjectKey::new("default", name);
            return self.apply(Change::Removed(ObjectName::Service(key)));
        }
        let base = 30_000 + u16::from(name.as_bytes()[0]) * 2;
        let ports = match self.random.below(4) {
            0 => json!([port("x", 80, base), port("y", 81, base + 1)]),
            1 => json!([port("y", 81, base + 1), port("x", 80, base)]),
            2 => json!([port("x", 80, base)]),
            _ => json!([port("x", 80, base), {"name": "u", "port": 80, "protocol": "UDP"}]),
        };
        let mut spec = json!({
            "type": self.pick(&["NodePort", "LoadBalancer", "LoadBalancer"]), "ports": ports,
            "externalTrafficPolicy": self.pick(&["Cluster", "Local"]),
        });
        if self.is(60) {
            spec["selector"] = json!({"app": self.pick(&["p", "q"])});
        }
        if self.is(30) {
            spec["externalIPs"] = json!([self.pick(&["198.51.100.1", "198.51.100.2", "10.0.0.1"])]);
        }
        if self.is(20) {
            spec["sessionAffinity"] = json!("ClientIP");
        }
        if self.is(20) {
            spec["loadBalancerSourceRanges"] = json!(["10.9.0.0/16"]);
        }
        let mut metadata = json!({"name": name});
        if self.is(10) {
            metadata["labels"] = json!({"service.kubernetes.io/headless": ""});
        }
        let vip = self.pick(&["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
        let status = json!({"loadBalancer": {"ingress": [{"ip": vip}]}});
        self.upsert("Service", json!({"metadata": metadata, "spec": spec, "status": status}));
    }

    fn change_slice(&mut self) {
        let name = self.pick(&["s", "t", "u", "v", "w"]);
        if self.is(25) {
            let key = ObjectKey::new("default", name);
            return self.apply(Change::Removed(ObjectName::EndpointSlice(key)));
        }
        let endpoints: Vec<_> = (0..self.random.below(5)).map(|_| self.endpoint()).collect();
        let service = self.pick(&NAMES);
        self.upsert(
            "EndpointSlice",
            json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "x", "port": 8080}, {"name": "y", "port": 8081},
                          {"name": "u", "port": 53, "protocol": "UDP"}],
            }),
        );
    }

    fn endpoint(&mut self) -> Value {
        let conditions = match self.random.below(5) {
            0 => json!({"ready": false}),
            1 => json!({"ready": false, "serving": true, "terminating": true}),
            2 => json!({"ready": false, "serving": false, "terminating": true}),
            _ => json!({"ready": true}),
        };
        let mut endpoint = json!({
            "addresses": [self.pick(&ADDRESSES)], "conditions": conditions,
            "nodeName": self.pick(&["gw", "n1"]),
        });
        if self.is(40) {
            endpoint["hints"] = json!({"forZones": [{"name": self.pick(&["z1", "z2"])}]});
        }
        endpoint
    }

    fn change_pod(&mut self) {
        let name = self.pick(&NAMES);
        if self.is(25) {
            let key = ObjectKey::new("default", name);
            return self.apply(Change::Removed(ObjectName::Pod(key)));
        }
        let ready = json!({"type": "Ready", "status": self.pick(&["True", "False"])});
        let address = self.pick(&ADDRESSES);
        let app = self.pick(&["p", "q", "r"]);
        self.upsert(
            "Pod",
            json!({
                "metadata": {"name": name, "labels": {"app": app, "x": "y"}},
                "spec": {"containers": []},
                "status": {"podIP": address, "conditions": [ready]},
            }),
        );
    }

    fn change_node(&mut self) {
        let name = self.pick(&["gw", "gw", "other"]);
        if self.is(25) {
            return self.apply(Change::Removed(ObjectName::Node(name.into())));
        }
        let zone = self.pick(&["z1", "z2", ""]);
        let network = self.pick(&["10.244.0.0/24", "10.244.1.0/24"]);
        let address = self.pick(&["10.0.0.1", "192.168.1.1", "203.0.113.5"]);
        self.upsert(
            "Node",
            json!({
                "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
                "spec": {"podCIDRs": [network]},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]},
            }),
        );
    }

    fn change_network(&mut self) {
        let (link, slot) = LINKS[self.random.below(5) as usize];
        let slot = InterfaceSlot(slot);
        let kind = self.random.below(12);
        self.told.push(format!("network: {kind} of link {}", link.0));
        match kind {
            0 | 1 => drop(self.rig.attached.insert(slot, link)),
            2 => drop(self.rig.attached.remove(&slot)),
            3 | 4 => {
                let is_more = self.is(50);
                let links = Arc::make_mut(&mut self.rig.network.links);
                if let Some(link) = links.get_mut(&link) {
                    link.is_up = !link.is_up;
                    link.mtu_bytes = if is_more { 1500 } else { 1400 };
                    link.mac = MacAddress([2, 0, 0, 0, is_more.into(), 7]);
                }
            }
            5 => self.change_address(link),
            6 => self.change_route(link),
            7 | 8 => {
                let address = self.pick(&ADDRESSES);
                let address = self.pick(&[address, "192.168.1.2", "192.168.1.3"]);
                let state = NeighbourState::Known(mac(IfIndex(self.random.below(200))));
                self.rig.set_neighbour(link, address, state);
            }
            9 if link != CNI0 => {
                let is_port = self.is(60);
                let links = Arc::make_mut(&mut self.rig.network.links);
                links.get_mut(&link).unwrap().master = is_port.then_some(CNI0);
            }
            10 => {
                let half = self.random.below(2) * 100;
                (half..half + 100).for_each(|n| self.rig.teach(CNI0, mac(IfIndex(n)), link));
            }
            _ => {
                let is_random = self.is(50);
                let algorithm = &mut self.rig.config.load_balancer.algorithm;
                *algorithm = if is_random { Algorithm::Random } else { Algorithm::Maglev };
            }
        }
    }

    fn change_address(&mut self, link: IfIndex) {
        let text = self.pick(&["10.0.0.1", "192.168.1.1", "10.244.0.6", "172.16.0.1", "10.0.0.2"]);
        let address = text.parse::<std::net::IpAddr>().unwrap();
        if self.is(50) {
            let addresses = Arc::make_mut(&mut self.rig.network.addresses);
            addresses.retain(|own| own.address != address);
        } else {
            self.rig.add_address(link, text);
        }
    }

    fn change_route(&mut self, link: IfIndex) {
        let net = self.pick(&["10.244.0.0/16", "10.244.1.0/24", "10.244.0.5/32", "0.0.0.0/0"]);
        let parsed: ipnet::Ipv4Net = net.parse().unwrap();
        Arc::make_mut(&mut self.rig.network.routes).v4.remove(&parsed);
        if self.is(70) {
            let gateway = self.pick(&["", "192.168.1.2", "192.168.1.3"]);
            self.rig.add_route(net, link, (!gateway.is_empty()).then_some(gateway));
        }
    }
}

/// A port of a Service.
fn port(name: &str, number: u16, node_port: u16) -> Value {
    json!({"name": name, "port": number, "nodePort": node_port})
}
