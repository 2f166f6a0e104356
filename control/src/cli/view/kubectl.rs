//! Services, Endpoints and events in kubectl's columns, so that eyes and scripts find what they
//! know.

use crate::admin::EventReport;
use crate::cli::view::number::{age, kubectl_age};
use crate::cli::view::row::{Namespaced, Rows};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::SystemTime;

/// Endpoints that are listed; the others are counted.
const ENDPOINTS_SHOWN: usize = 3;

/// Characters of a load balancer's addresses; the rest is for `-o wide`.
const INGRESS_SHOWN: usize = 16;

/// An object at the time that it is shown: ages are relative.
#[derive(Debug)]
pub struct Shown<T> {
    /// The object.
    pub object: T,
    /// Now.
    pub now: SystemTime,
    /// Whether all of it is shown.
    pub is_wide: bool,
}

fn text(word: Option<&String>) -> String {
    word.cloned().unwrap_or_default()
}

fn object_age(metadata: &ObjectMeta, now: SystemTime) -> String {
    match &metadata.creation_timestamp {
        Some(time) => {
            let age = now.duration_since(SystemTime::from(time.0)).unwrap_or_default();
            kubectl_age(age.as_secs())
        }
        None => "<unknown>".to_owned(),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

impl Rows for Shown<core::Service> {
    const PLURAL: &'static str = "services";
    const HEADS: &'static [&'static str] =
        &["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        let metadata = &self.object.metadata;
        let spec = self.object.spec.clone().unwrap_or_default();
        let selector = spec.selector.iter().flatten();
        let selector: Vec<_> = selector.map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            text(metadata.namespace.as_ref()),
            text(metadata.name.as_ref()),
            text(spec.type_.as_ref()),
            or_none(text(spec.cluster_ip.as_ref())),
            external_ip(&self.object, &spec, self.is_wide),
            or_none(ports(&spec)),
            object_age(metadata, self.now),
            or_none(selector.join(",")),
        ]
    }

    fn name(&self) -> String {
        format!("service/{}", text(self.object.metadata.name.as_ref()))
    }
}

impl Namespaced for Shown<core::Service> {
    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// As kubectl has it, type by type.
fn external_ip(service: &core::Service, spec: &core::ServiceSpec, is_wide: bool) -> String {
    let external = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ExternalName") => or_none(text(spec.external_name.as_ref())),
        Some("LoadBalancer") => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref());
            let place = |i: &core::LoadBalancerIngress| i.ip.clone().or(i.hostname.clone());
            let ingress = ingress.unwrap_or_default().iter().filter_map(place);
            let ingress = cut(ingress.collect::<Vec<_>>().join(","), is_wide);
            let parts: Vec<_> = [ingress].into_iter().filter(|i| !i.is_empty()).collect();
            let all = [parts, external].concat().join(",");
            if all.is_empty() { "<pending>".to_owned() } else { all }
        }
        _ => or_none(external.join(",")),
    }
}

fn cut(text: String, is_wide: bool) -> String {
    if is_wide || text.chars().count() <= INGRESS_SHOWN {
        return text;
    }
    text.chars().take(INGRESS_SHOWN - 3).chain("...".chars()).collect()
}

/// `80/TCP`, `80:30080/TCP`.
fn ports(spec: &core::ServiceSpec) -> String {
    let port = |port: &core::ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match port.node_port {
            Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
            None => format!("{}/{protocol}", port.port),
        }
    };
    spec.ports.iter().flatten().map(port).collect::<Vec<_>>().join(",")
}

impl Rows for Shown<core::Endpoints> {
    const PLURAL: &'static str = "endpoints";
    const HEADS: &'static [&'static str] = &["NAMESPACE", "NAME", "ENDPOINTS", "AGE"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let metadata = &self.object.metadata;
        vec![
            text(metadata.namespace.as_ref()),
            text(metadata.name.as_ref()),
            or_none(places(&self.object)),
            object_age(metadata, self.now),
        ]
    }

    fn name(&self) -> String {
        format!("endpoints/{}", text(self.object.metadata.name.as_ref()))
    }
}

impl Namespaced for Shown<core::Endpoints> {
    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }
}

