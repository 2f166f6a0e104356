//! What did not change is shared with the last snapshot, so that publishing costs what changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, Front, Picker, Selection, ServicePort, Snapshot,
};
use tidegate_dataplane::types::ServiceId;

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

/// As long as a snapshot has a number, its names do not change.
fn is_same_service(old: &ServicePort, new: &ServicePort) -> bool {
    old.serving == new.serving && old.affinity_timeout == new.affinity_timeout
}

/// Whether the last snapshot has a front that is equal to `new`.
pub(super) fn has_front(last: &Snapshot, new: &Front) -> bool {
    last.fronts.get(&new.key).is_some_and(|old| is_same_front(old, new))
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

/// Entries of `new`'s Maglev table whose flows got another backend by `old`'s. Of tables that
/// differ in size those entries are compared that the same hashes lead to.
pub(super) fn moved_slots(old: &Selection, new: &Selection) -> u64 {
    let (Selection::Forward { backends: old, .. }, Selection::Forward { backends: new, .. }) =
        (old, new)
    else {
        return 0;
    };
    let (Picker::Maglev(before), Picker::Maglev(after)) = (old.picker(), new.picker()) else {
        return 0;
    };
    if Arc::ptr_eq(before, after) {
        return 0;
    }
    let end = |backend: &Backend| (backend.address, backend.port);
    let places: BTreeMap<_, _> = old.backends().iter().map(end).zip(0..).collect();
    // As tables have them: by index into their own backends.
    let same: Vec<Option<usize>> =
        new.backends().iter().map(|backend| places.get(&end(backend)).copied()).collect();
    let (entries, count) = (before.entries(), after.entries().len());
    let is_moved = |(at, entry): (usize, &u16)| {
        let was = entries.get(at * entries.len() / count).copied().map(usize::from);
        same.get(usize::from(*entry)).copied().flatten() != was
    };
    after.entries().iter().enumerate().filter(|pair| is_moved(*pair)).count() as u64
}

/// Removed service ports that live flows may still name: at most so many, the oldest go first.
/// Below, `get flows` shows numbers for names; above, memory for nothing.
const RETIRED_MAX: usize = 1_024;

/// Service ports that were removed, with nobody serving.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<Arc<ServicePort>>);

impl Retired {
    /// Empties a service port that was removed. Gives the one that is forgotten for it.
    pub(super) fn add(
        &mut self,
        id: ServiceId,
        snapshot: &mut Snapshot,
    ) -> Option<Arc<ServicePort>> {
        let old = snapshot.services.get(&id)?;
        let emptied = Arc::new(ServicePort { serving: Arc::default(), ..ServicePort::clone(old) });
        snapshot.services.insert(id, Arc::clone(&emptied));
        self.0.push_back(emptied);
        let oldest = if self.0.len() > RETIRED_MAX { self.0.pop_front() } else { None }?;
        snapshot.services.remove(&oldest.id);
        Some(oldest)
    }

    /// A service port is back.
    pub(super) fn take_back(&mut self, id: ServiceId) {
        self.0.retain(|service| service.id != id);
    }
}
