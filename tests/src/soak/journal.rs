//! What happened when, and which failures kube-proxy would have had too.

use super::stage::{COMER, Condition};
use core::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How much of what happened before a failure is shown, and after it.
const SHOWN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3)];

/// How long a pod is new.
const MOMENT: Duration = Duration::from_secs(1);

/// A heartbeat that is late, in milliseconds: a sleep is 250.
const GAP_LATE_MS: u64 = 500;

/// A request that was not answered as it should.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was asked.
    pub(super) what: &'static str,
    pub(super) to: SocketAddr,
    /// Whom it had been answered by before, where that is known.
    pub(super) pod: Option<String>,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) why: String,
}

/// A long-lived flow of UDP was answered by another pod than before.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    /// When the former answered last.
    pub(super) last: Instant,
    pub(super) at: Instant,
}

/// What the traffic tells.
#[derive(Debug)]
pub(super) enum Event {
    Failed(Failure),
    /// Answered, but only when asked again.
    Again(Failure),
    Moved(Move),
}

/// A time in which the comer had no link.
#[derive(Debug)]
struct Absence {
    unplugged: Instant,
    /// `None`: not yet.
    plugged: Option<Instant>,
}

/// A pod was in a condition from then on.
#[derive(Debug)]
struct Turn {
    pod: &'static str,
    condition: Condition,
    since: Instant,
}

/// All changes, as they were made.
#[derive(Debug)]
pub(super) struct Journal {
    began: Instant,
    lines: Vec<(Instant, String)>,
    turns: Vec<Turn>,
    absences: Vec<Absence>,
    /// The longest time without heartbeat of a worker so far, in milliseconds.
    gap_ms: u64,
    /// Lines that tell of such, and of no change.
    stalls: usize,
}

