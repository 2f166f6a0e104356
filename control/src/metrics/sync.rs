//! How changes of the cluster reach the packet path, in kube-proxy's terms (semantics J1, J7).
//! Pure: times are passed in.

use super::distribution::Distribution;
use crate::model::{
    Change, ClusterState, EndpointSlice, Family, Object, ObjectName, Service, differences,
};
use crate::source::SourceEvent;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Trigger times that wait for one publication at most; those of further slices are not measured.
/// A start with more slices has none to measure: they changed before it.
const TRIGGERS_MAX: usize = 65_536;

/// What happened since the start.
#[derive(Debug, Clone)]
pub struct SyncStats {
    started: SystemTime,
    durations: Distribution,
    programming: Distribution,
    families: BTreeMap<Family, FamilyStats>,
    triggers: Vec<(SystemTime, Family)>,
    /// Changes of Services and of slices.
    pub services: ChangeCount,
    /// Changes of slices.
    pub endpoints: ChangeCount,
    /// The last publication, which is always of both families.
    pub published: Option<SystemTime>,
}

/// What concerned one family, as kube-proxy, which runs once for each, would have measured it.
#[derive(Debug, Clone)]
pub struct FamilyStats {
    /// How long compiling and publishing took.
    pub durations: Distribution,
    /// From a change of its slices until it was published.
    pub programming: Distribution,
    /// The last change that was told.
    pub queued: Option<SystemTime>,
    is_waiting: bool,
}

impl FamilyStats {
    fn new() -> Self {
        Self {
            durations: durations(),
            programming: Distribution::new(programming_bounds()),
            queued: None,
            is_waiting: false,
        }
    }
}

/// Both families.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Changes that were told, and those of them that are not published yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCount {
    /// All.
    pub total: u64,
    /// Those that wait.
    pub pending: u64,
}

impl ChangeCount {
    fn add(&mut self) {
        self.total += 1;
        self.pending += 1;
    }
}

impl SyncStats {
    /// Nothing yet. Slices that changed before `started` are not measured.
    pub fn new(started: SystemTime) -> Self {
        Self {
            started,
            durations: durations(),
            families: FAMILIES.map(|family| (family, FamilyStats::new())).into(),
            programming: Distribution::new(programming_bounds()),
            triggers: Vec::new(),
            services: ChangeCount::default(),
            endpoints: ChangeCount::default(),
            published: None,
        }
    }

    /// The source tells `event`; `before` is what was known until now.
    pub fn heard(&mut self, before: &ClusterState, event: &SourceEvent, now: SystemTime) {
        if let SourceEvent::State(after) = event {
            self.heard_state((before, after), now);
        }
        if let SourceEvent::Changed(changes) = event {
            changes.iter().for_each(|change| self.heard_change(before, change, now));
        }
    }

    /// A change concerns these families.
    fn concern(&mut self, families: impl IntoIterator<Item = Family>, now: SystemTime) {
        for family in families {
            if let Some(stats) = self.families.get_mut(&family) {
                (stats.is_waiting, stats.queued) = (true, Some(now));
            }
        }
    }

    /// What was heard makes no difference to what is published: nothing waits.
    pub fn unchanged(&mut self) {
        self.triggers.clear();
        self.families.values_mut().for_each(|stats| stats.is_waiting = false);
        (self.services.pending, self.endpoints.pending) = (0, 0);
    }

    fn heard_state(&mut self, (before, after): (&ClusterState, &ClusterState), now: SystemTime) {
        for (key, new) in differences(&before.services, &after.services) {
            self.heard_service([before.services.get(&key).map(|old| &**old), new.as_deref()], now);
        }
        for (key, new) in differences(&before.slices, &after.slices) {
            self.heard_slice([before.slices.get(&key).map(|old| &**old), new.as_deref()], now);
        }
    }

