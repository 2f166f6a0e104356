//! The control thread's loop: what changed, what follows from it, who asks.

mod apply;

use crate::admin::query::Query;
use crate::compile::{Compiler, LeftOut, Reports};
use crate::config::Config;
use crate::daemon::attachments::Attachments;
use crate::daemon::meter::Meter;
use crate::daemon::reload::ReloadStatus;
use crate::daemon::report;
use crate::daemon::signals::{self, Signals};
use crate::daemon::tally::Tally;
use crate::fault::chain;
use crate::latency::totals::LatencyTotals;
use crate::model::{ClusterState, Store};
use crate::netlink::Mirror;
use crate::source::{Source, SourceEvent, SourceNotes};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidegate_dataplane::engine::Engine;
use tidegate_dataplane::types::{IfIndex, WorkerId};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

/// How long changes gather after a compilation before the next: the first after a quiet time is
/// compiled at once (semantics J1). A folder of manifests or a new veth comes as several; longer
/// delays those that follow by as much.
const COALESCE: Duration = Duration::from_millis(5);

/// Heartbeats, old snapshots and retries are looked after this often.
const TICK: Duration = Duration::from_millis(100);

/// Counters are sampled, and latency collected, this often.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long the start waits for neighbours: an answer takes a millisecond, the kernel gives up one
/// that is down after three seconds. Longer delays the start where a backend's node is down.
const NEIGHBOURS_PATIENCE: Duration = Duration::from_secs(1);

/// How long the start waits for the source's first state. An API server that is away refuses within
/// milliseconds, a slow one may take longer; the start then goes on and is not ready yet.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon is made of.
#[derive(Debug)]
pub struct Control {
    /// The configuration.
    pub config: Config,
    /// The node's name.
    pub node: String,
    /// The packet path.
    pub engine: Engine,
    /// The kernel's network.
    pub mirror: Arc<Mirror>,
    /// Compromises that hold from the start on.
    pub warnings: Vec<String>,
    pub(crate) attachments: Attachments,
    pub(crate) latency: LatencyTotals,
    pub(crate) meter: Meter,
    pub(crate) tally: Tally,
    pub(crate) signals: Signals,
    pub(crate) source: SourceStatus,
    pub(crate) reload: ReloadStatus,
    pub(crate) compiled: CompiledStatus,
    pub(crate) started: (Instant, SystemTime),
    pub(crate) stale_workers: Vec<WorkerId>,
    /// Fronts that a worker without heartbeat no longer keeps from ending, as told last.
    ended_unread: u64,
    /// Which of the service ports were sampled last.
    part: u32,
    /// Removals of links that the attachments were looked through for.
    removals_seen: u64,
    store: Store,
    compiler: Compiler,
    probing: Option<JoinHandle<()>>,
    /// Neighbours became unknown while others were asked for.
    is_probe_due: bool,
}

/// How the source is.
#[derive(Debug, Default)]
pub(crate) struct SourceStatus {
    /// Whether it told anything yet.
    pub(crate) is_read: bool,
    pub(crate) changed: Option<Instant>,
    pub(crate) error: Option<String>,
    pub(crate) notes: SourceNotes,
}

/// What the last compilation told.
#[derive(Debug, Default)]
pub(crate) struct CompiledStatus {
    pub(crate) warnings: Vec<String>,
    pub(crate) left_out: Arc<[LeftOut]>,
    pub(crate) probes: Arc<[(IfIndex, IpAddr)]>,
    /// Why the last snapshot was not published.
    pub(crate) publish_error: Option<String>,
    /// Whether one was.
    pub(crate) is_published: bool,
}

/// What the loop listens to.
#[derive(Debug)]
pub struct Inputs {
    /// Where Services come from.
    pub source: Source,
    /// The admin socket.
    pub queries: mpsc::Receiver<Query>,
    /// SIGHUP, and the file that is then read again.
    pub hangup: (Signal, PathBuf),
}

impl Control {
    /// The control thread's state before anything was compiled.
    pub fn new(config: Config, node: String, engine: Engine, mirror: Mirror) -> Self {
        let sampled_every = config.latency.sample.0.map_or(0, Into::into);
        let (interval, workers) = (config.latency.interval.0, engine.counters().len());
        Self {
            store: Store::new(&node),
            compiler: Compiler::default(),
            signals: Signals::new(&node),
            latency: LatencyTotals::new(sampled_every, interval, workers),
            config,
            node,
            engine,
            mirror: Arc::new(mirror),
            warnings: Vec::new(),
            attachments: Attachments::default(),
            meter: Meter::default(),
            tally: Tally::default(),
            source: SourceStatus::default(),
            reload: ReloadStatus::default(),
            compiled: CompiledStatus::default(),
            started: (Instant::now(), SystemTime::now()),
            stale_workers: Vec::new(),
            ended_unread: 0,
            part: 0,
            removals_seen: 0,
            probing: None,
            is_probe_due: false,
        }
    }

    /// Waits for the first state of the source and makes it so. A refused one is told in the
    /// status; the loop waits for a better one.
    pub async fn first(&mut self, inputs: &mut Inputs) {
        if tokio::time::timeout(SOURCE_PATIENCE, self.first_state(inputs)).await.is_err() {
            tracing::warn!("the source told nothing yet");
        }
        self.apply();
        let found = tokio::time::timeout(NEIGHBOURS_PATIENCE, self.find_neighbours()).await;
        if found.is_err() {
            tracing::info!("some neighbours did not answer yet");
        }
    }

