//! Datagrams in fragments: the first decides, the later ones follow it (semantics G10).

pub(in crate::pipeline) mod cut;

use crate::datagrams::{Datagram, DatagramTable, Fate};
use crate::flow_table::FlowTable;
use crate::pipeline::balance::owned_elsewhere;
use crate::pipeline::flow::{Ways, forward};
use crate::pipeline::packet::Packet;
use crate::snapshot::{FrontKey, Snapshot};
use crate::types::{FlowKey, L4Port, Time};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};

/// Remembers what became of a first fragment. The owner of its flow does, where that is another.
#[cold]
pub(super) fn remember(
    (flows, datagrams): (&FlowTable, &DatagramTable),
    packet: &Packet<'_>,
    verdict: Verdict,
    now: Time,
) {
    let key = &packet.headers.key;
    let fate = match verdict {
        Verdict::Forward(_) => Fate::Forwarded(key.src_port, key.dst_port),
        Verdict::Pass(_) => Fate::Passed,
        Verdict::Reject(_) | Verdict::Drop(_) => Fate::Refused,
        Verdict::HandOff(_) | Verdict::Wait | Verdict::Pending | Verdict::Generated => return,
    };
    if let Some(datagram) = packet.headers.datagram() {
        datagrams.remember(&datagram, hash(flows, &datagram), fate, now);
    }
}

/// Sends a later fragment after its first.
#[cold]
pub(super) fn follow(
    (ways, datagrams): (&mut Ways<'_>, &DatagramTable),
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let flows = &*ways.flows;
    let Some(datagram) = packet.headers.datagram() else {
        return Verdict::Drop(DropReason::FirstFragmentNotFound);
    };
    match datagrams.recall(&datagram, hash(flows, &datagram), now) {
        None => Verdict::Wait,
        Some(Fate::Passed) => Verdict::Pass(PassReason::Fragment),
        Some(Fate::Refused) => Verdict::Drop(DropReason::FirstFragmentNotFound),
        Some(Fate::Forwarded(source, destination)) => {
            let key = &mut packet.headers.key;
            (key.src_port, key.dst_port) = (source, destination);
            packet.hash = flows.hash(key);
            let front = FrontKey::dialled(key);
            if snapshot.front(&front).is_some_and(|front| !snapshot.lets_in(front, packet.ingress))
            {
                return Verdict::Pass(PassReason::Fragment);
            }
            along_flow(ways, packet, snapshot, now)
        }
    }
}

fn along_flow(
    ways: &mut Ways<'_>,
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let Some(found) = ways.flows.find(&packet.headers.key, packet.hash) else {
        // The flow ended between two fragments, or lives elsewhere.
        let elsewhere = owned_elsewhere(ways.flows, packet);
        return elsewhere.unwrap_or(Verdict::Drop(DropReason::FlowStateInvalid));
    };
    match forward(ways, found, packet, snapshot, now) {
        // Errors are about first fragments alone (RFC 1122 section 3.2.2).
        Verdict::Reject(RejectReason::TtlExceeded) => Verdict::Drop(DropReason::TtlExceeded),
        Verdict::Reject(_) => Verdict::Drop(DropReason::PktTooBig),
        verdict => verdict,
    }
}

/// Keyed, as all hashes of what comes from outside: nobody can fill one bucket on purpose.
fn hash(flows: &FlowTable, datagram: &Datagram) -> u64 {
    let none = L4Port::default();
    flows.hash(&FlowKey::new(datagram.protocol, (datagram.src, none), (datagram.dst, none)))
}