    fn heard_change(&mut self, before: &ClusterState, change: &Change, now: SystemTime) {
        match change {
            Change::Upserted(Object::Service(new)) => {
                let old = before.services.get(&new.key).map(|old| &**old);
                self.heard_service([old, Some(new)], now);
            }
            Change::Removed(ObjectName::Service(key)) => {
                self.heard_service([before.services.get(key).map(|old| &**old), None], now);
            }
            Change::Upserted(Object::EndpointSlice(new)) => {
                let old = before.slices.get(&new.key).map(|old| &**old);
                self.heard_slice([old, Some(new)], now);
            }
            Change::Removed(ObjectName::EndpointSlice(key)) => {
                self.heard_slice([before.slices.get(key).map(|old| &**old), None], now);
            }
            _ => {}
        }
    }

    fn heard_service(&mut self, [old, new]: [Option<&Service>; 2], now: SystemTime) {
        self.services.add();
        let both = [old, new].into_iter().flatten();
        self.concern(both.flat_map(|service| service.families.iter().copied()), now);
    }

    fn heard_slice(&mut self, [old, new]: [Option<&EndpointSlice>; 2], now: SystemTime) {
        self.endpoints.add();
        self.concern([old, new].into_iter().flatten().filter_map(|slice| slice.family), now);
        new.into_iter().for_each(|slice| self.await_trigger(slice));
    }

    fn await_trigger(&mut self, slice: &EndpointSlice) {
        let time = slice.trigger_time.filter(|time| *time >= self.started);
        let told = time.zip(slice.family);
        self.triggers.extend(told.filter(|_| self.triggers.len() < TRIGGERS_MAX));
    }

    /// All that was heard is on the workers; compiling and publishing took `took`.
    pub fn published(&mut self, took: Duration, now: SystemTime) {
        self.durations.observe(took.as_secs_f64(), 1);
        // What the network changed concerns both.
        let is_general = self.families.values().all(|stats| !stats.is_waiting);
        for stats in self.families.values_mut().filter(|stats| stats.is_waiting || is_general) {
            stats.durations.observe(took.as_secs_f64(), 1);
            stats.is_waiting = false;
        }
        for (trigger, family) in self.triggers.drain(..) {
            // The writer's clock may be ahead of ours.
            let waited = now.duration_since(trigger).unwrap_or_default().as_secs_f64();
            self.programming.observe(waited, 1);
            let of_family = self.families.get_mut(&family);
            of_family.into_iter().for_each(|stats| stats.programming.observe(waited, 1));
        }
        (self.services.pending, self.endpoints.pending) = (0, 0);
        self.published = Some(now);
    }

    /// What concerned each family.
    pub fn families(&self) -> impl Iterator<Item = (Family, &FamilyStats)> {
        self.families.iter().map(|(family, stats)| (*family, stats))
    }

    /// How long compiling and publishing took.
    pub fn durations(&self) -> &Distribution {
        &self.durations
    }

    /// From the time that the endpoint controller wrote on a slice until it was published.
    pub fn programming(&self) -> &Distribution {
        &self.programming
    }
}

fn durations() -> Distribution {
    Distribution::exponential(0.001, 2.0, 15)
}

