//! Where the ends of a path stand: on the rivals' rig around a forwarder, or on this machine's own
//! interface.

use super::path::Path;
use super::traffic::Traffic;
use super::wire::end::End;
use crate::rivals::{Conntrack, Forwarder, Link, Placement, Rig, Scenario, serving};
use anyhow::{Context as _, Result, anyhow, ensure};
use core::net::SocketAddr;
use std::fs;
use tidegate_control::demo::rig::NetNs;
use tidegate_dataplane::types::{IfIndex, MacAddress};
use tidegate_dataplane::xdp::affinity;

/// The CPU of generator and sink.
pub(crate) const LAB_CPU: usize = 0;

/// The forwarder's.
pub(crate) const FORWARDER_CPU: usize = 1;

/// Has `forwarder` serve on a rig of its own, and `work` use the path through it.
pub(crate) fn around<T: Send>(
    forwarder: &dyn Forwarder,
    traffic: &Traffic,
    work: impl FnOnce(&mut Path) -> Result<T> + Send,
) -> Result<T> {
    let scenario = traffic.scenario();
    let (name, transport) = (forwarder.name(), traffic.transport);
    ensure!(forwarder.can(&scenario), "{name} is not for {transport:?}: choose another forwarder");
    let rig = Rig::with_backends(scenario.backends())?;
    around_rig(forwarder, (&rig, &scenario), || {
        let mut path = on_rig(&rig, forwarder, traffic)?;
        path.open_flows()?;
        work(&mut path)
    })
}

/// As [`around`], with backends that answer as sockets do.
pub(crate) fn around_sockets<T: Send>(
    forwarder: &dyn Forwarder,
    scenario: &Scenario,
    work: impl FnOnce(&Rig) -> Result<T> + Send,
) -> Result<T> {
    let rig = Rig::without_sink(scenario.backends())?;
    around_rig(forwarder, (&rig, scenario), || work(&rig))
}

/// `work` has the lab's CPU.
fn around_rig<T: Send>(
    forwarder: &dyn Forwarder,
    (rig, scenario): (&Rig, &Scenario),
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let _room = (forwarder.placement() == Placement::Forwarder)
        .then(|| Conntrack::with_room(scenario.flows_max()?))
        .transpose()?;
    serving(forwarder, (rig, scenario), FORWARDER_CPU, || {
        let worked = std::thread::scope(|scope| {
            let worker = scope.spawn(|| -> Result<T> {
                affinity::pin(LAB_CPU)?;
                work()
            });
            worker.join()
        });
        worked.map_err(|_panic| anyhow!("the generator panicked"))?
    })
}

fn on_rig(rig: &Rig, forwarder: &dyn Forwarder, traffic: &Traffic) -> Result<Path> {
    let route = rig.route(forwarder.destination(rig));
    let ends = traffic.ends(
        (route.source_mac, route.destination_mac),
        (route.source.into(), SocketAddr::V4(route.destination)),
    );
    let open = |netns: &NetNs, link: &Link, receives| {
        netns.enter(|| End::open(link.name, 0, link.index, receives))?
    };
    let client = open(rig.client_ns(), &rig.client, traffic.echo)?;
    let backend = open(rig.backends_ns(), &rig.backend, true)?;
    traffic.path((client, Some(backend)), &ends)
}

/// An interface of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) index: IfIndex,
    pub(crate) mac: MacAddress,
}

impl Local {
    /// Reads its number and address.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let read = |what: &str| {
            let path = format!("/sys/class/net/{name}/{what}");
            let text = fs::read_to_string(&path);
            text.with_context(|| format!("read {path}: `ip link` shows the interfaces there are"))
        };
        let index = IfIndex(read("ifindex")?.trim().parse().context("read its number")?);
        Ok(Self { index, mac: mac(read("address")?.trim())? })
    }
}

/// Reads an Ethernet address in the usual form.
pub(crate) fn mac(text: &str) -> Result<MacAddress> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect();
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(MacAddress).with_context(|| {
        format!("{text} is no Ethernet address: six bytes such as 02:00:00:00:00:01 are one")
    })
}
