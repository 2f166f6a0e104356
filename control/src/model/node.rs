//! Nodes.

use super::error::ObjectError;
use super::words;
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use std::net::IpAddr;
use std::sync::Arc;

/// A Node, as far as front addresses and locality depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Its addresses: internal ones first, then external ones (semantics I3).
    pub addresses: Vec<(NodeAddressKind, IpAddr)>,
    /// `spec.podCIDRs`.
    pub pod_networks: Vec<IpNet>,
    /// The label `topology.kubernetes.io/zone`, if not empty (semantics C7).
    pub zone: Option<Arc<str>>,
    /// Why it should get no more traffic from outer load balancers (semantics H10).
    pub leaving: Option<Leaving>,
}

/// Why a node is about to go. Cordoned nodes stay eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It has a `deletionTimestamp`.
    Deleted,
    /// The cluster autoscaler marked it by its taint.
    ScaledDown,
}

/// The kind of a node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeAddressKind {
    /// `InternalIP`.
    Internal,
    /// `ExternalIP`.
    External,
}

impl TryFrom<&core::Node> for Node {
    type Error = ObjectError;

    fn try_from(object: &core::Node) -> Result<Self, Self::Error> {
        let name = object.metadata.name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ObjectError::new("metadata.name", "is missing"))?;
        Ok(Self {
            name: name.into(),
            addresses: addresses(object)?,
            pod_networks: pod_networks(object)?,
            zone: zone(object),
            leaving: leaving(object),
        })
    }
}

/// The taint that the cluster autoscaler sets first; its value and effect do not matter.
const SCALE_DOWN_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

fn leaving(object: &core::Node) -> Option<Leaving> {
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let is_marked = taints.unwrap_or_default().iter().any(|taint| taint.key == SCALE_DOWN_TAINT);
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    is_deleted.then_some(Leaving::Deleted).or(is_marked.then_some(Leaving::ScaledDown))
}

fn zone(object: &core::Node) -> Option<Arc<str>> {
    let zone = object.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone")?;
    (!zone.is_empty()).then(|| zone.as_str().into())
}

fn addresses(object: &core::Node) -> Result<Vec<(NodeAddressKind, IpAddr)>, ObjectError> {
    let given = object.status.as_ref().and_then(|status| status.addresses.as_deref());
    let mut addresses = Vec::new();
    for (i, given) in given.unwrap_or_default().iter().enumerate() {
        let kind = match given.type_.as_str() {
            "InternalIP" => NodeAddressKind::Internal,
            "ExternalIP" => NodeAddressKind::External,
            _ => continue,
        };
        let address = words::address(&given.address).ok_or_else(|| {
            let field = format!("status.addresses[{i}].address");
            ObjectError::new(field, format!("`{}` is not an address", given.address))
        })?;
        addresses.push((kind, address));
    }
    addresses.sort_by_key(|(kind, _)| *kind);
    Ok(addresses)
}

fn pod_networks(object: &core::Node) -> Result<Vec<IpNet>, ObjectError> {
    let Some(spec) = &object.spec else { return Ok(Vec::new()) };
    let list = spec.pod_cidrs.as_deref().unwrap_or_default();
    let mut texts: Vec<&String> = list.iter().chain(&spec.pod_cidr).collect();
    texts.dedup();
    let parse = |text: &&String| {
        words::network(text)
            .ok_or_else(|| ObjectError::new("spec.podCIDRs", format!("`{text}` is not a network")))
    };
    texts.iter().filter(|text| !text.is_empty()).map(parse).collect()
}
