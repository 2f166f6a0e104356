//! Reasons that a packet meets for the state of the network behind it, or its own form.

use super::*;
use crate::snapshot::NextHopState;

/// A snapshot whose next hops are in this state.
fn behind(snapshot: &Snapshot, state: NextHopState) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let change = |hop: &NextHop| NextHop { state, ..hop.clone() };
    snapshot.next_hops = snapshot.next_hops.iter().map(change).collect();
    snapshot
}

#[test]
fn what_is_wrong_with_the_way_to_a_backend_is_told_by_name() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let syn = |port| tcp_frame(&family.client(1, port), family.front(), SYN, b"");
        let known = syn(4000);
        to_backend(&mut pipeline, &snapshot, &known);
        for (state, reason) in [
            (NextHopState::Unresolved, DropReason::NeighFailed),
            (NextHopState::NoRoute, DropReason::IpOutnoroutes),
            (NextHopState::NotAttached, DropReason::IpOutnoroutes),
        ] {
            let snapshot = behind(&snapshot, state);
            for frame in [&known, &syn(4001)] {
                let (verdict, out) = send(&mut pipeline, &snapshot, frame, NOW);
                assert_eq!(verdict, Verdict::Drop(reason), "{state:?}");
                assert_eq!(&out, frame, "a dropped packet is left as it came");
            }
        }
        assert_eq!(pipeline.flows.len(), 1, "no flow begins to where nothing leads");
    }
}

#[test]
fn a_reply_to_an_interface_that_is_gone_is_dropped_by_name() {
    for family in Family::ALL {
        let (mut pipeline, mut snapshot) = rig(&fixture(family));
        let question = udp_frame(&client(family), family.front(), b"question");
        let (snat, backend) = to_backend(&mut pipeline, &snapshot, &question);
        snapshot.interfaces = Arc::new(vec![None; snapshot.interfaces.len()]);
        let answer = udp_frame(&backend, &snat, b"answer");
        let (verdict, _) = send(&mut pipeline, &snapshot, &answer, NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::DevReady));
    }
}

#[test]
fn a_frame_that_ends_in_a_header_is_dropped_by_name() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let whole = udp_frame(&client(family), family.front(), b"question");
        for (len, reason) in [(13, DropReason::PktTooSmall), (20, DropReason::PktTooSmall)] {
            let (verdict, _) = send(&mut pipeline, &snapshot, &whole[..len], NOW);
            assert_eq!(verdict, Verdict::Drop(reason), "{len} bytes");
        }
    }
}

#[test]
fn where_no_source_port_is_free_a_new_flow_is_dropped_by_name() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) =
            rig(&Fixture { backends: 1, flows_max: 1 << 16, ..fixture(family) });
        let mut verdicts = (1..u16::MAX).map(|port| {
            let frame = udp_frame(&family.client(1, port), family.front(), b"");
            let (verdict, _) = send(&mut pipeline, &snapshot, &frame, NOW);
            // As the worker does after each burst.
            pipeline.flows.changes_mut().begun.clear();
            verdict
        });
        let refused = verdicts.find(|verdict| *verdict != Verdict::Forward(INNER));
        assert_eq!(refused, Some(Verdict::Drop(DropReason::SnatPortsExhausted)));
    }
}
