//! A made-up cluster, as the API server would tell it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::json;
use std::net::Ipv4Addr;
use tidegate_control::model::{EndpointSlice, Object, Service};

/// Nodes that the endpoints lie on, in turn.
pub(crate) const NODES: u32 = 1_000;

/// The first node port: an API server with as many Services has a wider range than the default.
const NODE_PORT_FIRST: u32 = 20_000;

/// One endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// Which of all endpoints.
    pub(crate) number: u32,
    pub(crate) is_ready: bool,
    pub(crate) is_terminating: bool,
}

impl Endpoint {
    /// A ready one.
    pub(crate) fn ready(number: u32) -> Self {
        Self { number, is_ready: true, is_terminating: false }
    }

    /// Unique up to 256,000 endpoints: each node has a /24.
    fn address(self) -> Ipv4Addr {
        let (node, place) = (self.number % NODES, self.number / NODES);
        let [.., high, low] = node.to_be_bytes();
        let [.., place] = place.to_be_bytes();
        Ipv4Addr::new(10, 128 + high, low, place)
    }
}

/// The text of a Service with so many ports, each with a node port.
pub(crate) fn service(number: u32, ports: u32) -> String {
    let port = |n: u32| {
        json!({
            "name": format!("port-{n}"), "protocol": "TCP", "port": 80 + n, "targetPort": 8080 + n,
            "nodePort": NODE_PORT_FIRST + number + n,
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name(number), "namespace": namespace(number),
            "uid": format!("5f8a3c1e-0000-4000-8000-{number:012}"), "resourceVersion": "123456",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/name": name(number), "app.kubernetes.io/part-of": "shop"},
        },
        "spec": {
            "type": "NodePort", "clusterIP": format!("10.{}.{}.{}", 64 + number / 65_536,
                number / 256 % 256, number % 256),
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None", "selector": {"app.kubernetes.io/name": name(number)},
            "ports": (0..ports).map(port).collect::<Vec<_>>(),
        },
        "status": {"loadBalancer": {}},
    })
    .to_string()
}

/// The text of the slice of a Service with so many ports.
pub(crate) fn slice(number: u32, ports: u32, endpoints: &[Endpoint]) -> String {
    let endpoint = |endpoint: &Endpoint| {
        let node = endpoint.number % NODES;
        json!({
            "addresses": [endpoint.address().to_string()],
            "conditions": {
                "ready": endpoint.is_ready, "terminating": endpoint.is_terminating,
                "serving": endpoint.is_ready || endpoint.is_terminating,
            },
            "nodeName": format!("node-{node}"), "zone": format!("zone-{}", node % 3),
            "targetRef": {
                "kind": "Pod", "namespace": namespace(number),
                "name": format!("{}-7d4b9c6f5-{:05}", name(number), endpoint.number),
                "uid": format!("9a1b2c3d-0000-4000-8000-{:012}", endpoint.number),
            },
        })
    };
    let port = |n: u32| json!({"name": format!("port-{n}"), "protocol": "TCP", "port": 8080 + n});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{}-x7k2p", name(number)), "namespace": namespace(number),
            "uid": format!("1c2d3e4f-0000-4000-8000-{number:012}"), "resourceVersion": "123457",
            "labels": {
                "kubernetes.io/service-name": name(number),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "ports": (0..ports).map(port).collect::<Vec<_>>(),
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
    .to_string()
}

/// Reads a Service as a source would.
pub(crate) fn parse_service(text: &str) -> Result<Object> {
    let object: core::Service = serde_json::from_str(text).context("read a Service")?;
    Ok(Object::Service(Service::try_from(&object)?))
}

/// Reads a slice as a source would.
pub(crate) fn parse_slice(text: &str) -> Result<Object> {
    let object: discovery::EndpointSlice = serde_json::from_str(text).context("read a slice")?;
    Ok(Object::EndpointSlice(EndpointSlice::try_from(&object)?))
}

fn name(number: u32) -> String {
    format!("service-{number:05}")
}

/// A hundred Services in each.
fn namespace(number: u32) -> String {
    format!("team-{:03}", number / 100)
}
