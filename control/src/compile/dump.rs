//! A compilation as text, for tests that people read.

use super::compiled::Compiled;
use std::fmt::Write;
use tidegate_dataplane::snapshot::{BackendSet, Front, NextHopState, Selection};

impl Compiled {
    /// Fronts with what a new flow meets, one line each, sorted.
    pub(super) fn dump(&self) -> String {
        let mut fronts: Vec<_> = self.snapshot.fronts.values().collect();
        fronts.sort_by_key(|front| front.key);
        let mut text = String::new();
        for front in fronts {
            let Front { key, kind, service, outside, .. } = &**front;
            let name = format!("{}/{}:{}", service.namespace, service.name, service.port_name);
            let place = format!("{}:{}/{}", key.address, key.port, key.protocol);
            writeln!(text, "{place} {kind:?} {name} {}", self.selection(outside)).unwrap();
        }
        text
    }

    /// Backends that are not used, with their reasons.
    pub(super) fn reasons(&self) -> String {
        let mut text = String::new();
        for service in &self.report {
            for backend in service.backends.iter().filter(|b| b.reason.is_some()) {
                let reason = backend.reason.as_deref().unwrap();
                let name = format!("{}:{}", service.name, service.port_name);
                writeln!(text, "{name} {}:{} {reason}", backend.address, backend.port).unwrap();
            }
        }
        text
    }

    fn selection(&self, selection: &Selection) -> String {
        match selection {
            Selection::Forward { backends, masquerade } => {
                let how = if *masquerade { "snat" } else { "dnat" };
                format!("{how} {}", self.set(backends))
            }
            Selection::Reject(reason) => format!("reject {}", reason.name()),
            Selection::Drop(reason) => format!("drop {}", reason.name()),
            Selection::Pass(reason) => format!("pass {}", reason.name()),
        }
    }

    /// A star marks a backend that packets cannot reach yet.
    fn set(&self, set: &BackendSet) -> String {
        let backends = set.backends().iter().map(|backend| {
            let state = self.snapshot.next_hop(backend.next_hop).unwrap().state;
            let mark = if state == NextHopState::Resolved { "" } else { "*" };
            format!("{}:{}{mark}", backend.address, backend.port)
        });
        backends.collect::<Vec<_>>().join(" ")
    }
}
