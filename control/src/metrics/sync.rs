//! How changes of the cluster reach the packet path, in kube-proxy's terms (semantics J1, J7).
//! Pure: times are passed in.

use super::distribution::Distribution;
use crate::model::{Change, ClusterState, Object, ObjectName, differences};
use crate::source::SourceEvent;
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
    triggers: Vec<SystemTime>,
    /// Changes of Services and of slices.
    pub services: ChangeCount,
    /// Changes of slices.
    pub endpoints: ChangeCount,
    /// The last publication.
    pub published: Option<SystemTime>,
    /// The last change that was told.
    pub queued: Option<SystemTime>,
}

/// Changes that were told, and those of them that are not published yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCount {
    /// All.
    pub total: u64,
    /// Those that wait.
    pub pending: u64,
}

impl ChangeCount {
    fn add(&mut self, count: u64) {
        self.total += count;
        self.pending += count;
    }
}

impl SyncStats {
    /// Nothing yet. Slices that changed before `started` are not measured.
    pub fn new(started: SystemTime) -> Self {
        Self {
            started,
            durations: Distribution::exponential(0.001, 2.0, 15),
            programming: Distribution::new(programming_bounds()),
            triggers: Vec::new(),
            services: ChangeCount::default(),
            endpoints: ChangeCount::default(),
            published: None,
            queued: None,
        }
    }

    /// The source tells `event`; `before` is what was known until now.
    pub fn heard(&mut self, before: &ClusterState, event: &SourceEvent, now: SystemTime) {
        if let SourceEvent::State(after) = event {
            self.heard_state(before, after);
            self.queued = Some(now);
        }
        if let SourceEvent::Changed(changes) = event {
            changes.iter().for_each(|change| self.heard_change(change));
            self.queued = Some(now);
        }
    }

    /// What was heard makes no difference to what is published: nothing waits.
    pub fn unchanged(&mut self) {
        self.triggers.clear();
        (self.services.pending, self.endpoints.pending) = (0, 0);
    }

    fn heard_state(&mut self, before: &ClusterState, after: &ClusterState) {
        let services = differences(&before.services, &after.services);
        self.services.add(services.len() as u64);
        let slices = differences(&before.slices, &after.slices);
        self.endpoints.add(slices.len() as u64);
        let there = slices.into_iter().filter_map(|(_, slice)| slice);
        there.for_each(|slice| self.await_trigger(slice.trigger_time));
    }

    fn heard_change(&mut self, change: &Change) {
        match change {
            Change::Upserted(Object::Service(_)) | Change::Removed(ObjectName::Service(_)) => {
                self.services.add(1);
            }
            Change::Upserted(Object::EndpointSlice(slice)) => {
                self.endpoints.add(1);
                self.await_trigger(slice.trigger_time);
            }
            Change::Removed(ObjectName::EndpointSlice(_)) => self.endpoints.add(1),
            _ => {}
        }
    }

    fn await_trigger(&mut self, time: Option<SystemTime>) {
        let time = time.filter(|time| *time >= self.started);
        if let Some(time) = time.filter(|_| self.triggers.len() < TRIGGERS_MAX) {
            self.triggers.push(time);
        }
    }

    /// All that was heard is on the workers; compiling and publishing took `took`.
    pub fn published(&mut self, took: Duration, now: SystemTime) {
        self.durations.observe(took.as_secs_f64(), 1);
        for trigger in self.triggers.drain(..) {
            // The writer's clock may be ahead of ours.
            let waited = now.duration_since(trigger).unwrap_or_default();
            self.programming.observe(waited.as_secs_f64(), 1);
        }
        (self.services.pending, self.endpoints.pending) = (0, 0);
        self.published = Some(now);
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

/// kube-proxy's bounds (semantics J7): 0.25, 0.5, each second to 59, each fifth to 115, each
/// thirtieth to 300.
fn programming_bounds() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointSlice, ObjectKey};
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
            "addressType": "IPv4", "endpoints": [], "ports": []
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
    fn the_bounds_are_kube_proxys() {
        let bounds: Vec<_> = programming_bounds().collect();
        assert_eq!(bounds.len(), 2 + 59 + 12 + 7);
        assert_eq!((bounds[0], bounds[60], bounds[72], bounds[79]), (0.25, 59.0, 115.0, 300.0));
    }
}