impl Journal {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self {
            began,
            lines: Vec::new(),
            turns: Vec::new(),
            absences: Vec::new(),
            gap_ms: 0,
            stalls: 0,
        }
    }

    /// Notes a change that is about to be made.
    pub(super) fn note(&mut self, line: String) {
        self.lines.push((Instant::now(), line));
    }

    /// A pod is about to change.
    pub(super) fn turn(&mut self, pod: &'static str, condition: Condition) {
        self.note(format!("{pod}: {condition:?}"));
        self.turns.push(Turn { pod, condition, since: Instant::now() });
    }

    /// The comer's link is about to go.
    pub(super) fn unplug(&mut self) {
        self.note(format!("{COMER}: its link goes"));
        self.absences.push(Absence { unplugged: Instant::now(), plugged: None });
    }

    /// The comer's link is back.
    pub(super) fn plug(&mut self) {
        self.note(format!("{COMER}: its link is back"));
        if let Some(absence) = self.absences.last_mut() {
            absence.plugged = Some(Instant::now());
        }
    }

    /// How many changes were made.
    pub(super) fn changes(&self) -> usize {
        self.lines.len() - self.stalls
    }

    /// The longest time without heartbeat of a worker up to now: where it grew and is late, a
    /// worker stood still since the last look.
    pub(super) fn note_gap(&mut self, gap_ms: u64) {
        if gap_ms > self.gap_ms.max(GAP_LATE_MS) {
            self.note(format!("a worker had no heartbeat for {gap_ms} ms within this second"));
            self.stalls += 1;
        }
        self.gap_ms = self.gap_ms.max(gap_ms);
    }

    /// The longest of them, in milliseconds.
    pub(super) fn longest_gap(&self) -> u64 {
        self.gap_ms
    }

    /// Whether kube-proxy would have failed too: the pod of the connection lost its link while it
    /// was asked.
    pub(super) fn is_excused(&self, failure: &Failure) -> bool {
        failure.pod.as_deref() == Some(COMER)
            && self.absences.iter().any(|absence| {
                let was_asked = failure.began + MOMENT >= absence.unplugged
                    && absence.plugged.is_none_or(|plugged| failure.began <= plugged);
                was_asked && failure.ended >= absence.unplugged
            })
    }

    /// Whether a datagram may have been the first to a pod that came back this very moment. Where
    /// no other serves, the kernel would hold it until the neighbour is known; we drop it by name.
    pub(super) fn met_a_new_pod(&self, again: &Failure) -> bool {
        let mut came =
            self.turns.iter().filter(|t| t.pod == COMER && t.condition == Condition::Ready);
        came.any(|turn| turn.since <= again.began + MOMENT && again.began <= turn.since + MOMENT)
    }

    /// Whether the flow had to move: its pod did not serve at some time since it answered last.
    pub(super) fn is_due(&self, moved: &Move) -> bool {
        let of_pod: Vec<_> = self.turns.iter().filter(|turn| turn.pod == moved.from).collect();
        of_pod.iter().enumerate().any(|(at, turn)| {
            let until = of_pod.get(at + 1).map_or(moved.at, |next| next.since);
            !turn.condition.is_serving() && turn.since <= moved.at && until >= moved.last
        })
    }

    /// A failure, and what happened around it.
    pub(super) fn describe(&self, failure: &Failure) -> String {
        let Failure { what, to, pod, began, ended, why } = failure;
        let pod = pod.as_deref().unwrap_or("nobody yet");
        let [from, until] = [*began, *ended].map(|at| self.seconds(at));
        let head = format!("{what} to {to} ({pod}) from {from:.2} to {until:.2} s: {why}");
        head + &self.around(*began, *ended)
    }

    /// A move that was not due, and what happened around it.
    pub(super) fn describe_move(&self, moved: &Move) -> String {
        let [last, at] = [moved.last, moved.at].map(|at| self.seconds(at));
        let (from, to) = (&moved.from, &moved.to);
        let head = format!("a flow of UDP moved from {from} ({last:.2} s) to {to} ({at:.2} s)");
        head + &self.around(moved.last, moved.at)
    }

    fn around(&self, from: Instant, until: Instant) -> String {
        let [before, after] = SHOWN;
        let is_near = |at: Instant| at + before >= from && at <= until + after;
        let near = self.lines.iter().filter(|(at, _)| is_near(*at));
        near.fold(String::new(), |mut text, (at, line)| {
            // Writing to a string cannot fail.
            let written = write!(text, "\n    {:8.2} s  {line}", self.seconds(*at));
            debug_assert!(written.is_ok(), "a string takes everything");
            text
        })
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(pod: Option<&str>, began: Instant, ended: Instant) -> Failure {
        let to = SocketAddr::from(([192, 0, 2, 1], 1));
        Failure { what: "HTTP", to, pod: pod.map(str::to_owned), began, ended, why: String::new() }
    }

    #[test]
    fn only_what_the_lost_link_had_is_excused() {
        let mut journal = Journal::new();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (unplugged, plugged) = (start + 3 * second, Some(start + 5 * second));
        journal.absences.push(Absence { unplugged, plugged });
        let at = |seconds: u32| start + seconds * second;
        assert!(journal.is_excused(&failure(Some(COMER), at(2), at(4))));
        assert!(journal.is_excused(&failure(Some(COMER), at(4), at(9))));
        assert!(!journal.is_excused(&failure(Some(COMER), at(6), at(9))), "it was back");
        assert!(!journal.is_excused(&failure(Some(COMER), at(0), at(2))), "it was there");
        assert!(!journal.is_excused(&failure(Some(COMER), at(0), at(9))), "it did not answer");
        assert!(!journal.is_excused(&failure(Some("near"), at(3), at(4))), "another pod");
        assert!(!journal.is_excused(&failure(None, at(3), at(4))), "withdrawn before");
    }

    #[test]
    fn a_worker_that_stood_still_is_told_with_what_failed_then() {
        let mut journal = Journal::new();
        for gap_ms in [250, 260, 1_200, 1_200, 700] {
            journal.note_gap(gap_ms);
        }
        let now = Instant::now();
        let told = journal.describe(&failure(None, now, now));
        assert_eq!(told.matches("no heartbeat for 1200 ms").count(), 1, "{told}");
        assert_eq!((journal.lines.len(), journal.changes(), journal.longest_gap()), (1, 0, 1_200));
    }

    #[test]
    fn a_flow_may_move_only_from_a_pod_that_stopped_serving() {
        let mut journal = Journal::new();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (seconds, condition) in
            [(1, Condition::Terminating), (2, Condition::Unready), (4, Condition::Ready)]
        {
            let since = start + seconds * second;
            journal.turns.push(Turn { pod: "near", condition, since });
        }
        let moved = |from: &str, last: u32, at: u32| {
            let (last, at) = (start + last * second, start + at * second);
            journal.is_due(&Move { from: from.into(), to: "far-1".into(), last, at })
        };
        assert!(moved("near", 1, 3));
        assert!(!moved("near", 0, 1), "terminating, but serving");
        assert!(!moved("near", 5, 6), "ready again");
        assert!(!moved("far-1", 1, 3), "another pod");
    }
}
