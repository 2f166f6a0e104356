//! Services.

use super::error::ObjectError;
use super::face::ServiceFace;
use super::words::{self, Family, ObjectKey};
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_dataplane::types::{L4Port, Protocol};

/// The labels that take a Service or slice from every service proxy (semantics A3, A4).
const SKIP_LABELS: [&str; 2] =
    ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// A Service, as far as fronts depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Why it has no front of any kind, where it has none: headless, `ExternalName`, labelled
    /// (semantics A1-A4).
    pub skipped: Option<&'static str>,
    /// The families that it has a cluster IP of (semantics A5).
    pub families: Box<[Family]>,
    /// `spec.clusterIPs`, or `spec.clusterIP` alone; none in manifests that were never applied.
    pub cluster_addresses: Box<[IpAddr]>,
    /// Its TCP and UDP ports.
    pub ports: Vec<ServicePortSpec>,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`: of its cluster IPs alone (semantics E7).
    pub internal_policy: TrafficPolicy,
    /// `spec.selector`; empty where endpoints come by slices alone.
    pub selector: BTreeMap<String, String>,
    /// Pods count as ready whatever their conditions say (semantics B11).
    pub publish_not_ready: bool,
    /// `status.loadBalancer.ingress` addresses to be captured (semantics E11).
    pub load_balancer_addresses: Box<[IpAddr]>,
    /// `spec.externalIPs`.
    pub external_addresses: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`: whom its VIPs let in; empty: everybody (semantics F1).
    pub source_ranges: Box<[IpNet]>,
    /// How long `sessionAffinity: ClientIP` holds a client (semantics F13); `None`: no affinity.
    pub affinity_timeout: Option<Duration>,
    /// Where outer load balancers ask for local endpoints: of type LoadBalancer with policy Local
    /// alone (semantics H1).
    pub health_check_port: Option<L4Port>,
    /// What people see of it.
    pub face: Arc<ServiceFace>,
    /// What it asks for and this release does not do: told, never ignored in silence.
    pub unsupported: Vec<String>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Its name; empty where the Service names none.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port of VIPs and external IPs.
    pub port: L4Port,
    /// The port of node addresses. `None`: the type has none, or it is yet to be given
    /// ([`ServicePortSpec::wants_node_port`]).
    pub node_port: Option<L4Port>,
    /// The Service's type asks for a node port.
    pub wants_node_port: bool,
    /// The pods' port; used where there are no slices.
    pub target: TargetPort,
}

/// `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(L4Port),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// `Cluster` or `Local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// Any endpoint; the client's address is replaced.
    #[default]
    Cluster,
    /// Endpoints of this node alone; the client's address is kept.
    Local,
}

impl TrafficPolicy {
    /// Kubernetes' word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

impl TryFrom<&core::Service> for Service {
    type Error = ObjectError;

    fn try_from(object: &core::Service) -> Result<Self, Self::Error> {
        let key = ObjectKey::from_metadata(&object.metadata)?;
        let spec = object.spec.clone().unwrap_or_default();
        let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
        let mut unsupported = Vec::new();
        let skipped = skip_reason(type_, &spec, object.metadata.labels.as_ref());
        Ok(Self {
            skipped,
            families: families(&spec)?.into(),
            cluster_addresses: cluster_addresses(&spec),
            ports: if skipped.is_some() { vec![] } else { ports(&spec, type_, &mut unsupported)? },
            external_policy: external_policy(&spec)?,
            internal_policy: internal_policy(&spec)?,
            selector: spec.selector.clone().unwrap_or_default(),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            load_balancer_addresses: vips(object, &mut unsupported).into(),
            external_addresses: external_addresses(&spec)?.into(),
            source_ranges: source_ranges(&spec)?.into(),
            affinity_timeout: affinity_timeout(&spec)?,
            health_check_port: health_check_port(&spec)?,
            face: Arc::new(object.into()),
            unsupported,
            key,
        })
    }
}

/// Whether the labels take an object from every service proxy.
pub(super) fn skip_label(labels: Option<&BTreeMap<String, String>>) -> Option<&'static str> {
    SKIP_LABELS.into_iter().find(|label| labels.is_some_and(|l| l.contains_key(*label)))
}

