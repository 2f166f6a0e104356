//! Three namespaces in a row: client, gateway, and one with the backends that drops what comes.

use crate::generator::Route;
use anyhow::{Context as _, Result, ensure};
use core::net::{Ipv4Addr, SocketAddrV4};
use std::fs;
use tidegate_control::demo::rig::{CLIENT, GATEWAY, NetNs, RigPlan, Topology};
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// The backends' addresses, in the rule files too.
pub(crate) const BACKENDS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 4)];

/// The backends' port, in the rule files too.
pub(crate) const BACKEND_PORT: u16 = 9;

/// The node port, in the rule files too.
pub(crate) const NODE_PORT: u16 = 30_090;

/// Source addresses that flows may have: more than 100,000 flows.
const CLIENTS: u8 = 4;

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
    pub(crate) client: Link,
    /// The gateway's interface towards the client.
    pub(crate) outer: Link,
    /// The gateway's interface towards the backends.
    pub(crate) inner: Link,
    pub(crate) backend: Link,
}

impl Rig {
    /// Builds it: addresses and neighbours are all known from the start.
    pub(crate) fn build() -> Result<Self> {
        let topology = RigPlan::new("bench").build()?;
        let rig = Self {
            client: link(topology.client(), "eth0")?,
            outer: link(topology.gateway(), "eth0")?,
            inner: link(topology.gateway(), "eth1")?,
            backend: link(topology.node2(), "eth0")?,
            topology,
        };
        rig.introduce()?;
        let sink = "add table netdev sink ; add chain netdev sink input \
            { type filter hook ingress device eth0 priority 0 ; } ; \
            add rule netdev sink input drop";
        rig.topology.node2().run(&format!("nft {sink}"))?;
        Ok(rig)
    }

    fn introduce(&self) -> Result<()> {
        let (client, gateway, node2) = (self.client_ns(), self.gateway(), self.topology.node2());
        client.ip(&neighbour(GATEWAY, self.outer.mac, "eth0"))?;
        node2.ip(&neighbour(self.topology.plan().gateway_inside(), self.inner.mac, "eth0"))?;
        let [a, b, c, first] = CLIENT.octets();
        for last in first..first + CLIENTS {
            gateway.ip(&neighbour(Ipv4Addr::new(a, b, c, last), self.client.mac, "eth0"))?;
        }
        for backend in BACKENDS {
            gateway.ip(&neighbour(backend, self.backend.mac, "eth1"))?;
            if backend != self.topology.plan().node2() {
                node2.ip(&format!("addr add {backend}/24 dev eth0"))?;
            }
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
            source: CLIENT,
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
