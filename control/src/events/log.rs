//! The last events, each with how often it happened.

use super::event::{Event, Reason, Subject};
use crate::admin::EventReport;
use std::collections::VecDeque;
use std::time::SystemTime;

/// Events kept; the one that was longest not seen goes for a new one.
const EVENTS_MAX: usize = 256;

/// The last events.
#[derive(Debug, Default)]
pub struct EventLog {
    /// The one seen last at the end.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    count: u64,
    first: SystemTime,
    last: SystemTime,
}

impl EventLog {
    /// Adds an event. One of the same reason about the same subject is the same event again.
    pub fn add(&mut self, event: Event, now: SystemTime) {
        let is_same = |entry: &Entry| identity(&entry.event) == identity(&event);
        let known = self.entries.iter().position(is_same);
        let known = known.and_then(|at| self.entries.remove(at));
        let (count, first) = known.map_or((1, now), |entry| (entry.count + 1, entry.first));
        if self.entries.len() >= EVENTS_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { event, count, first, last: now });
    }

    /// All of them, the one seen last at the end, as kubectl lists them.
    pub fn report(&self, now: SystemTime) -> Vec<EventReport> {
        self.entries.iter().map(|entry| entry.report(now)).collect()
    }
}

fn identity(event: &Event) -> (&Subject, Reason) {
    (&event.subject, event.reason)
}

impl Entry {
    fn report(&self, now: SystemTime) -> EventReport {
        let Event { subject, reason, note } = &self.event;
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        EventReport {
            namespace: match subject {
                Subject::Service(key) => key.namespace.to_string(),
                Subject::Node(_) => String::new(),
            },
            object: subject.to_string(),
            event_type: reason.type_name().to_owned(),
            reason: reason.name().to_owned(),
            message: note.clone(),
            count: self.count,
            first_seen: time(self.first),
            last_seen: time(self.last),
            age_seconds: now.duration_since(self.last).unwrap_or_default().as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;
    use std::time::Duration;

    fn event(name: &str, note: &str) -> Event {
        let subject = Subject::Service(ObjectKey::new("shop", name));
        Event::new(subject, Reason::NoReadyBackends, note)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_same_again_is_counted_and_comes_last() {
        let mut log = EventLog::default();
        log.add(event("web", "first"), at(1));
        log.add(event("dns", "other"), at(2));
        log.add(event("web", "second"), at(9));
        let told: Vec<_> = log
            .report(at(10))
            .into_iter()
            .map(|e| format!("{} {} {} {}s", e.object, e.message, e.count, e.age_seconds))
            .collect();
        assert_eq!(told, ["service/dns other 1 8s", "service/web second 2 1s"]);
        assert_eq!(log.report(at(10))[1].first_seen, "1970-01-01T00:00:01Z");
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut log = EventLog::default();
        for n in 0..=EVENTS_MAX {
            log.add(event(&format!("s{n}"), ""), at(n as u64));
        }
        let told = log.report(at(0));
        assert_eq!((told.len(), told[0].object.as_str()), (EVENTS_MAX, "service/s1"));
    }
}
