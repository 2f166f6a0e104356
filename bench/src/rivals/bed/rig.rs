//! Three namespaces in a row: client, gateway, and one with the backends that drops what comes.

use crate::generator::Route;
use anyhow::{Context as _, Result, ensure};
use core::net::{Ipv4Addr, SocketAddrV4};
use std::fs;
use tidegate_control::demo::rig::{CLIENT, GATEWAY, NetNs, RigPlan, Topology};
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// Backends that are enough for some ten thousand masqueraded flows.
pub(crate) const BACKENDS_FEW: u8 = 3;

/// The backends' port.
pub(crate) const BACKEND_PORT: u16 = 9;

/// The node port, in the rule files too.
pub(crate) const NODE_PORT: u16 = 30_090;

/// The flows' first source address. It and those that follow lie behind the client, in a network
/// kept for benchmarks (RFC 2544 appendix C.2.2).
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// All of them.
const SOURCES: &str = "198.18.0.0/15";

/// One end of a cable.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) index: IfIndex,
    pub(crate) mac: MacAddress,
}

/// The built rig; dropping it removes all of it.
#[derive(Debug)]
pub(crate) struct Rig {
    topology: Topology,
    /// Addresses of the backends.
    pub(crate) backends: Vec<Ipv4Addr>,
    pub(crate) client: Link,
    /// The gateway's interface towards the client.
    pub(crate) outer: Link,
    /// The gateway's interface towards the backends.
    pub(crate) inner: Link,
    pub(crate) backend: Link,
}

impl Rig {
    /// Builds it with few backends.
    pub(crate) fn build() -> Result<Self> {
        Self::with_backends(BACKENDS_FEW)
    }

    /// Builds it: addresses and neighbours are all known from the start. Backends drop what comes.
    pub(crate) fn with_backends(count: u8) -> Result<Self> {
        let rig = Self::without_sink(count)?;
        let sink = "add table netdev sink ; add chain netdev sink input \
            { type filter hook ingress device eth0 priority 0 ; } ; \
            add rule netdev sink input drop";
        rig.topology.node2().run(&format!("nft {sink}"))?;
        Ok(rig)
    }

    /// As [`Self::with_backends`], for backends that answer.
    pub(crate) fn without_sink(count: u8) -> Result<Self> {
        let topology = RigPlan::new("bench").build()?;
        let rig = Self {
            client: link(topology.client(), "eth0")?,
            outer: link(topology.gateway(), "eth0")?,
            inner: link(topology.gateway(), "eth1")?,
            backend: link(topology.node2(), "eth0")?,
            backends: backends(count),
            topology,
        };
        rig.introduce()?;
        Ok(rig)
    }

    fn introduce(&self) -> Result<()> {
        let (client, gateway, node2) = (self.client_ns(), self.gateway(), self.topology.node2());
        client.ip(&neighbour(GATEWAY, self.outer.mac, "eth0"))?;
        node2.ip(&neighbour(self.topology.plan().gateway_inside(), self.inner.mac, "eth0"))?;
        gateway.ip(&neighbour(CLIENT, self.client.mac, "eth0"))?;
        gateway.ip(&format!("route add {SOURCES} via {CLIENT} dev eth0"))?;
        for backend in &self.backends {
            gateway.ip(&neighbour(*backend, self.backend.mac, "eth1"))?;
        }
        Ok(())
    }

    pub(crate) fn client_ns(&self) -> &NetNs {
        self.topology.client()
    }

    pub(crate) fn gateway(&self) -> &NetNs {
        self.topology.gateway()
    }

    pub(crate) fn backends_ns(&self) -> &NetNs {
        self.topology.node2()
    }

    /// The gateway's address towards the backends.
    pub(crate) fn gateway_inside(&self) -> Ipv4Addr {
        self.topology.plan().gateway_inside()
    }

    /// From the client to `destination` by way of the gateway.
    pub(crate) fn route(&self, destination: SocketAddrV4) -> Route {
        Route {
            source_mac: self.client.mac,
            destination_mac: self.outer.mac,
            source: SOURCE,
            destination,
        }
    }

    /// Packets that reached the backends' interface since the rig was built.
    pub(crate) fn delivered(&self) -> Result<u64> {
        // Of the calling thread: /proc/net shows the namespace of the process's first thread.
        let table =
            self.topology.node2().enter(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let packets = line.and_then(|line| line.split_whitespace().nth(1));
        packets.context("find eth0's counters")?.parse().context("read eth0's counters")
    }
}

/// The first `count` addresses of backends.
pub(crate) fn backends(count: u8) -> Vec<Ipv4Addr> {
    (2..).take(count.into()).map(|host| Ipv4Addr::new(10, 0, 0, host)).collect()
}

fn neighbour(address: Ipv4Addr, mac: MacAddress, device: &str) -> String {
    format!("neigh replace {address} lladdr {mac} dev {device}")
}

/// Reads an interface's number and address.
pub(crate) fn link(netns: &NetNs, name: &'static str) -> Result<Link> {
    let json: serde_json::Value =
        serde_json::from_str(&netns.ip(&format!("-j link show {name}"))?)?;
    let index = json[0]["ifindex"].as_u64().context("find the interface's number")?;
    let bytes = json[0]["address"].as_str().context("find the interface's address")?.split(':');
    let bytes: Vec<u8> = bytes.map(|b| u8::from_str_radix(b, 16)).collect::<Result<_, _>>()?;
    ensure!(bytes.len() == 6, "an Ethernet address has six bytes, not {}", bytes.len());
    let mac = bytes.try_into().unwrap_or_default();
    Ok(Link { name, index: IfIndex(u32::try_from(index)?), mac: MacAddress(mac) })
}
