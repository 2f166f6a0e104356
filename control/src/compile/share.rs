//! What did not change is shared with the last snapshot, so that publishing costs what changed.

use std::collections::VecDeque;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{BackendSet, Front, Picker, Selection, ServicePort, Snapshot};

/// `new`, or `old` where they are equal.
pub(super) fn value<T: PartialEq>(old: &Arc<T>, new: T) -> Arc<T> {
    if **old == new { Arc::clone(old) } else { Arc::new(new) }
}

/// The last snapshot's service port where `new` is equal to it.
pub(super) fn service(last: &Snapshot, new: ServicePort) -> Arc<ServicePort> {
    match last.services.get(&new.id) {
        Some(old) if is_same_service(old, &new) => Arc::clone(old),
        _ => Arc::new(new),
    }
}

/// A number's names never change.
fn is_same_service(old: &ServicePort, new: &ServicePort) -> bool {
    old.serving == new.serving && old.affinity_timeout == new.affinity_timeout
}

/// The last snapshot's front where `new` is equal to it.
pub(super) fn front(last: &Snapshot, new: Front) -> Arc<Front> {
    match last.fronts.get(&new.key) {
        Some(old) if is_same_front(old, &new) => Arc::clone(old),
        _ => Arc::new(new),
    }
}

fn is_same_front(old: &Front, new: &Front) -> bool {
    old.kind == new.kind
        && old.state == new.state
        && Arc::ptr_eq(&old.service, &new.service)
        && old.source_ranges == new.source_ranges
        && is_same_selection(&old.outside, &new.outside)
        && is_same_selection(&old.pods, &new.pods)
}

/// `new` with the set of `old` where the sets are equal.
pub(super) fn selection(old: Option<&Selection>, new: Selection) -> Selection {
    let Selection::Forward { backends, masquerade } = new else { return new };
    let backends = match old {
        Some(Selection::Forward { backends: old, .. }) if is_same_set(old, &backends) => {
            Arc::clone(old)
        }
        _ => backends,
    };
    Selection::Forward { backends, masquerade }
}

fn is_same_selection(old: &Selection, new: &Selection) -> bool {
    match (old, new) {
        (
            Selection::Forward { backends: a, masquerade: old },
            Selection::Forward { backends: b, masquerade: new },
        ) => Arc::ptr_eq(a, b) && old == new,
        (Selection::Reject(a), Selection::Reject(b)) => a == b,
        (Selection::Drop(a), Selection::Drop(b)) => a == b,
        (Selection::Pass(a), Selection::Pass(b)) => a == b,
        _ => false,
    }
}

/// Tables are shared by set, so the same set has the very same table.
fn is_same_set(a: &BackendSet, b: &BackendSet) -> bool {
    let is_same_picker = match (a.picker(), b.picker()) {
        (Picker::Maglev(a), Picker::Maglev(b)) => Arc::ptr_eq(a, b),
        (Picker::Random, Picker::Random) => true,
        _ => false,
    };
    is_same_picker && a.backends() == b.backends()
}

/// Removed service ports that live flows may still name: at most so many, the oldest go first.
/// Below, `get flows` shows numbers for names; above, memory for nothing.
const RETIRED_MAX: usize = 1_024;

/// Service ports that were removed, with nobody serving.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<Arc<ServicePort>>);

impl Retired {
    /// Adds to `next` what `last` had and it has not.
    pub(super) fn carry(&mut self, last: &Snapshot, next: &mut Snapshot) {
        self.0.retain(|service| !next.services.contains_key(&service.id));
        let mut gone: Vec<_> =
            last.services.values().filter(|old| !next.services.contains_key(&old.id)).collect();
        gone.retain(|old| self.0.iter().all(|known| known.id != old.id));
        gone.sort_by_key(|old| old.id);
        for old in gone {
            let emptied = ServicePort { serving: Arc::default(), ..ServicePort::clone(old) };
            self.0.push_back(Arc::new(emptied));
        }
        while self.0.len() > RETIRED_MAX {
            self.0.pop_front();
        }
        for service in &self.0 {
            next.services.insert(service.id, Arc::clone(service));
        }
    }
}
