//! From one snapshot to the next without a packet between them (T10).
//!
//! Fronts are added to the XDP program's map before the workers know them, so that their first
//! packet finds a worker; they are removed, or set to drain, after the workers forgot them.

use crate::engine::{Engine, EngineError};
use crate::snapshot::{Front, FrontKey, FrontState, Selection, Snapshot, Version};
use crate::types::{Protocol, ServiceId};
use std::sync::Arc;

/// What the XDP program holds for a front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Steered {
    Active,
    Draining,
}

fn steered(front: &Front) -> Option<Steered> {
    match (front.state, &front.outside) {
        (FrontState::Draining, _) => Some(Steered::Draining),
        // Left to the kernel as a whole (T12).
        (FrontState::Active, Selection::Pass(_)) => None,
        (FrontState::Active, _) => Some(Steered::Active),
    }
}

impl Engine {
    /// Publishes a snapshot: fronts are added to the XDP map first, then the pointer is stored,
    /// then removed fronts start to drain. The version in `snapshot` is set by this
    /// call and returned.
    ///
    /// # Errors
    /// The front map is full; the old snapshot stays.
    pub fn publish(&mut self, mut snapshot: Snapshot) -> Result<Version, EngineError> {
        let old = Arc::clone(self.publisher.current());
        snapshot.version = Version(old.version.0 + 1);
        let version = snapshot.version;
        self.keep_draining(&old, &mut snapshot);
        self.add_fronts(&old, &snapshot)?;
        let snapshot = Arc::new(snapshot);
        self.publisher.publish(Arc::clone(&snapshot));
        self.retire_fronts(&old, &snapshot)?;
        Ok(version)
    }

    /// A TCP front that is gone, or left to the kernel now, stays for its live flows.
    fn keep_draining(&self, old: &Snapshot, new: &mut Snapshot) {
        for (key, front) in sorted(old) {
            let is_left = new.fronts.get(&key).is_none_or(|f| steered(f).is_none());
            if !is_left || key.protocol != Protocol::Tcp || !self.has_flows(front.service.id) {
                continue;
            }
            let draining = Front { state: FrontState::Draining, ..(*front).clone() };
            new.services.entry(front.service.id).or_insert_with(|| Arc::clone(&front.service));
            new.fronts.insert(key, Arc::new(draining));
        }
    }

    fn has_flows(&self, service: ServiceId) -> bool {
        self.all_counters.iter().any(|counters| counters.service(service).flows.get() > 0)
    }

    fn add_fronts(&self, old: &Snapshot, new: &Snapshot) -> Result<(), EngineError> {
        let state_before = |key: &FrontKey| old.fronts.get(key).and_then(|f| steered(f));
        let added = sorted(new).into_iter().filter(|(key, front)| {
            steered(front) == Some(Steered::Active) && state_before(key) != Some(Steered::Active)
        });
        added.into_iter().try_for_each(|(key, _)| self.steering.fronts.insert(&key, false))
    }

    fn retire_fronts(&self, old: &Snapshot, new: &Snapshot) -> Result<(), EngineError> {
        for (key, front) in sorted(old) {
            let (before, after) = (steered(&front), new.fronts.get(&key).and_then(|f| steered(f)));
            match (before, after) {
                (Some(_), None) => self.steering.fronts.remove(&key)?,
                (Some(Steered::Active), Some(Steered::Draining)) => {
                    self.steering.fronts.insert(&key, true)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends fronts whose last flow is gone.
    pub(super) fn end_drained(&mut self) -> Result<(), EngineError> {
        let current = self.publisher.current();
        let is_over = |front: &Front| {
            front.state == FrontState::Draining && !self.has_flows(front.service.id)
        };
        if !current.fronts.values().any(|front| is_over(front)) {
            return Ok(());
        }
        let mut next = Snapshot::clone(current);
        next.fronts.retain(|_, front| !is_over(front));
        self.publish(next).map(drop)
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.publisher.current())
    }
}

/// The fronts in the order of their keys: the kernel's refusals come in a fixed order.
fn sorted(snapshot: &Snapshot) -> Vec<(FrontKey, Arc<Front>)> {
    let mut fronts: Vec<_> = snapshot.fronts.iter().map(|(k, f)| (*k, Arc::clone(f))).collect();
    fronts.sort_unstable_by_key(|(key, _)| *key);
    fronts
}