    async fn first_state(&mut self, inputs: &mut Inputs) {
        while let Some(event) = inputs.source.next().await {
            let is_answer = !matches!(event, SourceEvent::Noted(_));
            self.take(event);
            if is_answer {
                return;
            }
        }
    }

    /// Ready means that the first packet to each backend that is there gets through.
    async fn find_neighbours(&mut self) {
        let mut network = self.mirror.subscribe();
        network.mark_changed();
        while !self.compiled.probes.is_empty() && network.changed().await.is_ok() {
            self.apply();
        }
    }

    /// Serves until `stop` is done.
    pub async fn run(&mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) {
        let mut network = self.mirror.subscribe();
        let (mut tick, mut sample) = (interval(TICK), interval(SAMPLE));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What changed before this line is compiled once more: nothing is missed.
        let mut due = Some(tokio::time::Instant::now());
        let mut quiet_from = tokio::time::Instant::now();
        tokio::pin!(stop);
        loop {
            let at = due.unwrap_or_else(tokio::time::Instant::now);
            let mut is_dirty = false;
            tokio::select! {
                () = &mut stop => return,
                Some(event) = inputs.source.next() => is_dirty = self.take(event),
                Ok(()) = network.changed() => is_dirty = true,
                Some(query) = inputs.queries.recv() => report::answer(self, query),
                Some(()) = inputs.hangup.0.recv() => is_dirty = self.reload(&inputs.hangup.1),
                _ = tick.tick() => is_dirty = self.tick(),
                _ = sample.tick() => is_dirty = self.sample(),
                () = sleep_until(at), if due.is_some() => {
                    due = None;
                    self.apply();
                    quiet_from = tokio::time::Instant::now() + COALESCE;
                }
            }
            if is_dirty && due.is_none() {
                due = Some(quiet_from);
            }
        }
    }

    /// Takes what the source tells. Whether there is something to compile.
    fn take(&mut self, event: SourceEvent) -> bool {
        self.signals.heard(self.store.state(), &event);
        match event {
            SourceEvent::State(cluster) => {
                self.store.replace(&cluster);
                self.source.error = None;
                self.heard()
            }
            SourceEvent::Changed(changes) => {
                changes.into_iter().for_each(|change| self.store.apply(change));
                self.heard()
            }
            SourceEvent::Refused(error) => {
                let error = chain(&error);
                let serves = self.source.is_read;
                let so =
                    if serves { "the last good state keeps serving" } else { "nothing is served" };
                tracing::error!("failed to {error}; {so}");
                self.source.error = Some(error);
                false
            }
            SourceEvent::Noted(notes) => {
                log_new(&self.source.notes.warnings, &notes.warnings);
                if notes.is_well && self.source.error.take().is_some() {
                    tracing::info!("the source answers again");
                }
                self.source.notes = notes;
                self.signals.is_stale = true;
                false
            }
        }
    }

    /// The source told something. Whether there is something to compile: not where nothing that
    /// we read differs (semantics J5).
    fn heard(&mut self) -> bool {
        let is_first = !self.source.is_read;
        self.source.is_read = true;
        self.source.changed = Some(Instant::now());
        let is_dirty = is_first || self.store.is_dirty();
        if is_dirty {
            self.signals.queued();
        } else {
            self.signals.unchanged();
        }
        is_dirty
    }

    /// What the source told last.
    pub(crate) fn cluster(&self) -> &ClusterState {
        self.store.state()
    }

    fn tick(&mut self) -> bool {
        let stale = self.engine.tick();
        if stale != self.stale_workers {
            if !stale.is_empty() {
                tracing::error!(workers = ?stale, "workers without heartbeat for a second");
            }
            self.stale_workers = stale;
        }
        let ended_unread = self.engine.fronts_ended_unread();
        if ended_unread != self.ended_unread {
            let fronts = ended_unread - self.ended_unread;
            tracing::warn!(fronts, "drained no longer for workers without heartbeat");
            self.ended_unread = ended_unread;
        }
        let now = Instant::now();
        self.part = (self.part + 1) % report::SERVICE_PARTS;
        let values = report::service_series(self, self.part);
        self.meter.sample(now, values);
        signals::tick(self, now);
        if self.is_probe_due {
            self.probe();
        }
        self.attachments.is_due(now) || self.signals.is_retry_due(now)
    }

    /// Fetches what the workers recorded up to now.
    pub(crate) fn collect_latency(&mut self) {
        for (worker, recorded) in self.engine.collect_latency() {
            self.latency.add(worker, &recorded);
        }
    }

    /// The last interval ends with the daemon, however short it is.
    pub(crate) fn end_latency(&mut self) {
        self.collect_latency();
        self.latency.end_interval(Instant::now());
    }

    /// Whether there is something to compile.
    fn sample(&mut self) -> bool {
        self.collect_latency();
        let now = Instant::now();
        self.latency.look(now);
        let values = report::series(self);
        self.meter.sample(now, values);
        self.meter.forget(now);
        signals::sample(self, now);
        self.probe();
        self.reap();
        report::tell_systemd(self);
        self.give_up_lost()
    }

    /// What became of each service port.
    pub(crate) fn reports(&self) -> &Reports {
        self.compiler.reports()
    }
}

fn log_new(before: &[String], now: &[String]) {
    let before: BTreeSet<&String> = before.iter().collect();
    for warning in now.iter().filter(|warning| !before.contains(warning)) {
        tracing::warn!("{warning}");
    }
}
