//! The namespaces and the cables between them.
//!
//! ```text
//! two arms    client eth0 -- eth0 gateway eth1 -- eth0 node2   pods: a veth each on their node,
//! one arm     client eth0 --+-- eth0 gateway                   connected as the plan says
//!                           +-- eth0 node2   (bridge in `segment`)
//! ```

use super::namespace::{NetNs, remove_leftovers};
use super::plan::{Arms, CLIENT, CLIENT_V6, GATEWAY, GATEWAY_V6, RigPlan, families};
use super::{Node, Pod, RigError};
use crate::model::Family;
use core::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Rigs made by this process; part of each one's names.
static RIGS: AtomicU32 = AtomicU32::new(0);

/// The built rig. Dropping it removes all of it.
#[derive(Debug)]
pub struct Topology {
    // Pods first: fields are dropped in order, and pods hang on the nodes.
    pods: Vec<Pod>,
    prefix: String,
    plan: RigPlan,
    client: NetNs,
    gateway: NetNs,
    node2: NetNs,
    segment: Option<NetNs>,
}

impl Topology {
    pub(super) fn build(plan: &RigPlan) -> Result<Self, RigError> {
        let kind = format!("tidegate-{}", plan.kind);
        for name in remove_leftovers(&kind)? {
            tracing::warn!(name, "removed what an earlier run left");
        }
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{kind}-{}-{number}", std::process::id());
        let make = |name: &str| NetNs::create(&format!("{prefix}-{name}"));
        let segment = match plan.arms {
            Arms::One => Some(make("segment")?),
            Arms::Two => None,
        };
        let (client, gateway, node2) = (make("client")?, make("gateway")?, make("node2")?);
        let plan = plan.clone();
        let rig = Self { pods: Vec::new(), prefix, plan, client, gateway, node2, segment };
        rig.set_parameters()?;
        rig.lay_cables()?;
        rig.add_addresses()?;
        for (host, node) in [(&rig.gateway, Node::Gateway), (&rig.node2, Node::Node2)] {
            rig.plan.plumbing.prepare(host, node, &rig.plan)?;
        }
        Ok(rig)
    }

    /// Where the clients are.
    pub fn client(&self) -> &NetNs {
        &self.client
    }

    /// Where tidegate runs.
    pub fn gateway(&self) -> &NetNs {
        &self.gateway
    }

    /// The other node: a router before its pods.
    pub fn node2(&self) -> &NetNs {
        &self.node2
    }

    /// What sends to the gateway: the other ends of its cables and of its own pods' veths.
    pub fn far_ends(&self) -> Vec<(&NetNs, &'static str)> {
        let mut ends = match &self.segment {
            Some(segment) => vec![(segment, "p1")],
            None => vec![(&self.client, "eth0"), (&self.node2, "eth0")],
        };
        let local = self.pods.iter().filter(|pod| pod.node() == Node::Gateway);
        ends.extend(local.map(|pod| (pod.netns(), "eth0")));
        ends
    }

    /// The shape it was built with.
    pub fn plan(&self) -> &RigPlan {
        &self.plan
    }

