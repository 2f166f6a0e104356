//! Services and Endpoints in Kubernetes' own form, as far as we read them.

use crate::compile::{BackendState, ServiceReport};
use crate::daemon::control::Control;
use crate::model::{EndpointSlice, FacePort, Service, ServiceFace};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All Services, also those that are not served.
pub(crate) fn services(control: &Control) -> Vec<core::Service> {
    control.cluster().services.values().map(|service| object(service)).collect()
}

fn object(service: &Service) -> core::Service {
    let face = &service.face;
    let ports = face.ports.iter().map(|port| face_port(service, port)).collect::<Vec<_>>();
    let ingress = face.ingress.iter().map(|place| match place.parse::<IpAddr>() {
        Ok(_address) => core::LoadBalancerIngress { ip: Some(place.clone()), ..Default::default() },
        Err(_name) => {
            core::LoadBalancerIngress { hostname: Some(place.clone()), ..Default::default() }
        }
    });
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    core::Service {
        metadata: metadata(service),
        spec: Some(core::ServiceSpec {
            type_: Some(face.kind.to_string()),
            cluster_ip: face.cluster_ips.first().cloned(),
            cluster_ips: some(&face.cluster_ips),
            external_ips: some(&face.external_ips),
            external_name: face.external_name.clone(),
            ports: (!ports.is_empty()).then_some(ports),
            selector: (!service.selector.is_empty()).then(|| service.selector.clone()),
            ..core::ServiceSpec::default()
        }),
        status: Some(core::ServiceStatus {
            load_balancer: Some(core::LoadBalancerStatus {
                ingress: (!face.ingress.is_empty()).then(|| ingress.collect()),
            }),
            ..core::ServiceStatus::default()
        }),
    }
}

/// A port; one that a manifest left without node port has the number that it was given.
fn face_port(service: &Service, port: &FacePort) -> core::ServicePort {
    let given = service.ports.iter().find(|given| *given.name == *port.name);
    let given = given.and_then(|given| given.node_port).map(|number| number.number().into());
    core::ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.to_string()),
        port: port.port,
        node_port: port.node_port.or(given),
        protocol: Some(port.protocol.to_string()),
        ..core::ServicePort::default()
    }
}

fn metadata(service: &Service) -> ObjectMeta {
    let ServiceFace { uid, created, .. } = &*service.face;
    let created = created.and_then(|time| Timestamp::try_from(time).ok());
    ObjectMeta {
        namespace: Some(service.key.namespace.to_string()),
        name: Some(service.key.name.to_string()),
        uid: (!uid.is_empty()).then(|| uid.to_string()),
        creation_timestamp: created.map(Time),
        ..ObjectMeta::default()
    }
}

/// The ready endpoints of every Service: by its slices, else by the pods that it selects.
pub(crate) fn endpoints(control: &Control) -> Vec<core::Endpoints> {
    let cluster = control.cluster();
    let mut slices = BTreeMap::<_, Vec<&EndpointSlice>>::new();
    for slice in cluster.slices.values() {
        if let Some(service) = &slice.service {
            slices.entry(service).or_default().push(slice);
        }
    }
    let of = |service: &Service| match slices.get(&service.key) {
        Some(slices) => of_slices(slices),
        None => of_reports(control.reports().of_service(&service.key)),
    };
    let object = |service: &Service| core::Endpoints {
        metadata: metadata(service),
        subsets: Some(of(service).into_iter().map(subset).collect()),
    };
    cluster.services.values().map(|service| object(service)).collect()
}

/// A port, by name, number and protocol, and the addresses that have it ready.
type Subset = ((String, u16, String), BTreeSet<IpAddr>);

fn of_slices(slices: &[&EndpointSlice]) -> BTreeMap<(String, u16, String), BTreeSet<IpAddr>> {
    let mut subsets = BTreeMap::<_, BTreeSet<IpAddr>>::new();
    for slice in slices {
        let ready = || slice.endpoints.iter().filter(|endpoint| endpoint.condition.is_ready);
        for port in &slice.ports {
            let key = (port.name.to_string(), port.port.number(), port.protocol.to_string());
            subsets.entry(key).or_default().extend(ready().map(|endpoint| endpoint.address));
        }
    }
    subsets
}

fn of_reports(reports: &[ServiceReport]) -> BTreeMap<(String, u16, String), BTreeSet<IpAddr>> {
    let mut subsets = BTreeMap::<_, BTreeSet<IpAddr>>::new();
    for report in reports {
        for backend in report.backends.iter().filter(|b| b.state == BackendState::Ready) {
            let name = report.port_name.to_string();
            let key = (name, backend.port.number(), report.protocol.to_string());
            subsets.entry(key).or_default().insert(backend.address.into());
        }
    }
    subsets
}

fn subset(((name, port, protocol), addresses): Subset) -> core::EndpointSubset {
    let address = |address: IpAddr| core::EndpointAddress {
        ip: address.to_string(),
        ..core::EndpointAddress::default()
    };
    let port = core::EndpointPort {
        name: (!name.is_empty()).then_some(name),
        port: port.into(),
        protocol: Some(protocol),
        ..core::EndpointPort::default()
    };
    core::EndpointSubset {
        addresses: Some(addresses.into_iter().map(address).collect()),
        ports: Some(vec![port]),
        ..core::EndpointSubset::default()
    }
}
