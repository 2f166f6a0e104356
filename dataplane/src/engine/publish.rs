//! From one snapshot to the next without a packet between them (T10).
//!
//! Fronts are added to the XDP program's map before the workers know them, so that their first
//! packet finds a worker; they are removed, or set to drain, after the workers forgot them.

use crate::engine::observe::GIVEN_UP_AFTER;
use crate::engine::{Engine, EngineError};
use crate::snapshot::{Front, FrontKey, FrontKind, FrontState, Selection, Snapshot, Version};
use crate::types::{Protocol, ServiceId, WorkerId};
use crate::xdp::layout::{FRONT_CLUSTER, FRONT_DRAINING};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// A burst that began with the snapshot before may still begin flows, so a front drains at least
/// until every worker has read the next one. And for so long: a packet may wait in a ring, or for
/// the first of its fragments.
const GRACE: Duration = Duration::from_millis(200);

/// Since when a front drains.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainsSince {
    pub(super) time: Instant,
    /// The first version in which it does.
    pub(super) version: Version,
}

/// The flags that the XDP program holds for a front; `None` where it is not to know it.
fn steered(front: &Front) -> Option<u32> {
    let cluster = if front.kind == FrontKind::ClusterIp { FRONT_CLUSTER } else { 0 };
    match (front.state, &front.outside) {
        (FrontState::Draining, _) => Some(FRONT_DRAINING | cluster),
        // Left to the kernel as a whole (T12).
        (FrontState::Active, Selection::Pass(_)) => None,
        (FrontState::Active, _) => Some(cluster),
    }
}

impl Engine {
    /// Publishes a snapshot: fronts are added to the XDP map first, then the pointer is stored,
    /// then removed fronts start to drain. `changed` are the keys of all fronts that differ from
    /// the snapshot handed over before: the work is theirs alone. The version and the draining
    /// fronts of `snapshot` are set by this call; the version is returned.
    ///
    /// # Errors
    /// The front map is full; the old snapshot stays. What was changed counts as changed at the
    /// next call too.
    pub fn publish(
        &mut self,
        snapshot: Snapshot,
        changed: impl IntoIterator<Item = FrontKey>,
    ) -> Result<Version, EngineError> {
        let mut keys = core::mem::take(&mut self.unpublished);
        keys.extend(changed);
        let published = self.publish_keys(snapshot, &keys);
        if published.is_err() {
            self.unpublished = keys;
        }
        published
    }

    /// Publishes a snapshot of which nothing is known: every front of it and of the one before
    /// counts as changed.
    ///
    /// # Errors
    /// As [`Engine::publish`].
    pub fn publish_all(&mut self, snapshot: Snapshot) -> Result<Version, EngineError> {
        let current = Arc::clone(self.publisher.current());
        let keys: Vec<_> = snapshot.fronts.keys().chain(current.fronts.keys()).copied().collect();
        self.publish(snapshot, keys)
    }

    fn publish_keys(
        &mut self,
        mut snapshot: Snapshot,
        keys: &BTreeSet<FrontKey>,
    ) -> Result<Version, EngineError> {
        let old = Arc::clone(self.publisher.current());
        snapshot.draining = old.draining.clone();
        keep_draining(&old, &mut snapshot, keys);
        // Before the first addition: if one fails, the next tick takes back those before it.
        self.unsettled.extend(keys);
        self.add_fronts(&snapshot, keys)?;
        Ok(self.store(snapshot, keys))
    }

    fn add_fronts(&mut self, new: &Snapshot, keys: &BTreeSet<FrontKey>) -> Result<(), EngineError> {
        for key in keys {
            let wanted = new.fronts.get(key).and_then(|front| steered(front));
            if wanted.is_some() {
                self.steer_front(*key, wanted)?;
            }
        }
        Ok(())
    }

    /// Makes the XDP map hold this of a front, or nothing.
    fn steer_front(&mut self, key: FrontKey, wanted: Option<u32>) -> Result<(), EngineError> {
        match wanted {
            _ if self.steered.get(&key).copied() == wanted => {}
            Some(flags) => {
                self.steering.fronts.insert(&key, flags)?;
                self.steered.insert(key, flags);
            }
            None => {
                self.steering.fronts.remove(&key)?;
                self.steered.remove(&key);
            }
        }
        Ok(())
    }

    fn store(&mut self, mut snapshot: Snapshot, keys: &BTreeSet<FrontKey>) -> Version {
        let version = Version(self.publisher.current().version.0 + 1);
        snapshot.version = version;
        self.publisher.publish(Arc::new(snapshot));
        let (now, current) = (Instant::now(), self.publisher.current());
        for key in keys {
            if current.draining.contains_key(key) {
                self.drained_since.entry(*key).or_insert(DrainsSince { time: now, version });
            } else {
                self.drained_since.remove(key);
            }
        }
        // One that sleeps reads it too: then every worker tells that it has it.
        self.workers.iter().for_each(|worker| worker.waker.poke());
        // A refusal here leaves a front too many in the map; the next tick tries again.
        self.retire_fronts().ok();
        version
    }

    /// Makes the XDP map hold what the published snapshot says, where the two may differ; also what
    /// an addition left behind that failed half way.
    pub(super) fn retire_fronts(&mut self) -> Result<(), EngineError> {
        let current = Arc::clone(self.publisher.current());
        while let Some(key) = self.unsettled.first().copied() {
            let wanted = current.front(&key).and_then(|front| steered(front));
            self.steer_front(key, wanted)?;
            self.unsettled.remove(&key);
        }
        Ok(())
    }

