//! Services, backends and flows as rows.

use crate::admin::report::{BackendReport, FlowReport, ServiceReport};
use crate::cli::view::number::{count, milliseconds, percent, rate};
use crate::cli::view::row::{Namespaced, Rows};

impl Rows for ServiceReport {
    const PLURAL: &'static str = "services";
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "NODEPORT",
        "POLICY",
        "READY",
        "DRAIN",
        "FLOWS",
        "PPS",
        "BITS/S",
        "DROP/S",
        "PACKETS",
        "DROPPED",
        "FRONTS",
        "PROBLEMS",
    ];
    const NARROW: usize = 11;

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.service.clone(),
            port(&self.port, &self.protocol),
            self.node_port.map(|port| port.to_string()).unwrap_or_default(),
            self.policy.clone(),
            self.ready.to_string(),
            self.draining.to_string(),
            count(self.flows),
            rate(self.packets_per_second),
            rate(self.bits_per_second),
            rate(self.refused_per_second),
            count(self.packets),
            count(self.refused_packets),
            self.fronts.join(","),
            self.refusal.iter().chain(&self.problems).cloned().collect::<Vec<_>>().join("; "),
        ]
    }

    fn name(&self) -> String {
        format!("service/{}/{}:{}", self.namespace, self.service, self.port)
    }
}

/// `http/TCP`; the protocol alone where the port has no name.
fn port(name: &str, protocol: &str) -> String {
    if name.is_empty() { protocol.to_owned() } else { format!("{name}/{protocol}") }
}

impl Namespaced for ServiceReport {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Rows for BackendReport {
    const PLURAL: &'static str = "backends";
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "BACKEND",
        "STATE",
        "FLOWS",
        "PACKETS",
        "SHARE",
        "NEW FLOWS",
        "BYTES",
        "REASON",
    ];
    const NARROW: usize = 8;

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.service.clone(),
            self.port.clone(),
            self.address.clone(),
            self.state.clone(),
            count(self.flows),
            count(self.packets),
            percent(self.share),
            count(self.new_flows),
            count(self.bytes),
            self.reason.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        format!("backend/{}/{}:{}/{}", self.namespace, self.service, self.port, self.address)
    }
}

impl Namespaced for BackendReport {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Rows for FlowReport {
    const PLURAL: &'static str = "flows";
    const HEADS: &'static [&'static str] = &[
        "PROTO", "CLIENT", "FRONT", "BACKEND", "STATE", "IDLE", "WORKER", "EXPIRES", "SNAT",
        "SERVICE",
    ];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.client.clone(),
            self.front.clone(),
            self.backend.clone(),
            self.state.clone(),
            milliseconds(self.idle_milliseconds),
            self.worker.to_string(),
            milliseconds(self.expires_milliseconds),
            self.snat.clone().unwrap_or_default(),
            format!("{}/{}", self.namespace, self.service),
        ]
    }

    fn name(&self) -> String {
        format!("flow/{}/{}/{}", self.protocol, self.client, self.front)
    }
}

impl Namespaced for FlowReport {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;
    use crate::cli::view::row::{names, render};

    #[test]
    fn services_look_as_kubectl_would_show_them() {
        let unnamed = ServiceReport {
            port: String::new(),
            protocol: "UDP".to_owned(),
            policy: "Local".to_owned(),
            node_port: None,
            refused_per_second: 12.4,
            ..fixtures::service("bank")
        };
        let expected = include_str!("../../../testdata/view/services.txt");
        assert_eq!(render(&[fixtures::service("shop"), unnamed], false, true), expected);
    }

    #[test]
    fn backends_show_their_share() {
        let expected = "\
NAMESPACE   SERVICE   PORT   BACKEND            STATE   FLOWS   PACKETS   SHARE
shop        web       http   10.244.2.17:8080   ready   12      4000      33.3%
";
        assert_eq!(render(&[fixtures::backend()], false, true), expected);
        assert_eq!(names(&[fixtures::backend()]), "backend/shop/web:http/10.244.2.17:8080\n");
    }

    #[test]
    fn flows_show_who_talks_to_whom() {
        let expected = include_str!("../../../testdata/view/flows.txt");
        assert_eq!(render(&[fixtures::flow()], true, true), expected);
    }
}
