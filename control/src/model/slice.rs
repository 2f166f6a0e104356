//! `EndpointSlices`.

use super::endpoint::Condition;
use super::error::ObjectError;
use super::service::skip_label;
use super::words::{self, Family, ObjectKey};
use k8s_openapi::api::discovery::v1 as discovery;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tidegate_dataplane::types::{L4Port, Protocol};

/// An `EndpointSlice`, as far as balancing depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The Service that it belongs to, by label (semantics B1); `None`: to none.
    pub service: Option<ObjectKey>,
    /// `addressType`; `None` of FQDN.
    pub family: Option<Family>,
    /// Its ports with a number, TCP and UDP (semantics B5).
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// The first address that is not of its `addressType`, and was skipped (semantics B6).
    pub wrong_family: Option<IpAddr>,
    /// When what it tells came about, as the endpoint controller wrote it (semantics J7).
    pub trigger_time: Option<SystemTime>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Matches the Service port's name.
    pub name: Arc<str>,
    /// Matches the Service port's protocol.
    pub protocol: Protocol,
    /// The pods' port.
    pub port: L4Port,
}

/// An endpoint of a slice; it has every port of the slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses[0]` (semantics B7).
    pub address: IpAddr,
    /// Ready, serving, terminating.
    pub condition: Condition,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// The nodes that it is meant for; empty: no hint.
    pub for_nodes: Vec<Arc<str>>,
    /// The zones that it is meant for; empty: no hint.
    pub for_zones: Vec<Arc<str>>,
    /// The pod behind it.
    pub pod: Option<Arc<str>>,
}

impl TryFrom<&discovery::EndpointSlice> for EndpointSlice {
    type Error = ObjectError;

    fn try_from(object: &discovery::EndpointSlice) -> Result<Self, Self::Error> {
        let key = ObjectKey::from_metadata(&object.metadata)?;
        let labels = object.metadata.labels.as_ref();
        let service = labels.and_then(|l| l.get("kubernetes.io/service-name"));
        let service = service.filter(|name| !name.is_empty() && skip_label(labels).is_none());
        let service = service.map(|name| ObjectKey::new(&key.namespace, name));
        let family = match object.address_type.as_str() {
            "FQDN" => None,
            word => Some(Family::from_word(word).ok_or_else(|| {
                ObjectError::new("addressType", format!("`{word}` is not IPv4, IPv6 or FQDN"))
            })?),
        };
        let ports = object.ports.as_deref().unwrap_or_default();
        let ports = ports.iter().enumerate().map(|(i, port)| slice_port(i, port));
        let ports: Result<Vec<_>, _> = ports.filter_map(Result::transpose).collect();
        Ok(Self {
            key,
            service,
            family,
            ports: ports?,
            wrong_family: wrong_family(object, family),
            endpoints: endpoints(object, family)?,
            trigger_time: trigger_time(object),
        })
    }
}

/// A time that cannot be read is no time: it serves measurement alone.
fn trigger_time(object: &discovery::EndpointSlice) -> Option<SystemTime> {
    let annotations = object.metadata.annotations.as_ref()?;
    let text = annotations.get("endpoints.kubernetes.io/last-change-trigger-time")?;
    humantime::parse_rfc3339(text).ok()
}

/// A port without name or number is skipped (semantics B5); an empty name is a name.
fn slice_port(i: usize, port: &discovery::EndpointPort) -> Result<Option<SlicePort>, ObjectError> {
    let protocol = words::protocol(port.protocol.as_deref(), &format!("ports[{i}].protocol"))?;
    let number = port.port.filter(|n| *n != 0);
    let (Some(name), Some(number), Some(protocol)) = (&port.name, number, protocol) else {
        return Ok(None);
    };
    let name = name.as_str().into();
    let number = words::port(number, &format!("ports[{i}].port"))?;
    Ok(Some(SlicePort { name, protocol, port: number }))
}

fn wrong_family(object: &discovery::EndpointSlice, family: Option<Family>) -> Option<IpAddr> {
    let family = family?;
    let first = object.endpoints.iter().filter_map(|endpoint| endpoint.addresses.first());
    first.filter_map(|text| words::address(text)).find(|address| Family::of(*address) != family)
}

/// FQDN slices and addresses of the wrong family are skipped (semantics B6).
fn endpoints(
    object: &discovery::EndpointSlice,
    family: Option<Family>,
) -> Result<Vec<SliceEndpoint>, ObjectError> {
    let Some(family) = family else { return Ok(Vec::new()) };
    let mut endpoints = Vec::with_capacity(object.endpoints.len());
    for (i, endpoint) in object.endpoints.iter().enumerate() {
        let field = || format!("endpoints[{i}].addresses[0]");
        let text = endpoint.addresses.first();
        let text = text.ok_or_else(|| ObjectError::new(field(), "is missing"))?;
        let address = words::address(text);
        let address = address
            .ok_or_else(|| ObjectError::new(field(), format!("`{text}` is not an address")))?;
        if Family::of(address) == family {
            endpoints.push(slice_endpoint(address, endpoint));
        }
    }
    Ok(endpoints)
}

fn slice_endpoint(address: IpAddr, endpoint: &discovery::Endpoint) -> SliceEndpoint {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    SliceEndpoint {
        address,
        for_nodes: nodes.iter().map(|node| node.name.as_str().into()).collect(),
        for_zones: zones.iter().map(|zone| zone.name.as_str().into()).collect(),
        condition: Condition {
            is_ready: conditions.ready != Some(false),
            is_serving: conditions.serving != Some(false),
            is_terminating: conditions.terminating == Some(true),
        },
        node: endpoint.node_name.as_deref().map(Into::into),
        pod: pod.map(Into::into),
    }
}
