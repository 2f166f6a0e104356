//! What people see of a Service: the columns of `kubectl get services`. Nothing is served by it.

use k8s_openapi::api::core::v1 as core;
use std::sync::Arc;
use std::time::SystemTime;

/// A Service in Kubernetes' own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceFace {
    /// `metadata.uid`; empty in manifests that were never applied.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp`.
    pub created: Option<SystemTime>,
    /// `spec.type`.
    pub kind: Box<str>,
    /// `spec.clusterIPs`, or `spec.clusterIP` alone.
    pub cluster_ips: Vec<String>,
    /// `spec.externalName`; of that type alone.
    pub external_name: Option<String>,
    /// Addresses and host names of `status.loadBalancer.ingress`.
    pub ingress: Vec<String>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<String>,
    /// `spec.ports`, also those of protocols that are not served.
    pub ports: Vec<FacePort>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacePort {
    /// Its name.
    pub name: Box<str>,
    /// `port`.
    pub port: i32,
    /// `nodePort`, where the object has one.
    pub node_port: Option<i32>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
}

impl From<&core::Service> for ServiceFace {
    fn from(object: &core::Service) -> Self {
        let (metadata, spec) = (&object.metadata, object.spec.clone().unwrap_or_default());
        let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        let of_ingress = |i: &core::LoadBalancerIngress| i.ip.clone().or(i.hostname.clone());
        let cluster_ips = spec.cluster_ips.unwrap_or_default();
        let cluster_ips = if cluster_ips.is_empty() {
            spec.cluster_ip.into_iter().collect()
        } else {
            cluster_ips
        };
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.into()),
            kind: spec.type_.as_deref().unwrap_or("ClusterIP").into(),
            cluster_ips,
            external_name: spec.external_name,
            ingress: ingress.iter().filter_map(of_ingress).collect(),
            external_ips: spec.external_ips.unwrap_or_default(),
            ports: spec.ports.unwrap_or_default().iter().map(FacePort::from).collect(),
        }
    }
}

impl From<&core::ServicePort> for FacePort {
    fn from(port: &core::ServicePort) -> Self {
        Self {
            name: port.name.as_deref().unwrap_or_default().into(),
            port: port.port,
            node_port: port.node_port.filter(|number| *number != 0),
            protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
        }
    }
}
