//! One packet through the packet path.

use super::frame;
use super::question::Question;
use std::sync::Arc;
use tidegate_dataplane::affinity::AffinityTable;
use tidegate_dataplane::datagrams::DatagramTable;
use tidegate_dataplane::engine::FlowTimeouts;
use tidegate_dataplane::flow_table::{FlowEntry, FlowTable, FlowTableConfig, HashKey};
use tidegate_dataplane::pipeline::{Packet, Pipeline};
use tidegate_dataplane::snapshot::{Front, FrontKey, Selection, Side, Snapshot};
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::types::{InterfaceSlot, L4Port, MacAddress, PortRange, Time, WorkerId};
use tidegate_dataplane::verdict::{DropReason, PassReason, Verdict};

/// Long after the start of the clock, so that no limiter counts from its beginning.
const NOW: Time = Time(1_000_000_000_000);

/// What came out.
#[derive(Debug)]
pub(super) struct Trial<'s> {
    /// The decision.
    pub(super) verdict: Verdict,
    /// The front that the packet met.
    pub(super) front: Option<&'s Front>,
    /// What the front holds for flows like this one.
    pub(super) selection: Option<&'s Selection>,
    /// The flow that it began, where it is forwarded.
    pub(super) flow: Option<FlowEntry>,
    /// It goes to a node port's number at an address of the node that serves none.
    pub(super) is_off_address: bool,
}

/// What the XDP program counts as `NO_SERVICE`, which knows fronts alone: the packet's port is a
/// node port, but not at this address (semantics I1-I4). Name, stage and next step.
pub const NOT_NODEPORT_ADDRESS: (&str, &str, &str) = (
    "NOT_NODEPORT_ADDRESS",
    "service",
    "dial another address of the node, or let nodePortAddresses name this one",
);

impl<'s> Trial<'s> {
    /// A packet that the XDP program leaves to the kernel.
    pub(super) fn unseen(reason: PassReason) -> Self {
        let verdict = Verdict::Pass(reason);
        Self { verdict, front: None, selection: None, flow: None, is_off_address: false }
    }

    /// Sends the packet of `question` through the pipeline, as the first of its flow.
    pub(super) fn run(
        question: &Question,
        snapshot: &'s Snapshot,
        counters: &Arc<WorkerCounters>,
        source_ports: PortRange,
    ) -> Self {
        // The steering program knows packets by the same keys (`fronts` of steer.bpf.c), and
        // cluster IPs on the same side.
        let (slot, mac) = ingress(question, snapshot);
        let front = front_of(question, snapshot).filter(|front| snapshot.lets_in(front, slot));
        let Some(front) = front else { return Self::unseen(PassReason::NoService) };
        let Ok((mut buffer, len)) = frame::build(question, mac) else {
            return Self::unseen(PassReason::Malformed);
        };
        let mut pipeline = empty_pipeline(Arc::clone(counters), source_ports);
        let mut packets = [Packet::new(&mut buffer, len, slot)];
        pipeline.process(&mut packets, snapshot, NOW);
        let [packet] = packets;
        let flow = packet.flow.and_then(|flow| pipeline.flows.entry(flow).copied());
        let selection = front.meets(question.source.ip().into(), &snapshot.pod_networks);
        let verdict = as_steered(packet.verdict);
        Self {
            verdict,
            front: Some(front),
            selection: Some(selection),
            flow,
            is_off_address: false,
        }
    }

    /// The reason's name and stage, and what an operator does next; `None` if forwarded.
    pub(super) fn refusal(&self) -> Option<(&'static str, &'static str, &'static str)> {
        match self.verdict {
            Verdict::Pass(_) if self.is_off_address => Some(NOT_NODEPORT_ADDRESS),
            Verdict::Forward(_) => None,
            Verdict::Reject(reason) => Some((reason.name(), reason.stage(), reason.next_step())),
            Verdict::Pass(reason) => Some((reason.name(), reason.stage(), reason.next_step())),
            Verdict::Drop(reason) => Some((reason.name(), reason.stage(), reason.next_step())),
            // None is left over where there is one worker and a whole packet.
            Verdict::Pending | Verdict::Generated | Verdict::HandOff(_) | Verdict::Wait => {
                let reason = DropReason::FlowStateInvalid;
                Some((reason.name(), reason.stage(), reason.next_step()))
            }
        }
    }
}

/// The front that `question` is about, if it may be met or not.
pub(super) fn front_of<'s>(question: &Question, snapshot: &'s Snapshot) -> Option<&'s Front> {
    front_key(question).and_then(|key| snapshot.front(&key)).map(|front| &**front)
}

fn front_key(question: &Question) -> Option<FrontKey> {
    let protocol = question.transport.forwarded()?;
    let destination = question.destination;
    let port = L4Port::new(destination.port());
    Some(FrontKey { address: destination.ip().into(), port, protocol })
}

/// The pipeline leaves to the kernel what it cannot read; the XDP program, which read it before,
/// has its own name for that.
fn as_steered(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Pass(PassReason::NotIp) => Verdict::Pass(PassReason::NoService),
        verdict => verdict,
    }
}

/// Where the packet comes in: the first attached interface on the side of its source, else the
/// first of all. Only whether a cluster IP is a front depends on it.
fn ingress(question: &Question, snapshot: &Snapshot) -> (InterfaceSlot, MacAddress) {
    let is_pod = snapshot.pod_networks.contains(question.source.ip().into());
    let side = if is_pod { Side::Pods } else { Side::Clients };
    let slots = (0..).map(InterfaceSlot).zip(snapshot.interfaces.iter());
    let mut attached = slots.filter_map(|(slot, interface)| Some((slot, interface.as_ref()?)));
    let found = attached.clone().find(|(_, interface)| interface.side == side);
    found.or_else(|| attached.next()).map(|(slot, i)| (slot, i.mac)).unwrap_or_default()
}

fn empty_pipeline(counters: Arc<WorkerCounters>, source_ports: PortRange) -> Pipeline {
    let config = FlowTableConfig {
        worker: WorkerId(0),
        flows_max: 1,
        embryonic_max: 1,
        hash_key: HashKey::new([0; 4]),
        timeouts: FlowTimeouts::default(),
        source_ports: source_ports.into(),
        seed: 0,
    };
    // No client has a memory: the answer is that of a first flow.
    let affinity = Arc::new(AffinityTable::with_capacity(1));
    let datagrams = Arc::new(DatagramTable::with_capacity(1));
    Pipeline::new(FlowTable::new(config, counters, None), affinity, datagrams)
}