fn skip_reason(
    type_: &str,
    spec: &core::ServiceSpec,
    labels: Option<&BTreeMap<String, String>>,
) -> Option<&'static str> {
    if type_ == "ExternalName" {
        return Some("type ExternalName");
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    is_headless.then_some("headless").or_else(|| skip_label(labels))
}

/// The families with a cluster IP. A manifest that was never applied has none yet; then the
/// families that the API server of a dual-stack cluster would give it: by `ipFamilyPolicy`, by
/// `ipFamilies`, else IPv4.
fn families(spec: &core::ServiceSpec) -> Result<Vec<Family>, ObjectError> {
    let named = spec.ip_families.as_deref().unwrap_or_default();
    let named = named.iter().enumerate().map(|(i, word)| {
        Family::from_word(word).ok_or_else(|| {
            let field = format!("spec.ipFamilies[{i}]");
            ObjectError::new(field, format!("`{word}` is not IPv4 or IPv6"))
        })
    });
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let mut families: Vec<_> = cluster_addresses(spec).iter().copied().map(Family::of).collect();
    if families.is_empty() {
        let is_dual =
            matches!(spec.ip_family_policy.as_deref(), Some(word) if word != "SingleStack");
        families = match (is_dual, named.is_empty()) {
            (true, _) => vec![Family::V4, Family::V6],
            (false, true) => vec![Family::V4],
            (false, false) => named,
        };
    }
    families.sort_unstable();
    families.dedup();
    Ok(families)
}

/// Sorted, each once: `clusterIP` is the first of `clusterIPs`.
fn cluster_addresses(spec: &core::ServiceSpec) -> Box<[IpAddr]> {
    let list = spec.cluster_ips.as_deref().unwrap_or_default();
    let given = list.iter().chain(&spec.cluster_ip).filter_map(|text| words::address(text));
    let addresses: BTreeSet<IpAddr> = given.collect();
    addresses.into_iter().collect()
}

fn ports(
    spec: &core::ServiceSpec,
    type_: &str,
    unsupported: &mut Vec<String>,
) -> Result<Vec<ServicePortSpec>, ObjectError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return Err(ObjectError::new("spec.ports", "is missing"));
    }
    let wants_node_port = match type_ {
        "ClusterIP" => false,
        "NodePort" => true,
        // One with a cluster IP was applied: a node port that it lacks was not allocated (E15).
        "LoadBalancer" => {
            spec.allocate_load_balancer_node_ports != Some(false) && !has_cluster_ip(spec)
        }
        other => {
            let reason =
                format!("`{other}` is none of ClusterIP, NodePort, LoadBalancer, ExternalName");
            return Err(ObjectError::new("spec.type", reason));
        }
    };
    let mut parsed: Vec<ServicePortSpec> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            let reason = "is missing: a Service with several ports names each";
            return Err(ObjectError::new(format!("spec.ports[{i}].name"), reason));
        }
        if parsed.iter().any(|earlier| *earlier.name == *name) {
            return Err(ObjectError::new(format!("spec.ports[{i}].name"), "stands twice"));
        }
        match service_port(i, port, (type_, wants_node_port))? {
            Some(port) => parsed.push(port),
            None => unsupported.push(format!("port {} is SCTP: not served", port.port)),
        }
    }
    Ok(parsed)
}

fn has_cluster_ip(spec: &core::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref().is_some_and(|address| !address.is_empty())
}

fn service_port(
    i: usize,
    port: &core::ServicePort,
    (type_, wants_node_port): (&str, bool),
) -> Result<Option<ServicePortSpec>, ObjectError> {
    let field = |name: &str| format!("spec.ports[{i}].{name}");
    let number = words::port(port.port, &field("port"))?;
    let node_port = port.node_port.filter(|n| *n != 0);
    let node_port = node_port.map(|n| words::port(n, &field("nodePort"))).transpose()?;
    if node_port.is_some() && type_ == "ClusterIP" {
        let reason = "is given, but only types NodePort and LoadBalancer may have one";
        return Err(ObjectError::new(field("nodePort"), reason));
    }
    let target = match &port.target_port {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::Int(n)) => TargetPort::Number(words::port(*n, &field("targetPort"))?),
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
    };
    let protocol = words::protocol(port.protocol.as_deref(), &field("protocol"))?;
    Ok(protocol.map(|protocol| ServicePortSpec {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol,
        port: number,
        node_port,
        wants_node_port,
        target,
    }))
}

