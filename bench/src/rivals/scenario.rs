//! What a forwarder meets in one turn.

use super::bed::conntrack;
use super::bed::rig::BACKENDS_FEW;
use crate::generator::{Shape, Size};
use anyhow::Result;
use tidegate_dataplane::types::Protocol;

/// What the packets ask of a forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Packets of so many established flows, in turn.
    Stream(u32),
    /// Each packet begins a flow: UDP of a tuple not seen before.
    NewFlows,
    /// TCP connections: opened, a short request, its answer, closed. Six packets each.
    Connections,
}

/// A kind of [`Work`], as it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WorkKind {
    /// Established flows
    Stream,
    /// Every packet a new UDP flow
    NewFlows,
    /// Short TCP connections
    Connections,
}

/// One row of every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Scenario {
    pub(crate) work: Work,
    pub(crate) size: Size,
}

/// More flows than that are crowded: three backends have no masquerading ports for them, and what
/// kube-proxy sets by default on a small machine no room.
const ROOMY_FLOWS_MAX: u32 = 20_000;

/// Backends where it is crowded.
const BACKENDS_MANY: u8 = 64;

/// Flows that tidegate and the kernel may hold where it is crowded: what kube-proxy lets the kernel
/// of a node with 128 CPUs have.
const CROWDED_FLOWS_MAX: u32 = 128 * 32_768;

/// Source tuples that the generator has where none may come again.
const TUPLES: u32 = 1 << 31;

impl Scenario {
    /// Established flows with the smallest frames.
    pub(crate) const fn stream(flows: u32) -> Self {
        Self { work: Work::Stream(flows), size: Size::LEAST }
    }

    /// Every packet begins a flow.
    pub(crate) const fn new_flows() -> Self {
        Self { work: Work::NewFlows, size: Size::LEAST }
    }

    /// Short TCP connections; TCP at all.
    pub(crate) const fn connections() -> Self {
        Self { work: Work::Connections, size: Size::LEAST }
    }

    /// Whether the tables are large and the backends many.
    pub(crate) fn is_crowded(&self) -> bool {
        match self.work {
            Work::Stream(flows) => flows > ROOMY_FLOWS_MAX,
            Work::NewFlows | Work::Connections => true,
        }
    }

    /// Room for flows, in tidegate's table and in the kernel's alike.
    pub(crate) fn flows_max(&self) -> Result<u32> {
        if self.is_crowded() { Ok(CROWDED_FLOWS_MAX) } else { conntrack::kube_proxy_default() }
    }

    /// Backends of the Service.
    pub(crate) fn backends(&self) -> u8 {
        if self.is_crowded() { BACKENDS_MANY } else { BACKENDS_FEW }
    }

    /// Of the Service.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.work {
            Work::Stream(_) | Work::NewFlows => Protocol::Udp,
            Work::Connections => Protocol::Tcp,
        }
    }

    /// The generator's packets.
    pub(crate) fn shape(&self) -> Shape {
        match self.work {
            Work::Stream(_) | Work::NewFlows => Shape::Datagrams(self.size),
            Work::Connections => Shape::Openings,
        }
    }

    /// Source tuples after which the generator begins anew.
    pub(crate) fn tuples(&self) -> u32 {
        match self.work {
            Work::Stream(flows) => flows,
            Work::NewFlows | Work::Connections => TUPLES,
        }
    }

    /// What a forwarder is measured by, beside its CPU time: digits behind the point in millions
    /// per second.
    pub(crate) fn digits(&self) -> usize {
        if self.work == Work::Connections { 3 } else { 2 }
    }
}

impl core::fmt::Display for Scenario {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let size = self.size;
        match self.work {
            Work::Stream(1) => write!(f, "1 flow, {size} B"),
            Work::Stream(flows) if size == Size::Imix => write!(f, "{flows} flows, {size}"),
            Work::Stream(flows) => write!(f, "{flows} flows, {size} B"),
            Work::NewFlows => f.write_str("new UDP flows"),
            Work::Connections => f.write_str("TCP connections"),
        }
    }
}

/// The scenarios that are asked for, in the order of the table. With nothing chosen: 1, 10,000 and
/// 1,000,000 flows, IMIX, new flows, connections.
pub(crate) fn chosen(works: &[WorkKind], flows: &[u32], sizes: &[Size]) -> Vec<Scenario> {
    let has_stream_choice = !flows.is_empty() || !sizes.is_empty();
    let wants = |kind| match works {
        [] => kind == WorkKind::Stream || !has_stream_choice,
        some => some.contains(&kind),
    };
    let mut all = Vec::new();
    if wants(WorkKind::Stream) {
        all.extend(streams(flows, sizes));
    }
    if wants(WorkKind::NewFlows) {
        all.push(Scenario::new_flows());
    }
    if wants(WorkKind::Connections) {
        all.push(Scenario::connections());
    }
    all
}

fn streams(flows: &[u32], sizes: &[Size]) -> Vec<Scenario> {
    if flows.is_empty() && sizes.is_empty() {
        let imix = Scenario { work: Work::Stream(10_000), size: Size::Imix };
        return vec![
            Scenario::stream(1),
            Scenario::stream(10_000),
            Scenario::stream(1_000_000),
            imix,
        ];
    }
    let flows = if flows.is_empty() { &[1, 10_000] } else { flows };
    let sizes = if sizes.is_empty() { &[Size::LEAST] } else { sizes };
    let of = |flows: &u32| {
        let work = Work::Stream(*flows);
        sizes.iter().map(move |size| Scenario { work, size: *size })
    };
    flows.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_flows_or_sizes_leaves_the_rest_out() {
        assert_eq!(chosen(&[], &[], &[]).len(), 6);
        assert_eq!(chosen(&[], &[5_000], &[]), [Scenario::stream(5_000)]);
        let imix = chosen(&[], &[], &[Size::Imix]);
        assert_eq!(imix.len(), 2);
        assert_eq!(imix[1].to_string(), "10000 flows, IMIX");
        let names: Vec<String> = chosen(&[WorkKind::NewFlows, WorkKind::Connections], &[], &[])
            .iter()
            .map(Scenario::to_string)
            .collect();
        assert_eq!(names, ["new UDP flows", "TCP connections"]);
    }

    #[test]
    fn many_flows_find_room_and_ports() {
        let crowded = Scenario::stream(1_000_000);
        assert!(crowded.flows_max().unwrap() >= 4_000_000 && crowded.backends() == 64);
        assert_eq!(Scenario::stream(10_000).backends(), 3);
    }
}