    /// The pods, in the order in which they were added.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Whether `address` is one of the gateway's, any of which masquerading may choose.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        let (inside, pods) = (self.plan.gateway_inside(), Node::Gateway.pod_gateway());
        let (inside_v6, pods_v6) = (self.plan.gateway_inside_v6(), Node::Gateway.pod_gateway_v6());
        let is_plain = match address {
            IpAddr::V4(address) => [GATEWAY, inside, pods].contains(&address),
            IpAddr::V6(address) => [GATEWAY_V6, inside_v6, pods_v6].contains(&address),
        };
        is_plain || address == Node::Gateway.overlay_address(Family::of(address))
    }

    /// Adds a pod `name` (unique, a DNS label) to a node. Its servers are not started.
    ///
    /// # Errors
    /// A command fails.
    pub fn add_pod(&mut self, node: Node, name: &str) -> Result<&mut Pod, RigError> {
        let index = self.pods.len();
        let host = match node {
            Node::Gateway => &self.gateway,
            Node::Node2 => &self.node2,
        };
        let netns = NetNs::create(&format!("{}-{name}", self.prefix))?;
        set_ipv6_parameters(&netns)?;
        self.pods.push(Pod::connect(netns, host, node, (name, index), &self.plan)?);
        Ok(&mut self.pods[index])
    }

    /// The pod called `name`, to start or stop its servers.
    pub fn pod_mut(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name() == name)
    }

    /// Leaves everything in place on drop, the pods' servers too.
    pub fn keep(&mut self) {
        self.pods.iter_mut().for_each(Pod::keep);
        let fixed = [&mut self.client, &mut self.gateway, &mut self.node2];
        fixed.into_iter().chain(&mut self.segment).for_each(NetNs::keep);
    }

    fn set_parameters(&self) -> Result<(), RigError> {
        for router in [&self.gateway, &self.node2] {
            for setting in ["ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"] {
                router.sysctl(&format!("net.ipv4.{setting}"))?;
            }
            // On one segment the gateway would tell the client of a shorter way to node2.
            router.sysctl("net.ipv4.conf.all.send_redirects=0")?;
            router.sysctl("net.ipv4.conf.default.send_redirects=0")?;
        }
        for netns in [&self.client, &self.gateway, &self.node2] {
            set_ipv6_parameters(netns)?;
        }
        if families().contains(&Family::V6) {
            self.gateway.sysctl("net.ipv6.conf.all.forwarding=1")?;
            self.node2.sysctl("net.ipv6.conf.all.forwarding=1")?;
        }
        // Thousands of connections to one port: leave the client all source ports it can have.
        self.client.sysctl("net.ipv4.ip_local_port_range=1024 65535")?;
        self.client.sysctl("net.ipv4.tcp_tw_reuse=1")
    }

    fn lay_cables(&self) -> Result<(), RigError> {
        let Some(segment) = &self.segment else {
            self.lay_cable((&self.client, "eth0"), (&self.gateway, "eth0"))?;
            return self.lay_cable((&self.gateway, "eth1"), (&self.node2, "eth0"));
        };
        segment.ip("link add br0 type bridge")?;
        segment.ip("link set br0 up")?;
        for (host, end) in [(&self.client, "p0"), (&self.gateway, "p1"), (&self.node2, "p2")] {
            self.lay_cable((host, "eth0"), (segment, end))?;
            segment.ip(&format!("link set {end} master br0"))?;
        }
        Ok(())
    }

    fn lay_cable(&self, a: (&NetNs, &str), b: (&NetNs, &str)) -> Result<(), RigError> {
        let queues = self.plan.queue_words();
        let peer = format!("type veth peer name {} {queues} netns {}", b.1, b.0.name());
        a.0.ip(&format!("link add {} {queues} {peer}", a.1))?;
        a.0.ip(&format!("link set {} up", a.1))?;
        b.0.ip(&format!("link set {} up", b.1)).map(drop)
    }

    fn add_addresses(&self) -> Result<(), RigError> {
        let (node2, inside) = (self.plan.node2(), self.plan.gateway_inside());
        self.client.ip(&format!("addr add {CLIENT}/24 dev eth0"))?;
        self.client.ip(&format!("route add default via {GATEWAY}"))?;
        self.gateway.ip(&format!("addr add {GATEWAY}/24 dev eth0"))?;
        if self.plan.arms == Arms::Two {
            self.gateway.ip(&format!("addr add {inside}/24 dev eth1"))?;
        }
        self.node2.ip(&format!("addr add {node2}/24 dev eth0"))?;
        self.node2.ip(&format!("route add default via {inside}"))?;
        if self.plan.plumbing.has_node_routes() {
            self.gateway.ip(&format!("route add {} via {node2}", Node::Node2.pod_network()))?;
        }
        if families().contains(&Family::V6) { self.add_addresses_v6() } else { Ok(()) }
    }

    fn add_addresses_v6(&self) -> Result<(), RigError> {
        let (node2, inside) = (self.plan.node2_v6(), self.plan.gateway_inside_v6());
        self.client.ip(&format!("addr add {CLIENT_V6}/64 dev eth0"))?;
        self.client.ip(&format!("route add default via {GATEWAY_V6}"))?;
        self.gateway.ip(&format!("addr add {GATEWAY_V6}/64 dev eth0"))?;
        if self.plan.arms == Arms::Two {
            self.gateway.ip(&format!("addr add {inside}/64 dev eth1"))?;
        }
        self.node2.ip(&format!("addr add {node2}/64 dev eth0"))?;
        self.node2.ip(&format!("route add default via {inside}"))?;
        if self.plan.plumbing.has_node_routes() {
            self.gateway.ip(&format!("route add {} via {node2}", Node::Node2.pod_network_v6()))?;
        }
        Ok(())
    }
}

/// Addresses that may be used at once: nobody else is there to have the same. No router is, either.
fn set_ipv6_parameters(netns: &NetNs) -> Result<(), RigError> {
    if !families().contains(&Family::V6) {
        return Ok(());
    }
    for kind in ["all", "default"] {
        for setting in ["disable_ipv6=0", "accept_dad=0", "accept_ra=0", "accept_redirects=0"] {
            netns.sysctl(&format!("net.ipv6.conf.{kind}.{setting}"))?;
        }
    }
    Ok(())
}
