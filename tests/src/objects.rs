//! Objects as an API server would hold them.

use serde_json::{Value, json};

/// A Service of type NodePort in namespace `shop`, of both families.
pub fn service(name: &str, node_port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:10:96::10"], "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"port": 80, "targetPort": 5000, "nodePort": node_port, "protocol": "TCP"}]}})
}

/// A slice of that Service with these addresses, all of one family, ready, port 5000.
pub fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let is_ipv6 = addresses.iter().any(|address| address.contains(':'));
    let family = if is_ipv6 { "IPv6" } else { "IPv4" };
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": family, "endpoints": endpoints,
        "ports": [{"name": "", "port": 5000, "protocol": "TCP"}]})
}

/// A Node with these addresses.
pub fn node(name: &str, addresses: &[&str]) -> Value {
    let of_node = |address: &&str| json!({"type": "InternalIP", "address": address});
    let addresses: Vec<_> = addresses.iter().map(of_node).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": addresses}})
}
