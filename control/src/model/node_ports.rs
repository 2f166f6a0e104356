//! Node ports for Services whose manifest names none, and clashes between those that do.

use super::service::Service;
use super::state::NodePortClash;
use super::words::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::types::{L4Port, Protocol};
use xxhash_rust::xxh3::xxh3_64;

/// The API server's default `--service-node-port-range`: first port and count.
const FIRST: u16 = 30_000;
const COUNT: u16 = 2_768;

type Taken = BTreeMap<(L4Port, Protocol), ObjectKey>;

/// Gives every port that wants one a node port. The choice depends on the Service's name, so that
/// it survives restarts and other Services coming and going.
///
/// # Errors
/// Two Services claim one port by name.
pub(super) fn assign(
    services: &mut BTreeMap<ObjectKey, Arc<Service>>,
) -> Result<(), NodePortClash> {
    let mut taken = claimed(services)?;
    let wants = |service: &Arc<Service>| {
        service.ports.iter().any(|port| port.wants_node_port && port.node_port.is_none())
    };
    for service in services.values_mut().filter(|service| wants(service)) {
        let service = Arc::make_mut(service);
        for port in service.ports.iter_mut().filter(|p| p.wants_node_port) {
            if port.node_port.is_some() {
                continue;
            }
            port.node_port = free_port(&service.key, &port.name, port.protocol, &taken);
            if let Some(number) = port.node_port {
                taken.insert((number, port.protocol), service.key.clone());
            }
        }
    }
    Ok(())
}

fn claimed(services: &BTreeMap<ObjectKey, Arc<Service>>) -> Result<Taken, NodePortClash> {
    let mut taken = Taken::new();
    for service in services.values() {
        for spec in &service.ports {
            let Some(port) = spec.node_port else { continue };
            let protocol = spec.protocol;
            if let Some(first) = taken.insert((port, protocol), service.key.clone()) {
                return Err(NodePortClash { port, protocol, first, second: service.key.clone() });
            }
        }
    }
    Ok(taken)
}

/// The first free port from the name's own place on; `None` where all are taken.
fn free_port(
    service: &ObjectKey,
    port_name: &str,
    protocol: Protocol,
    taken: &Taken,
) -> Option<L4Port> {
    let place = xxh3_64(format!("{service}:{port_name}/{protocol}").as_bytes());
    let start = u16::try_from(place % u64::from(COUNT)).unwrap_or(0);
    let candidates = (0..COUNT).map(|i| L4Port::new(FIRST + (start + i) % COUNT));
    candidates.into_iter().find(|port| !taken.contains_key(&(*port, protocol)))
}