fn places(endpoints: &core::Endpoints) -> String {
    let of_subset = |subset: &core::EndpointSubset| -> Vec<String> {
        let addresses = subset.addresses.iter().flatten();
        let ports = || subset.ports.iter().flatten();
        let place = |ip: &str, port: i32| {
            if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
        };
        addresses.flat_map(|a| ports().map(move |port| place(&a.ip, port.port))).collect()
    };
    let all: Vec<_> = endpoints.subsets.iter().flatten().flat_map(of_subset).collect();
    let shown = all.get(..ENDPOINTS_SHOWN).unwrap_or(&all).join(",");
    match all.len().saturating_sub(ENDPOINTS_SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

impl Rows for EventReport {
    const PLURAL: &'static str = "events";
    const HEADS: &'static [&'static str] =
        &["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE", "FIRST SEEN", "COUNT"];
    const NARROW: usize = 6;

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            age(self.age_seconds),
            self.event_type.clone(),
            self.reason.clone(),
            self.object.clone(),
            self.message.clone(),
            self.first_seen.clone(),
            self.count.to_string(),
        ]
    }

    fn name(&self) -> String {
        format!("event/{}/{}", self.object, self.reason)
    }
}

impl Namespaced for EventReport {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::row::{names, render};
    use std::time::Duration;

    /// Two minutes after the objects were made.
    fn shown<T: serde::de::DeserializeOwned>(yaml: &str, is_wide: bool) -> Vec<Shown<T>> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_mins(2);
        let objects: Vec<T> = serde_saphyr::from_str(yaml).unwrap();
        objects.into_iter().map(|object| Shown { object, now, is_wide }).collect()
    }

    const SERVICES: &str = "
- metadata: {name: kubernetes, namespace: default, creationTimestamp: '1970-01-01T00:00:00Z'}
  spec: {type: ClusterIP, clusterIP: 10.96.0.1, ports: [{name: https, port: 443, protocol: TCP}]}
- metadata: {name: web, namespace: shop}
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.10
    selector: {app: web}
    ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]
  status: {loadBalancer: {ingress: [{ip: 203.0.113.10}, {hostname: lb.example.net}]}}
- metadata: {name: new, namespace: shop}
  spec: {type: LoadBalancer, clusterIP: 10.96.0.11, ports: [{port: 1}]}
- metadata: {name: other, namespace: shop}
  spec: {type: ExternalName, externalName: example.net}
- metadata: {name: none, namespace: shop}
  spec: {clusterIP: None, type: ClusterIP, externalIPs: [192.0.2.1, 192.0.2.2], ports: [{port: 1}]}
";

    #[test]
    fn services_have_kubectls_columns() {
        let expected = include_str!("../../../testdata/view/kubectl-services.txt");
        let narrow = render(&shown::<core::Service>(SERVICES, false), false, true);
        let wide = render(&shown::<core::Service>(SERVICES, true), true, true);
        assert_eq!(narrow + &wide, expected);
        let names = names(&shown::<core::Service>(SERVICES, false));
        assert!(names.starts_with("service/kubernetes\nservice/web\n"), "{names}");
    }

    #[test]
    fn endpoints_beyond_the_third_are_counted() {
        let yaml = "
- metadata: {name: web, namespace: shop, creationTimestamp: '1970-01-01T00:00:00Z'}
  subsets:
  - addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}, {ip: 10.0.0.3}, {ip: 10.0.0.4}, {ip: 10.0.0.5}]
    ports: [{port: 8080}]
- metadata: {name: six, namespace: shop}
  subsets: [{addresses: [{ip: '2001:db8::1'}], ports: [{port: 53}]}]
- metadata: {name: none, namespace: shop}
";
        let expected = "\
NAMESPACE   NAME   ENDPOINTS                                               AGE
shop        web    10.0.0.1:8080,10.0.0.2:8080,10.0.0.3:8080 + 2 more...   2m
shop        six    [2001:db8::1]:53                                        <unknown>
shop        none   <none>                                                  <unknown>
";
        let rendered = render(&shown::<core::Endpoints>(yaml, false), false, true);
        assert_eq!(rendered, expected);
    }
}
