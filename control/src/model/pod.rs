//! Pods: used where a Service has a selector and no slices (T14).

use super::endpoint::Condition;
use super::error::ObjectError;
use super::service::TargetPort;
use super::words::{self, ObjectKey};
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::types::{L4Port, Protocol};

/// A Pod, as far as the endpoint controller would look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.podIPs`; empty while the pod has none. The node's own for host-network pods.
    pub addresses: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// Ready is True, or no Ready condition is given.
    pub is_ready: bool,
    /// Is being deleted.
    pub is_terminating: bool,
    /// Has ended (`Succeeded`, `Failed`) and never comes back.
    pub has_ended: bool,
    /// The named ports of its containers.
    pub ports: Vec<ContainerPort>,
}

/// A named port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number.
    pub port: L4Port,
}

impl Pod {
    /// Whether every label of `selector` is on the pod. An empty selector selects nothing.
    pub fn is_selected_by(&self, selector: &BTreeMap<String, String>) -> bool {
        let has = |(name, value): (&String, &String)| self.labels.get(name) == Some(value);
        !selector.is_empty() && selector.iter().all(has)
    }

    /// The conditions that the endpoint controller would write.
    pub fn condition(&self, publish_not_ready: bool) -> Condition {
        Condition {
            is_ready: publish_not_ready || (self.is_ready && !self.is_terminating),
            is_serving: self.is_ready,
            is_terminating: self.is_terminating,
        }
    }

    /// The number that `target` means in this pod; `None` where no container names it.
    pub fn port_of(&self, target: &TargetPort, protocol: Protocol) -> Option<L4Port> {
        match target {
            TargetPort::Number(port) => Some(*port),
            TargetPort::Name(name) => {
                let mut ports = self.ports.iter();
                ports.find(|p| p.name == *name && p.protocol == protocol).map(|p| p.port)
            }
        }
    }
}

impl TryFrom<&core::Pod> for Pod {
    type Error = ObjectError;

    fn try_from(object: &core::Pod) -> Result<Self, Self::Error> {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let phase = status.phase.as_deref().unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        Ok(Self {
            key: ObjectKey::from_metadata(&object.metadata)?,
            labels: object.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses(&status)?,
            node: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Into::into),
            is_ready: ready.is_none_or(|condition| condition.status == "True"),
            is_terminating: object.metadata.deletion_timestamp.is_some(),
            has_ended: matches!(phase, "Succeeded" | "Failed"),
            ports: ports(&spec)?,
        })
    }
}

fn addresses(status: &core::PodStatus) -> Result<Vec<IpAddr>, ObjectError> {
    let listed = status.pod_ips.iter().flatten().map(|pod_ip| pod_ip.ip.as_str());
    let mut texts: Vec<&str> = status.pod_ip.as_deref().into_iter().chain(listed).collect();
    texts.retain(|text| !text.is_empty());
    let parse = |text: &&str| {
        words::address(text)
            .ok_or_else(|| ObjectError::new("status.podIP", format!("`{text}` is not an address")))
    };
    let addresses: Result<Vec<IpAddr>, _> = texts.iter().map(parse).collect();
    let mut addresses = addresses?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn ports(spec: &core::PodSpec) -> Result<Vec<ContainerPort>, ObjectError> {
    let mut named = Vec::new();
    // A sidecar (an init container that keeps running) may own the port too.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        for port in container.ports.iter().flatten() {
            let field = |name: &str| format!("spec.containers[{}].ports.{name}", container.name);
            let number = words::port(port.container_port, &field("containerPort"))?;
            let protocol = words::protocol(port.protocol.as_deref(), &field("protocol"))?;
            if let (Some(name), Some(protocol)) = (port.name.as_deref(), protocol) {
                named.push(ContainerPort { name: name.into(), protocol, port: number });
            }
        }
    }
    Ok(named)
}
