//! Which endpoints a new flow may get (semantics C1-C10, D1-D3). Pure.

use super::endpoint::{Endpoint, Hint};

/// The endpoints of a service port, sorted into what the policies mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Categories<'a> {
    /// For policy Cluster, and for the node's own pods: the ready ones that the hints mean for
    /// this node (C7, C8), else the serving and terminating ones of the whole cluster (C1).
    pub cluster: Vec<&'a Endpoint>,
    /// For policy Local: the same among this node's alone, whatever the hints (C2, C3, C12).
    pub local: Vec<&'a Endpoint>,
    /// Whether any endpoint of the cluster is usable; if not, new flows are rejected whatever the
    /// policy (D1). A single serving and terminating one elsewhere counts (D3).
    pub is_any_usable: bool,
}

/// Sorts `endpoints` into what the policies mean.
pub fn categorize(endpoints: &[Endpoint]) -> Categories<'_> {
    let cluster = preferred(usable(endpoints.iter()));
    let local = usable(endpoints.iter().filter(|endpoint| endpoint.is_local));
    Categories { is_any_usable: !cluster.is_empty(), cluster, local }
}

/// The ready ones; where there are none, those that still serve while they terminate. Terminating
/// and no longer serving is never used, even as the last one (C5).
fn usable<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Vec<&'a Endpoint> {
    let ready: Vec<_> = endpoints.clone().filter(|e| e.condition.is_ready).collect();
    if ready.is_empty() { endpoints.filter(|e| e.condition.is_fallback()).collect() } else { ready }
}

/// Those that the hints mean for this node, else for this zone. Hints count only where every ready
/// endpoint has one and any means us (C7, C8); ones that terminate are never told apart (C1).
fn preferred(usable: Vec<&Endpoint>) -> Vec<&Endpoint> {
    let hint_of = [|e: &&Endpoint| e.hints.node, |e: &&Endpoint| e.hints.zone];
    for hint in hint_of {
        let is_hinted = usable.iter().all(|e| e.condition.is_ready && hint(e) != Hint::Absent);
        let is_here = |e: &&&Endpoint| hint(e) == Hint::Here;
        if is_hinted && usable.iter().any(|e| is_here(&e)) {
            return usable.iter().filter(is_here).copied().collect();
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Condition, Hints};
    use tidegate_dataplane::types::L4Port;

    /// `spec`: R ready, T serving and terminating, D terminating and dead, N not ready; lower case
    /// on another node.
    fn endpoints(spec: &str) -> Vec<Endpoint> {
        let endpoint = |(i, c): (usize, char)| {
            let (is_ready, is_serving, is_terminating) = match c.to_ascii_uppercase() {
                'R' => (true, true, false),
                'T' => (false, true, true),
                'D' => (false, false, true),
                _ => (false, true, false),
            };
            Endpoint {
                address: [10, 0, 0, u8::try_from(i).unwrap()].into(),
                port: L4Port::new(80),
                condition: Condition { is_ready, is_serving, is_terminating },
                is_local: c.is_ascii_uppercase(),
                hints: Hints::default(),
                pod: None,
            }
        };
        spec.chars().enumerate().map(endpoint).collect()
    }

    #[test]
    fn the_table_of_policies_and_conditions_holds() {
        for (spec, cluster, local, is_any_usable) in [
            ("RrT", &[0u8, 1][..], &[0u8][..], true),
            ("rT", &[0], &[1], true), // C3: Local falls back while ready ones exist elsewhere
            ("tT", &[0, 1], &[1], true),
            ("t", &[0], &[], true),  // D3
            ("Dd", &[], &[], false), // C5
            ("Nn", &[], &[], false), // B10: serving, but neither ready nor terminating
            ("", &[], &[], false),   // D1
        ] {
            let endpoints = endpoints(spec);
            let got = categorize(&endpoints);
            let ids = |set: &[&Endpoint]| -> Vec<u8> {
                let last = |e: &&Endpoint| match e.address {
                    std::net::IpAddr::V4(v4) => v4.octets()[3],
                    std::net::IpAddr::V6(_) => unreachable!(),
                };
                set.iter().map(last).collect()
            };
            assert_eq!(ids(&got.cluster), cluster, "{spec}");
            assert_eq!(ids(&got.local), local, "{spec}");
            assert_eq!(got.is_any_usable, is_any_usable, "{spec}");
        }
    }
}
