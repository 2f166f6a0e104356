//! From one snapshot to the next without a packet between them (T10).
//!
//! Fronts are added to the XDP program's map before the workers know them, so that their first
//! packet finds a worker; they are removed, or set to drain, after the workers forgot them.

use crate::engine::{Engine, EngineError};
use crate::snapshot::{Front, FrontKey, FrontState, Selection, Snapshot, Version};
use crate::types::{Protocol, ServiceId};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

/// A burst that began with the snapshot before may still begin flows: far longer than any takes.
const GRACE: Duration = Duration::from_millis(200);

/// What the XDP program holds for a front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Steered {
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
    /// then removed fronts start to drain. The version in `snapshot` is set by this call and
    /// returned.
    ///
    /// # Errors
    /// The front map is full; the old snapshot stays.
    pub fn publish(&mut self, mut snapshot: Snapshot) -> Result<Version, EngineError> {
        let old = Arc::clone(self.publisher.current());
        snapshot.version = Version(old.version.0 + 1);
        let version = snapshot.version;
        self.keep_draining(&old, &mut snapshot);
        self.add_fronts(&snapshot)?;
        self.publisher.publish(Arc::new(snapshot));
        self.published_at = Instant::now();
        // A refusal here leaves a front too many in the map; the next tick tries again.
        self.retire_fronts().ok();
        Ok(version)
    }

    /// A TCP front that is gone, or left to the kernel now, stays for its live flows. One that was
    /// active until now always does: its last flow may begin while this runs.
    fn keep_draining(&self, old: &Snapshot, new: &mut Snapshot) {
        for (key, front) in sorted(old) {
            let is_left = new.fronts.get(&key).is_none_or(|f| steered(f).is_none());
            let may_live = match steered(&front) {
                Some(Steered::Active) => true,
                Some(Steered::Draining) => self.has_flows(front.service.id),
                None => false,
            };
            if !is_left || key.protocol != Protocol::Tcp || !may_live {
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

    fn add_fronts(&mut self, new: &Snapshot) -> Result<(), EngineError> {
        for (key, front) in sorted(new) {
            let is_new = self.steered.get(&key) != Some(&Steered::Active);
            if is_new && steered(&front) == Some(Steered::Active) {
                self.steering.fronts.insert(&key, false)?;
                self.steered.insert(key, Steered::Active);
            }
        }
        Ok(())
    }

    /// Makes the XDP map hold what the published snapshot says and nothing else; also what an
    /// addition left behind that failed half way.
    pub(super) fn retire_fronts(&mut self) -> Result<(), EngineError> {
        let current = Arc::clone(self.publisher.current());
        let wanted = |key: &FrontKey| current.fronts.get(key).and_then(|front| steered(front));
        let mut changed: Vec<_> = self.steered.iter().map(|(key, state)| (*key, *state)).collect();
        changed.retain(|(key, state)| wanted(key) != Some(*state));
        changed.sort_unstable_by_key(|(key, _)| *key);
        for (key, _) in changed {
            if let Some(state) = wanted(&key) {
                self.steering.fronts.insert(&key, state == Steered::Draining)?;
                self.steered.insert(key, state);
            } else {
                self.steering.fronts.remove(&key)?;
                self.steered.remove(&key);
            }
        }
        Ok(())
    }

    /// Ends fronts whose last flow is gone.
    pub(super) fn end_drained(&mut self) -> Result<(), EngineError> {
        if self.published_at.elapsed() < GRACE {
            return Ok(());
        }
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