fn external_policy(spec: &core::ServiceSpec) -> Result<TrafficPolicy, ObjectError> {
    policy(spec.external_traffic_policy.as_deref(), "spec.externalTrafficPolicy")
}

fn internal_policy(spec: &core::ServiceSpec) -> Result<TrafficPolicy, ObjectError> {
    policy(spec.internal_traffic_policy.as_deref(), "spec.internalTrafficPolicy")
}

fn policy(word: Option<&str>, field: &str) -> Result<TrafficPolicy, ObjectError> {
    match word.unwrap_or("Cluster") {
        "Cluster" | "" => Ok(TrafficPolicy::Cluster),
        "Local" => Ok(TrafficPolicy::Local),
        other => Err(ObjectError::new(field, format!("`{other}` is not Cluster or Local"))),
    }
}

/// The VIPs to capture: addresses whose `ipMode` is VIP or absent; host names are not for a proxy
/// (semantics E11).
fn vips(object: &core::Service, unsupported: &mut Vec<String>) -> Vec<IpAddr> {
    let is_captured = |ingress: &&core::LoadBalancerIngress| {
        ingress.ip_mode.as_deref().is_none_or(|mode| matches!(mode, "" | "VIP"))
    };
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let texts = ingress.iter().filter(is_captured).filter_map(|i| i.ip.as_deref());
    let mut addresses = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        match words::address(text) {
            Some(address) => addresses.push(address),
            None => unsupported.push(format!("VIP `{text}` is not an address: not served")),
        }
    }
    addresses
}

/// Blanks around a range are trimmed (semantics A10).
fn source_ranges(spec: &core::ServiceSpec) -> Result<Vec<IpNet>, ObjectError> {
    let texts = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let parse = |(i, text): (usize, &String)| {
        words::network(text).ok_or_else(|| {
            let field = format!("spec.loadBalancerSourceRanges[{i}]");
            ObjectError::new(field, format!("`{text}` is not a network"))
        })
    };
    texts.iter().enumerate().map(parse).collect()
}

fn external_addresses(spec: &core::ServiceSpec) -> Result<Vec<IpAddr>, ObjectError> {
    let texts = spec.external_ips.as_deref().unwrap_or_default();
    let texts = texts.iter().enumerate().filter(|(_, text)| !text.is_empty());
    let parse = |(i, text): (usize, &String)| {
        words::address(text).ok_or_else(|| {
            let field = format!("spec.externalIPs[{i}]");
            ObjectError::new(field, format!("`{text}` is not an address"))
        })
    };
    texts.map(parse).collect()
}

/// Only type LoadBalancer with policy Local has one (semantics H1).
fn health_check_port(spec: &core::ServiceSpec) -> Result<Option<L4Port>, ObjectError> {
    let is_asked = spec.type_.as_deref() == Some("LoadBalancer")
        && external_policy(spec)? == TrafficPolicy::Local;
    let number = spec.health_check_node_port.filter(|number| is_asked && *number != 0);
    number.map(|number| words::port(number, "spec.healthCheckNodePort")).transpose()
}

/// The default and the longest timeout of ClientIP affinity in seconds, as the API has them
/// (semantics F13).
const AFFINITY_SECONDS_DEFAULT: i32 = 10_800;
const AFFINITY_SECONDS_MAX: i32 = 86_400;

