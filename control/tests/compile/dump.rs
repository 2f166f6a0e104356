//! A compilation as text.

use crate::rig::Compilation;
use std::fmt::Write as _;
use std::net::IpAddr;
use tidegate_dataplane::snapshot::{BackendSet, Front, NextHopState, Selection, Snapshot};

/// Fronts with what a new flow meets, one line each, sorted.
pub(crate) fn fronts(compiled: &Compilation) -> String {
    let mut fronts: Vec<_> = compiled.snapshot.fronts.values().collect();
    fronts.sort_by_key(|front| front.key);
    let mut text = String::new();
    for front in fronts {
        let Front { kind, service, outside, .. } = &**front;
        let name = format!("{}/{}:{}", service.namespace, service.name, service.port_name);
        let place = place(front);
        let outside = selection(&compiled.snapshot, outside);
        writeln!(text, "{place} {kind:?} {name} {outside}").unwrap();
    }
    text
}

/// What a new flow from `source` to `front` (`address:port/protocol`) meets.
pub(crate) fn met(compiled: &Compilation, source: &str, front: &str) -> String {
    let source: IpAddr = source.parse().unwrap();
    let snapshot = &compiled.snapshot;
    match snapshot.fronts.values().find(|f| place(f) == front) {
        Some(front) => selection(snapshot, front.meets(source.into(), &snapshot.pod_networks)),
        None => "no front".to_owned(),
    }
}

/// The fronts' places, sorted.
pub(crate) fn places(compiled: &Compilation) -> String {
    let mut fronts: Vec<_> = compiled.snapshot.fronts.values().collect();
    fronts.sort_by_key(|front| front.key);
    fronts.into_iter().map(|front| place(front)).collect::<Vec<_>>().join(" ")
}

fn place(front: &Front) -> String {
    format!("{}:{}/{}", front.key.address, front.key.port, front.key.protocol)
}

/// Backends with an obstacle, and which.
pub(crate) fn reasons(compiled: &Compilation) -> String {
    let mut text = String::new();
    for service in &compiled.report {
        for backend in &service.backends {
            let Some(reason) = &backend.reason else { continue };
            let name = format!("{}:{}", service.name, service.port_name);
            writeln!(text, "{name} {}:{} {reason}", backend.address, backend.port).unwrap();
        }
    }
    text
}

fn selection(snapshot: &Snapshot, selection: &Selection) -> String {
    match selection {
        Selection::Forward { backends, masquerade } => {
            let how = if *masquerade { "snat" } else { "dnat" };
            format!("{how} {}", set(snapshot, backends))
        }
        Selection::Reject(reason) => format!("reject {}", reason.name()),
        Selection::Drop(reason) => format!("drop {}", reason.name()),
        Selection::Pass(reason) => format!("pass {}", reason.name()),
    }
}

/// A star marks a backend that packets cannot reach yet.
fn set(snapshot: &Snapshot, set: &BackendSet) -> String {
    let backends = set.backends().iter().map(|backend| {
        let state = snapshot.next_hop(backend.next_hop).unwrap().state;
        let mark = if state == NextHopState::Resolved { "" } else { "*" };
        format!("{}:{}{mark}", backend.address, backend.port)
    });
    backends.collect::<Vec<_>>().join(" ")
}