/// kube-proxy's bounds (semantics J7): 0.25, 0.5, each second to 59, each fifth to 115, each
/// thirtieth to 300.
fn programming_bounds() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;
    use k8s_openapi::api::discovery::v1 as discovery;
    use std::sync::Arc;

    const START: Duration = Duration::from_hours(24);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + START + Duration::from_secs(seconds)
    }

    /// A slice that changed so many seconds after the start.
    fn slice(name: &str, trigger: &str) -> EndpointSlice {
        let annotations = serde_json::json!({
            "endpoints.kubernetes.io/last-change-trigger-time": trigger
        });
        let object: discovery::EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "annotations": annotations},
            "addressType": if name.starts_with("v6") { "IPv6" } else { "IPv4" },
            "endpoints": [], "ports": []
        }))
        .unwrap();
        EndpointSlice::try_from(&object).unwrap()
    }

    fn upsert(name: &str, trigger: &str) -> Change {
        Change::Upserted(Object::EndpointSlice(slice(name, trigger)))
    }

    /// Counts by seconds waited, those that occurred.
    fn waited(stats: &SyncStats) -> Vec<(f64, u64)> {
        stats.programming().classic().iter().filter(|(_, count)| *count > 0).copied().collect()
    }

    #[test]
    fn j7_a_slices_way_to_the_workers_is_measured_from_its_trigger_time() {
        let mut stats = SyncStats::new(at(0));
        let changes = vec![
            upsert("a", "1970-01-02T00:00:10Z"),
            upsert("b", "1970-01-02T00:00:12.5Z"),
            upsert("before-the-start", "1970-01-01T23:59:59Z"),
            upsert("unreadable", "yesterday"),
            Change::Removed(ObjectName::EndpointSlice(ObjectKey::new("default", "c"))),
        ];
        stats.heard(&ClusterState::default(), &SourceEvent::Changed(changes), at(13));
        assert_eq!((stats.endpoints.total, stats.endpoints.pending), (5, 5));
        stats.published(Duration::from_millis(3), at(13));
        assert_eq!(waited(&stats), [(0.5, 1), (3.0, 1)]);
        assert_eq!((stats.endpoints.total, stats.endpoints.pending), (5, 0));
        stats.published(Duration::from_millis(3), at(20));
        assert_eq!(stats.programming().sum_and_count().1, 2, "each is measured once");
        assert_eq!(stats.durations().sum_and_count().1, 2);
    }

    #[test]
    fn j7_of_a_whole_state_only_what_changed_counts() {
        let state = |slices: &[(&str, &str)]| {
            let objects = slices.iter().map(|(n, t)| Object::EndpointSlice(slice(n, t)));
            Arc::new(ClusterState::try_new(objects).unwrap())
        };
        let before = state(&[("a", "1970-01-02T00:00:01Z"), ("b", "1970-01-02T00:00:01Z")]);
        let after = state(&[("a", "1970-01-02T00:00:01Z"), ("c", "1970-01-02T00:00:02Z")]);
        let mut stats = SyncStats::new(at(0));
        stats.heard(&before, &SourceEvent::State(after), at(3));
        assert_eq!(stats.endpoints.total, 2, "one came, one went");
        stats.published(Duration::ZERO, at(3));
        assert_eq!(waited(&stats), [(1.0, 1)]);
    }

    #[test]
    fn j7_each_family_has_what_concerned_it_and_the_network_concerns_both() {
        let mut stats = SyncStats::new(at(0));
        let change = |changes, stats: &mut SyncStats| {
            stats.heard(&ClusterState::default(), &SourceEvent::Changed(changes), at(4));
            stats.published(Duration::from_millis(3), at(5));
        };
        let counts = |stats: &SyncStats| {
            let of = |(_, stats): (Family, &FamilyStats)| {
                let count = |seen: &Distribution| seen.sum_and_count().1;
                (count(&stats.durations), count(&stats.programming), stats.queued.is_some())
            };
            <[_; 2]>::try_from(stats.families().map(of).collect::<Vec<_>>()).unwrap()
        };
        change(vec![upsert("v6-a", "1970-01-02T00:00:03Z")], &mut stats);
        assert_eq!(counts(&stats), [(0, 0, false), (1, 1, true)]);
        change(vec![upsert("a", "1970-01-02T00:00:03Z")], &mut stats);
        assert_eq!(counts(&stats), [(1, 1, true), (1, 1, true)]);
        stats.published(Duration::from_millis(3), at(6));
        assert_eq!(counts(&stats), [(2, 1, true), (2, 1, true)]);
        assert_eq!(stats.durations().sum_and_count().1, 3);
    }

    #[test]
    fn the_bounds_are_kube_proxys() {
        let bounds: Vec<_> = programming_bounds().collect();
        assert_eq!(bounds.len(), 2 + 59 + 12 + 7);
        assert_eq!((bounds[0], bounds[60], bounds[72], bounds[79]), (0.25, 59.0, 115.0, 300.0));
    }
}
