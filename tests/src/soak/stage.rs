//! The Services of the long run: who serves them, and in which state.

use crate::lab::{FAMILIES, FAR, NEAR};
use crate::setting::{POD_HTTP, POD_UDP};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use tidegate_control::demo::rig::{Pod, gateway_of};
use tidegate_control::demo::site::Site;
use tidegate_control::model::Family;

/// The local pod whose link goes and returns.
pub(super) const COMER: &str = "comer";
/// The local pod that serves nobody.
pub(super) const IDLE: &str = "idle";

/// Node ports: HTTP, and beside it UDP.
pub(super) const CLUSTER: [u16; 2] = [30_180, 30_190];
/// The same under policy Local.
pub(super) const LOCAL: [u16; 2] = [30_181, 30_191];
/// Node port of the Service that comes and goes; HTTP.
pub(super) const PASSING: u16 = 30_200;

/// What an EndpointSlice says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Ready,
    /// Neither ready nor serving.
    Unready,
    /// Terminating, and still serving.
    Terminating,
    /// Not listed.
    Absent,
}

impl Condition {
    pub(super) const ALL: [Self; 4] = [Self::Ready, Self::Unready, Self::Terminating, Self::Absent];

    /// Whether flows of UDP may stay (semantics G2, G3).
    pub(super) const fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Terminating)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready: true, serving: true, terminating: false",
            Self::Terminating => "ready: false, serving: true, terminating: true",
            Self::Unready | Self::Absent => "ready: false, serving: false, terminating: false",
        }
    }
}

/// The endpoints, by pod.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) endpoints: BTreeMap<&'static str, Condition>,
    pub(super) has_passing: bool,
}

impl Stage {
    /// All of them ready.
    pub(super) fn new() -> Self {
        let pods = [NEAR, COMER, FAR[0], FAR[1]];
        Self { endpoints: pods.map(|pod| (pod, Condition::Ready)).into(), has_passing: false }
    }

    /// Tells tidegate.
    pub(super) fn publish(&self, site: &Site) -> Result<()> {
        let mut parts = Vec::new();
        for (name, policy, [http, udp]) in
            [("soak", "Cluster", CLUSTER), ("soak-local", "Local", LOCAL)]
        {
            let ports = [("http", "TCP", http, POD_HTTP), ("echo", "UDP", udp, POD_UDP)];
            parts.push(service(name, policy, &ports));
            parts.extend(self.slices(site, name, &ports)?);
        }
        if self.has_passing {
            let ports = [("http", "TCP", PASSING, POD_HTTP)];
            parts.push(service("passing", "Cluster", &ports));
            parts.extend(self.slices(site, "passing", &ports)?);
        }
        Ok(site.files().write_manifest("soak", &parts.join("---\n"))?)
    }

    fn slices(&self, site: &Site, service: &str, ports: &[Port]) -> Result<[String; 2]> {
        let listed = self.endpoints.iter().filter(|(_, c)| **c != Condition::Absent);
        let pods: Vec<(&Pod, Condition)> = listed
            .map(|(name, condition)| Ok((site.pod(name).context("a pod")?, *condition)))
            .collect::<Result<_>>()?;
        Ok(FAMILIES.map(|family| slice(family, service, ports, &pods)))
    }
}

/// Name, protocol, node port, target port.
type Port = (&'static str, &'static str, u16, u16);

fn service(name: &str, policy: &str, ports: &[Port]) -> String {
    let port = |(name, protocol, node_port, target): &Port| {
        format!("{{name: {name}, protocol: {protocol}, port: {target}, nodePort: {node_port}}}")
    };
    let ports: Vec<_> = ports.iter().map(port).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  \
         ipFamilyPolicy: PreferDualStack\n  externalTrafficPolicy: {policy}\n  ports: [{}]\n",
        ports.join(", ")
    )
}

fn slice(family: Family, service: &str, ports: &[Port], pods: &[(&Pod, Condition)]) -> String {
    let kind = if gateway_of(family).is_ipv4() { "IPv4" } else { "IPv6" };
    let port = |(name, protocol, _, target): &Port| {
        format!("{{name: {name}, protocol: {protocol}, port: {target}}}")
    };
    let endpoint = |(pod, condition): &(&Pod, Condition)| {
        let (address, node) = (pod.address_of(family), pod.node().name());
        let conditions = condition.words();
        format!("{{addresses: [\"{address}\"], nodeName: {node}, conditions: {{{conditions}}}}}")
    };
    let ports: Vec<_> = ports.iter().map(port).collect();
    let endpoints: Vec<_> = pods.iter().map(endpoint).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {service}-{}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: {kind}\nports: [{}]\nendpoints: [{}]\n",
        kind.to_lowercase(),
        ports.join(", "),
        endpoints.join(", ")
    )
}