    fn has_flows(&self, service: ServiceId) -> bool {
        self.all_counters.iter().any(|counters| counters.service(service).flows.get() > 0)
    }

    /// Ends fronts whose last flow is gone.
    pub(super) fn end_drained(&mut self) {
        let current = Arc::clone(self.publisher.current());
        let (all, living) = (self.read_by(|_| true), self.read_by(|id| !self.is_stale(id)));
        let is_read = |since: &DrainsSince| {
            let read = if since.time.elapsed() < GIVEN_UP_AFTER { all } else { living };
            since.version <= read
        };
        let is_over = |(key, since): &(&FrontKey, &DrainsSince)| {
            let front = current.draining.get(key);
            since.time.elapsed() >= GRACE
                && is_read(since)
                && front.is_none_or(|front| !self.has_flows(front.service.id))
        };
        let over: BTreeMap<_, _> =
            self.drained_since.iter().filter(is_over).map(|(key, since)| (*key, *since)).collect();
        if over.is_empty() {
            return;
        }
        let unread = over.values().filter(|since| since.version > all).count();
        self.ended_unread += unread as u64;
        let over: BTreeSet<_> = over.into_keys().collect();
        let mut next = Snapshot::clone(&current);
        for key in &over {
            next.draining.remove(key);
        }
        self.unsettled.extend(&over);
        self.store(next, &over);
    }

    /// The newest version that each of these workers has read.
    fn read_by(&self, is_meant: impl Fn(WorkerId) -> bool) -> Version {
        let workers = self.workers.iter().filter(|worker| is_meant(worker.id()));
        let versions = workers.map(|w| Version(w.counters.work.snapshot_version.get_acquire()));
        versions.min().unwrap_or_else(|| self.publisher.current().version)
    }

    /// Fronts that ended draining though a worker had not read so: it did not beat, and was waited
    /// for ten seconds. A flow that it begins yet on such a front is cut off.
    pub fn fronts_ended_unread(&self) -> u64 {
        self.ended_unread
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.publisher.current())
    }

    /// The version that each worker read last, by worker. One that sleeps is woken to read a new
    /// one, so all follow within a burst.
    pub fn versions_read(&self) -> impl Iterator<Item = Version> {
        self.all_counters.iter().map(|counters| Version(counters.work.snapshot_version.get()))
    }
}

fn is_active(flags: u32) -> bool {
    flags & FRONT_DRAINING == 0
}

/// A TCP front that is gone, or left to the kernel now, stays for its live flows. One that was
/// active until now always does: its last flow may begin while this runs. One that is active again
/// drains no more.
fn keep_draining(old: &Snapshot, new: &mut Snapshot, keys: &BTreeSet<FrontKey>) {
    for key in keys {
        if new.fronts.get(key).is_some_and(|front| steered(front).is_some()) {
            new.draining.remove(key);
            continue;
        }
        let active = old.fronts.get(key).filter(|f| steered(f).is_some_and(is_active));
        if let Some(front) = active.filter(|_| key.protocol == Protocol::Tcp) {
            let draining = Front { state: FrontState::Draining, ..Front::clone(front) };
            new.draining.insert(*key, Arc::new(draining));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;
    use crate::verdict::PassReason;

    fn keys(snapshot: &Snapshot) -> BTreeSet<FrontKey> {
        snapshot.fronts.keys().copied().collect()
    }

    fn drained(snapshot: &Snapshot) -> Vec<Protocol> {
        snapshot.draining.keys().map(|key| key.protocol).collect()
    }

    #[test]
    fn a_tcp_front_that_goes_drains_until_it_is_active_again_and_a_udp_front_just_goes() {
        let old = Fixture::default().snapshot();
        let mut gone = Snapshot::default();
        keep_draining(&old, &mut gone, &keys(&old));
        assert_eq!(drained(&gone), [Protocol::Tcp]);
        let key = gone.draining.keys().next().copied().unwrap();
        assert_eq!(gone.front(&key).unwrap().state, FrontState::Draining);
        let mut back = Snapshot { draining: gone.draining.clone(), ..old.clone() };
        keep_draining(&gone, &mut back, &keys(&old));
        assert!(back.draining.is_empty());
        assert_eq!(back.front(&key).unwrap().state, FrontState::Active);
    }

    #[test]
    fn a_front_that_is_left_to_the_kernel_drains_and_flows_still_find_it() {
        let old = Fixture::default().snapshot();
        let pass = Selection::Pass(PassReason::LocalBackend);
        let mut left = Fixture::default().snapshot_with(pass);
        keep_draining(&old, &mut left, &keys(&old));
        assert_eq!(drained(&left), [Protocol::Tcp]);
        let key = left.draining.keys().next().copied().unwrap();
        assert_eq!(left.front(&key).unwrap().state, FrontState::Draining);
        let mut gone = Snapshot { draining: left.draining.clone(), ..Snapshot::default() };
        keep_draining(&left, &mut gone, &keys(&left));
        assert_eq!(drained(&gone), [Protocol::Tcp], "it drains on where it goes as a whole");
    }

    #[test]
    fn only_what_is_said_to_have_changed_is_looked_at() {
        let old = Fixture::default().snapshot();
        let mut gone = Snapshot::default();
        keep_draining(&old, &mut gone, &BTreeSet::new());
        assert!(gone.draining.is_empty());
    }
}
