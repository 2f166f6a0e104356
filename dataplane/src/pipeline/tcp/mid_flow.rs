//! TCP packets that go to a front, open nothing, and have no flow: it began before us, on another
//! gateway, or with the kernel (`conntrack.midFlow`).

use crate::admission::MidFlow;
use crate::flow_table::{FlowKind, Proxy};
use crate::packet::headers::tcp_flags;
use crate::pipeline::balance::{
    Choice, State, balancing_hash, begin_and_forward, is_masqueraded, kept_reply,
};
use crate::pipeline::packet::Packet;
use crate::snapshot::{Front, FrontState, Picker, Selection, Snapshot};
use crate::types::Time;
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};

/// Decides such a packet.
pub(in crate::pipeline) fn decide(
    state: &mut State<'_>,
    packet: &mut Packet<'_>,
    front: &Front,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let policy = state.gate.mid_flow();
    if policy != MidFlow::Pass {
        packet.service = front.service.id;
    }
    match policy {
        MidFlow::Pass => Verdict::Pass(PassReason::TcpNotSyn),
        MidFlow::Drop => Verdict::Drop(DropReason::TcpNotSyn),
        MidFlow::Reset => Verdict::Reject(RejectReason::TcpNotSyn),
        MidFlow::Forward => match only_backend(state, packet, front, snapshot) {
            Some(choice) => begin_and_forward(state, packet, &choice, snapshot, now),
            None => Verdict::Drop(DropReason::TcpNotSyn),
        },
    }
}

/// Where the flow's packets must have gone before, if that follows from the tuple alone: without a
/// source port of ours, without a memory of clients, by Maglev. It is right if the set was the same
/// when the flow began. Not for a reset: it would end what it begins.
fn only_backend<'s>(
    state: &State<'_>,
    packet: &Packet<'_>,
    front: &'s Front,
    snapshot: &Snapshot,
) -> Option<Choice<'s>> {
    let key = &packet.headers.key;
    let is_reset = packet.headers.tcp_flags & tcp_flags::RST != 0;
    if is_reset || front.state != FrontState::Active || front.service.affinity_timeout.is_some() {
        return None;
    }
    let Selection::Forward { backends, masquerade } = front.meets(key.src, &snapshot.pod_networks)
    else {
        return None;
    };
    if !matches!(backends.picker(), Picker::Maglev(_)) {
        return None;
    }
    // The random number is asked for by the other picker alone.
    let backend = backends.pick(balancing_hash(&front.service, key), 0)?;
    let masquerade = is_masqueraded(*masquerade, key.src, backend);
    kept_reply(&*state.ways.flows, key, (backend, masquerade))?;
    Some(Choice {
        front,
        backend: Some(backend),
        masquerade: false,
        kind: FlowKind::PickedUp,
        proxy: Proxy::NONE,
    })
}
