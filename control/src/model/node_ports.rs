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
    // A health check's port must reach its listener (semantics H8).
    let health = services.values().filter_map(|s| Some((s.health_check_port?, s.key.clone())));
    taken.extend(health.map(|(port, key)| ((port, Protocol::Tcp), key)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1 as core;

    fn service(name: &str, node_port: Option<u16>) -> (ObjectKey, Arc<Service>) {
        let node_port = node_port.map_or_else(String::new, |port| format!(", nodePort: {port}"));
        let object: core::Service = serde_saphyr::from_str(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: NodePort, \
             ports: [{{port: 80{node_port}}}]}}}}"
        ))
        .unwrap();
        let service = Service::try_from(&object).unwrap();
        (service.key.clone(), Arc::new(service))
    }

    fn assigned(services: &[(ObjectKey, Arc<Service>)]) -> Vec<u16> {
        let mut map: BTreeMap<_, _> = services.iter().cloned().collect();
        assign(&mut map).unwrap();
        services
            .iter()
            .filter_map(|(key, _)| map[key].ports[0].node_port)
            .map(L4Port::number)
            .collect()
    }

    #[test]
    fn a_port_is_given_by_name_and_stays_when_others_come() {
        let web = service("web", None);
        let alone = assigned(std::slice::from_ref(&web))[0];
        assert!((30_000..=32_767).contains(&alone), "{alone}");
        let with_others =
            assigned(&[web.clone(), service("aaa", None), service("zzz", Some(30_080))]);
        assert_eq!(with_others[0], alone);
        assert_ne!(with_others[1], alone);
        let displaced = assigned(&[web.clone(), service("zzz", Some(alone))]);
        assert_eq!(displaced, [FIRST + (alone - FIRST + 1) % COUNT, alone]);
    }

    #[test]
    fn h8_a_health_checks_port_is_not_given() {
        let web = service("web", None);
        let alone = assigned(std::slice::from_ref(&web))[0];
        let (key, mut checked) = service("zzz", Some(30_000));
        Arc::make_mut(&mut checked).health_check_port = Some(L4Port::new(alone));
        assert_ne!(assigned(&[web, (key, checked)])[0], alone);
    }
}
