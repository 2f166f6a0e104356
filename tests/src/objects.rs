//! Objects as an API server would hold them.

use serde_json::{Value, json};

/// A Service of type NodePort in namespace `shop`.
pub fn service(name: &str, node_port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "targetPort": 5000, "nodePort": node_port, "protocol": "TCP"}]}})
}

/// A slice of that Service with these addresses, ready, port 5000.
pub fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "", "port": 5000, "protocol": "TCP"}]})
}

/// A Node with one address.
pub fn node(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}
