//! A pod: a namespace of its own behind a veth on its node, and the servers inside.

use super::process::Process;
use super::{NetNs, RigError};
use core::net::Ipv4Addr;
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

    /// The address that the node has on the host end of each of its pods' veths.
    pub const fn pod_gateway(self) -> Ipv4Addr {
        self.pod_address(1)
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
    host_interface: String,
}

impl Pod {
    /// Connects `netns` to its node as the CNI plugin `ptp` does: a veth whose host end carries
    /// the node's pod gateway address, and a host route. At most 200 pods.
    pub(super) fn connect(
        netns: NetNs,
        host: &NetNs,
        node: Node,
        (name, index): (&str, usize),
    ) -> Result<Self, RigError> {
        let octet = u8::try_from(10 + index).unwrap_or(u8::MAX);
        let (address, gateway) = (node.pod_address(octet), node.pod_gateway());
        let host_interface = format!("veth{index}");
        host.ip(&format!(
            "link add {host_interface} type veth peer name eth0 netns {}",
            netns.name()
        ))?;
        host.ip(&format!("addr add {gateway}/32 dev {host_interface}"))?;
        host.ip(&format!("link set {host_interface} up"))?;
        host.ip(&format!("route add {address}/32 dev {host_interface}"))?;
        netns.ip(&format!("addr add {address}/32 dev eth0"))?;
        netns.ip("link set eth0 up")?;
        netns.ip(&format!("route add {gateway} dev eth0"))?;
        netns.ip(&format!("route add default via {gateway}"))?;
        let name = name.to_owned();
        Ok(Self { servers: None, netns, name, node, address, host_interface })
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

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
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