fn affinity_timeout(spec: &core::ServiceSpec) -> Result<Option<Duration>, ObjectError> {
    match spec.session_affinity.as_deref().unwrap_or("None") {
        "None" | "" => return Ok(None),
        "ClientIP" => {}
        other => {
            let reason = format!("`{other}` is not None or ClientIP");
            return Err(ObjectError::new("spec.sessionAffinity", reason));
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_SECONDS_DEFAULT);
    let valid = (1..=AFFINITY_SECONDS_MAX).contains(&seconds);
    let seconds = u64::try_from(seconds).ok().filter(|_| valid).ok_or_else(|| {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        ObjectError::new(field, format!("{seconds} lies outside 1 to {AFFINITY_SECONDS_MAX}"))
    })?;
    Ok(Some(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &str) -> core::Service {
        let head = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
        serde_saphyr::from_str(&format!("{head}{spec}")).unwrap()
    }

    fn service(spec: &str) -> Result<Service, ObjectError> {
        Service::try_from(&object(spec))
    }

    #[test]
    fn a_manifest_without_cluster_ip_gets_what_the_api_server_would_give() {
        let web = service("spec: {type: NodePort, ports: [{port: 80}]}").unwrap();
        assert_eq!(*web.families, [Family::V4]);
        assert_eq!(web.key, ObjectKey::new("default", "web"));
        assert_eq!(web.ports[0].target, TargetPort::Number(L4Port::new(80)));
        assert!(web.ports[0].wants_node_port && web.ports[0].node_port.is_none());
    }

    #[test]
    fn services_without_fronts_say_why() {
        let skipped = |spec: &str| service(spec).unwrap().skipped;
        assert_eq!(skipped("spec: {clusterIP: None, ports: [{port: 80}]}"), Some("headless"));
        assert_eq!(skipped("spec: {type: ExternalName}"), Some("type ExternalName"));
        assert_eq!(skipped("spec: {ports: [{port: 80}]}"), None);
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_by_field() {
        for (spec, field) in [
            ("spec: {type: NodePort}", "spec.ports"),
            ("spec: {type: Nodeport, ports: [{port: 80}]}", "spec.type"),
            ("spec: {ports: [{port: 80, nodePort: 30080}]}", "spec.ports[0].nodePort"),
            ("spec: {type: NodePort, ports: [{port: 0}]}", "spec.ports[0].port"),
            ("spec: {ports: [{port: 80, protocol: tcp}]}", "spec.ports[0].protocol"),
            ("spec: {ports: [{port: 80, targetPort: 70000}]}", "spec.ports[0].targetPort"),
            ("spec: {ports: [{port: 80}, {port: 81}]}", "spec.ports[0].name"),
            ("spec: {ports: [{name: a, port: 80}, {name: a, port: 81}]}", "spec.ports[1].name"),
            (
                "spec: {externalTrafficPolicy: local, ports: [{port: 1}]}",
                "spec.externalTrafficPolicy",
            ),
            (
                "spec: {internalTrafficPolicy: Node, ports: [{port: 1}]}",
                "spec.internalTrafficPolicy",
            ),
            ("spec: {ipFamilies: [ipv4], ports: [{port: 1}]}", "spec.ipFamilies[0]"),
            ("spec: {externalIPs: [x], ports: [{port: 1}]}", "spec.externalIPs[0]"),
            ("spec: {sessionAffinity: Client, ports: [{port: 1}]}", "spec.sessionAffinity"),
            (
                "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: \
                 {timeoutSeconds: 86401}}, ports: [{port: 1}]}",
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            ),
            (
                "spec: {loadBalancerSourceRanges: [10.0.0.0/33], ports: [{port: 1}]}",
                "spec.loadBalancerSourceRanges[0]",
            ),
        ] {
            assert_eq!(service(spec).unwrap_err().field, field, "{spec}");
        }
    }

    #[test]
    fn what_is_not_served_is_told() {
        let told = service(
            "spec: {type: LoadBalancer, ports: [{port: 9, protocol: SCTP}]}\n\
             status: {loadBalancer: {ingress: [{ip: 192.0.2.x}]}}\n",
        );
        let told = told.unwrap();
        let sctp = "port 9 is SCTP: not served";
        assert_eq!(told.unsupported, [sctp, "VIP `192.0.2.x` is not an address: not served"]);
        assert!(told.load_balancer_addresses.is_empty() && told.ports.is_empty());
    }
}
