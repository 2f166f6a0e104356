//! UDP flows: how long they live, and which backend a long one keeps.

use super::{NOW, client, fixture, later, rig, to_backend};
use crate::pipeline::Pipeline;
use crate::snapshot::{BackendSet, Selection, ServicePort, Snapshot, Version};
use crate::testing::{Family, Fixture, OUTER, ends, send, udp_frame};
use crate::types::ServiceId;
use crate::verdict::{DropReason, PassReason, Verdict};
use std::sync::Arc;

const UDP_SERVICE: ServiceId = ServiceId(2);

/// Lets time pass up to this second.
fn wait(pipeline: &mut Pipeline, second: u64) {
    pipeline.flows.expire(later(second));
    while pipeline.flows.is_behind() {
        pipeline.flows.expire(later(second));
    }
}

/// From the first reply on, a flow lives two minutes after its last packet of either direction.
#[test]
fn g9_a_flow_lives_for_thirty_seconds_and_with_a_reply_for_two_minutes() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let question = udp_frame(&client(family), family.front(), b"question");
        to_backend(&mut pipeline, &snapshot, &question);
        wait(&mut pipeline, 30);
        assert_eq!(pipeline.flows.len(), 1, "{family:?}");
        wait(&mut pipeline, 36);
        assert_eq!(pipeline.flows.len(), 0, "{family:?}: no reply was seen");

        let (snat, backend) = to_backend(&mut pipeline, &snapshot, &question);
        let answer = udp_frame(&backend, &snat, b"answer");
        let (verdict, _) = send(&mut pipeline, &snapshot, &answer, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        wait(&mut pipeline, 119);
        assert_eq!(pipeline.flows.len(), 1, "{family:?}: it has a reply");
        send(&mut pipeline, &snapshot, &question, later(119));
        wait(&mut pipeline, 119 + 119);
        assert_eq!(pipeline.flows.len(), 1, "{family:?}: counted from the last packet");
        wait(&mut pipeline, 119 + 126);
        assert_eq!(pipeline.flows.len(), 0, "{family:?}");
    }
}

/// The snapshot of version `number` with these backends, numbers of [`Fixture::backend_set`], in
/// the set of new flows, and those serving.
fn changed(before: &Snapshot, number: u64, (ready, serving): (&[usize], &[usize])) -> Snapshot {
    let mut snapshot = Snapshot { version: Version(number), ..before.clone() };
    let all = all_backends(before);
    let chosen = |of: &[usize]| of.iter().map(|n| all.backends()[*n].clone()).collect::<Vec<_>>();
    let set = BackendSet::new_checked(chosen(ready).into(), crate::snapshot::Picker::Random);
    let selection = Selection::Forward { backends: Arc::new(set.unwrap()), masquerade: true };
    let keys: Vec<_> = before.fronts.iter().map(|(key, _)| *key).collect();
    for key in keys {
        let mut front = (**before.front(&key).unwrap()).clone();
        front.outside = selection.clone();
        snapshot.fronts.insert(key, Arc::new(front));
    }
    let service = before.services.get(&UDP_SERVICE).unwrap();
    let ends = chosen(serving).iter().map(|b| (b.address, b.port)).collect();
    let service = ServicePort { serving: Arc::new(ends), ..(**service).clone() };
    snapshot.services.insert(UDP_SERVICE, Arc::new(service));
    snapshot
}

fn all_backends(snapshot: &Snapshot) -> Arc<BackendSet> {
    let (_, front) = snapshot.fronts.iter().next().unwrap();
    match &front.outside {
        Selection::Forward { backends, .. } => Arc::clone(backends),
        other => panic!("{other:?}"),
    }
}

/// As QUIC has them: many packets both ways, while endpoints come and go. What is no longer in the
/// set but still serves keeps its flows (G3); what stops serving loses them at once (G2), and its
/// late answers reach nobody (G8).
#[test]
fn g2_g3_a_long_flow_keeps_a_backend_that_serves_and_leaves_it_once_it_does_not() {
    for family in Family::ALL {
        let fixture = Fixture { backends: 4, ..fixture(family) };
        let (mut pipeline, first) = rig(&fixture);
        let frame = udp_frame(&client(family), family.front(), b"datagram");
        let (snat, backend) = to_backend(&mut pipeline, &first, &frame);
        let all = all_backends(&first);
        let is_its = |n: &usize| {
            let of = &all.backends()[*n];
            backend == std::net::SocketAddr::new(of.address.into(), of.port.number()).to_string()
        };
        let own = (0..4).find(is_its).unwrap();
        let others: Vec<usize> = (0..4).filter(|n| *n != own).collect();
        let mut version = 1;
        for _ in 0..10 {
            for sets in [(&[0, 1, 2, 3][..], &[0, 1, 2, 3][..]), (&others, &[0, 1, 2, 3])] {
                version += 1;
                let snapshot = changed(&first, version, sets);
                let seen = to_backend(&mut pipeline, &snapshot, &frame);
                assert_eq!(seen, (snat.clone(), backend.clone()), "{family:?} {sets:?}");
                let answer = udp_frame(&backend, &snat, b"answer");
                let (verdict, out) = send(&mut pipeline, &snapshot, &answer, NOW);
                assert_eq!(verdict, Verdict::Forward(OUTER));
                assert_eq!(ends(&out), (family.front().to_owned(), client(family)));
            }
        }
        let without = changed(&first, version + 1, (&others, &others));
        let (new_snat, new_backend) = to_backend(&mut pipeline, &without, &frame);
        assert_ne!(new_backend, backend, "{family:?}");
        let late = udp_frame(&backend, &snat, b"late");
        let (verdict, _) = send(&mut pipeline, &without, &late, NOW);
        let is_lost = matches!(
            verdict,
            Verdict::Drop(DropReason::FlowStateInvalid) | Verdict::Pass(PassReason::FrontGone)
        );
        assert!(is_lost, "{family:?}: {verdict:?}");
        let back = changed(&first, version + 2, (&[0, 1, 2, 3], &[0, 1, 2, 3]));
        let after = to_backend(&mut pipeline, &back, &frame);
        assert_eq!(after, (new_snat, new_backend), "{family:?}: it has a new home");
    }
}
