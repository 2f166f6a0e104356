//! A pod: a namespace of its own behind a veth on its node, and the servers inside.

use super::plumbing::PodEnds;
use super::process::Process;
use super::{NetNs, Plumbing, RigError, RigPlan};
use crate::model::Family;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Stdio;

/// Where a pod runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// On the gateway itself: a local endpoint.
    Gateway,
    /// On the other node.
    Node2,
}

impl Node {
    /// The Kubernetes name of the node.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Node2 => "node2",
        }
    }

    /// The node's pod network, as CIDR.
    pub const fn pod_network(self) -> &'static str {
        match self {
            Self::Gateway => "10.244.1.0/24",
            Self::Node2 => "10.244.2.0/24",
        }
    }

    /// The address that the node has towards its pods, where it has one there.
    pub const fn pod_gateway(self) -> Ipv4Addr {
        self.pod_address(1)
    }

    /// As [`Self::pod_network`], for IPv6.
    pub const fn pod_network_v6(self) -> &'static str {
        match self {
            Self::Gateway => "fd00:244:1::/64",
            Self::Node2 => "fd00:244:2::/64",
        }
    }

    /// As [`Self::pod_gateway`], for IPv6.
    pub const fn pod_gateway_v6(self) -> Ipv6Addr {
        self.pod_address_v6(1)
    }

    /// The address of the node's VXLAN device of this family, where it has one: the first of its
    /// pods' network.
    pub const fn overlay_address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.pod_address(0)),
            Family::V6 => IpAddr::V6(self.pod_address_v6(0)),
        }
    }

    const fn pod_address_v6(self, host: u16) -> Ipv6Addr {
        match self {
            Self::Gateway => Ipv6Addr::new(0xfd00, 0x244, 1, 0, 0, 0, 0, host),
            Self::Node2 => Ipv6Addr::new(0xfd00, 0x244, 2, 0, 0, 0, 0, host),
        }
    }

    const fn pod_address(self, host: u8) -> Ipv4Addr {
        match self {
            Self::Gateway => Ipv4Addr::new(10, 244, 1, host),
            Self::Node2 => Ipv4Addr::new(10, 244, 2, host),
        }
    }
}

/// A pod of the rig. Dropping it stops its servers and removes its namespace.
#[derive(Debug)]
pub struct Pod {
    // Before the namespace: servers stop first.
    servers: Option<Process>,
    netns: NetNs,
    name: String,
    node: Node,
    address: Ipv4Addr,
    address_v6: Ipv6Addr,
    host_interface: String,
    plumbing: Plumbing,
    /// Of each end of its cable, in `ip`'s words.
    queues: String,
}

impl Pod {
    /// Connects `netns` to its node. At most 200 pods.
    pub(super) fn connect(
        netns: NetNs,
        host: &NetNs,
        node: Node,
        (name, index): (&str, usize),
        plan: &RigPlan,
    ) -> Result<Self, RigError> {
        let octet = u8::try_from(10 + index).unwrap_or(u8::MAX);
        let (address, address_v6) = (node.pod_address(octet), node.pod_address_v6(octet.into()));
        let pod = Self {
            servers: None,
            netns,
            name: name.to_owned(),
            node,
            address,
            address_v6,
            host_interface: plan.plumbing.host_interface(index),
            plumbing: plan.plumbing,
            queues: plan.queue_words(),
        };
        pod.plug(host, &pod.host_interface)?;
        Ok(pod)
    }

    /// Lays the cable, at first or after its node's end was deleted. `end` is that end's name, and
    /// may go on with words of `ip link add`, such as `index 77`.
    ///
    /// # Errors
    /// A command fails.
    pub fn plug(&self, host: &NetNs, end: &str) -> Result<(), RigError> {
        self.plumbing.connect(&self.ends(host, end))
    }

    /// Gives both ends their addresses and routes, as far as they are missing: some go with a link
    /// that is set down.
    ///
    /// # Errors
    /// A command fails.
    pub fn give_ways(&self, host: &NetNs, end: &str) -> Result<(), RigError> {
        self.plumbing.give_ways(&self.ends(host, end))
    }

    fn ends<'a>(&'a self, host: &'a NetNs, end: &'a str) -> PodEnds<'a> {
        let (interface, options) = end.split_once(' ').unwrap_or((end, ""));
        let addresses = [self.address.into(), self.address_v6.into()];
        let (pod, node, queues) = (&self.netns, self.node, &*self.queues);
        PodEnds { pod, host, node, interface, options, addresses, queues }
    }

    /// Starts servers on the `(HTTP, UDP)` ports, and returns when both are bound. `binary` is
    /// `tidegate`, `log` where they complain.
    ///
    /// # Errors
    /// The servers do not start.
    pub fn start_servers(
        &mut self,
        binary: &Path,
        (http, udp): (u16, u16),
        log: Stdio,
    ) -> Result<(), RigError> {
        let mut command = self.netns.command(binary);
        command.args(["demo-pod", "--name", &self.name]);
        command.args(["--http", &http.to_string(), "--udp", &udp.to_string()]).stderr(log);
        self.servers = Some(Process::start_and_await_line(command, "ready")?);
        Ok(())
    }

    /// Kills the servers; the pod's address stays.
    pub fn stop_servers(&mut self) {
        self.servers = None;
    }

    /// Its name, also in its servers' answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node.
    pub fn node(&self) -> Node {
        self.node
    }

    /// Its IPv4 address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its address of this family.
    pub fn address_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.address.into(),
            Family::V6 => self.address_v6.into(),
        }
    }

    /// The name of the node's end of its veth.
    pub fn host_interface(&self) -> &str {
        &self.host_interface
    }

    /// Its namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    pub(super) fn keep(&mut self) {
        self.netns.keep();
        if let Some(servers) = self.servers.take() {
            servers.keep();
        }
    }
}
