//! What the daemon tells of itself without being asked by a command: health, metrics, events. The
//! control loop says what happened; what follows from it is worked out at the next tick, so that
//! a change on its way to the workers does not wait for it.

use crate::admin::query::Mailbox;
use crate::compile::node_addresses;
use crate::config::{Config, NodePortAddress, Role, SourceKind, interface_config};
use crate::daemon::attachments::Live;
use crate::daemon::control::Control;
use crate::events::watcher::InterfaceFact;
use crate::events::{Event, EventLog, Facts, Publisher, Reason, Subject, Watcher};
use crate::health::view::{is_eligible, service_checks};
use crate::health::{
    AnswerCounts, Doors, HealthView, Move, Purpose, SYNC_PERIOD, check_addresses, node_purposes,
    service_purposes,
};
use crate::metrics::sync::SyncStats;
use crate::model::ClusterState;
use crate::source::{NodePresence, SourceEvent};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::verdict::DropReason;
use tokio::sync::watch;

/// What the outside may read, and the listeners where it does.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) sync: SyncStats,
    pub(crate) events: EventLog,
    watcher: Watcher,
    publisher: Option<Publisher>,
    view: watch::Sender<HealthView>,
    counts: Arc<AnswerCounts>,
    doors: Option<Doors>,
    wanted: BTreeMap<SocketAddr, Purpose>,
    pub(super) is_stale: bool,
    /// Whether something changed since the last look for events.
    is_unseen: bool,
    begun: Instant,
    refused: Option<Instant>,
}

impl Signals {
    /// Nothing happened yet on the node of this name.
    pub(crate) fn new(node: &str) -> Self {
        Self {
            sync: SyncStats::new(SystemTime::now()),
            events: EventLog::default(),
            watcher: Watcher::new(node),
            publisher: None,
            view: watch::Sender::new(HealthView::default()),
            counts: Arc::default(),
            doors: None,
            wanted: BTreeMap::new(),
            is_stale: true,
            is_unseen: false,
            begun: Instant::now(),
            refused: None,
        }
    }

    /// Begins to answer. Questions that only the control loop can answer wait in its mailbox.
    pub(crate) fn open(&mut self, mailbox: Mailbox) {
        let doors = Doors::new(self.view.subscribe(), Arc::clone(&self.counts), mailbox);
        self.doors = Some(doors);
    }

    /// The source tells `event`; `before` is what was known until now.
    pub(crate) fn heard(&mut self, before: &ClusterState, event: &SourceEvent) {
        self.sync.heard(before, event, SystemTime::now());
        self.is_stale |= matches!(event, SourceEvent::Refused(_));
    }

    /// What it told is to be published.
    pub(crate) fn queued(&mut self) {
        self.view.send_modify(|view| view.freshness.queued(Instant::now()));
    }

    /// What it told makes no difference.
    pub(crate) fn unchanged(&mut self) {
        self.sync.unchanged();
    }

    /// What came is about to be compiled.
    pub(crate) fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// All that came is published.
    pub(crate) fn published(&mut self) {
        let now = SystemTime::now();
        self.sync.published(self.begun.elapsed(), now);
        self.view.send_modify(|view| view.freshness.published(now));
        (self.is_stale, self.refused) = (true, None);
    }

    /// Publishes events from now on, where the source is an API server.
    pub(crate) fn publish_events(&mut self, config: &Config, node: &str) {
        if config.source.kind == SourceKind::Kubernetes {
            self.publisher = Some(Publisher::connect(config.client_connection.clone(), node));
        }
    }

    /// Events that the API server did not get; none where none is asked.
    pub(crate) fn events_lost(&self) -> Option<u64> {
        self.publisher.as_ref().map(Publisher::lost)
    }

    /// Keeps an event, and publishes it where there is an API server; `uid` is its object's.
    fn tell(&mut self, event: Event, uid: Option<Arc<str>>) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(event.clone(), uid);
        }
        self.events.add(event, SystemTime::now());
    }

    /// Whether outer load balancers should send traffic here.
    pub(crate) fn is_eligible(&self) -> bool {
        self.view.borrow().is_eligible
    }

    /// Answers of the health checks.
    pub(crate) fn counts(&self) -> &AnswerCounts {
        &self.counts
    }

    /// A publication failed; the last one serves on.
    pub(crate) fn refused(&mut self) {
        (self.is_stale, self.refused) = (true, Some(Instant::now()));
    }

    /// Whether a publication that failed is to be tried again.
    pub(crate) fn is_retry_due(&self, now: Instant) -> bool {
        self.refused.is_some_and(|at| now.saturating_duration_since(at) >= SYNC_PERIOD)
    }

    /// Listeners that somebody else has, where that is a fault.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.told(false)
    }

    /// Listeners that kube-proxy has: no fault, it answers the same.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.told(true)
    }

    fn told(&self, is_kube_proxy: bool) -> impl Iterator<Item = String> {
        let refusals = self.doors.iter().flat_map(Doors::refusals);
        let refusals = refusals.filter(move |refusal| refusal.is_kube_proxy == is_kube_proxy);
        refusals.map(|refusal| refusal.words.clone())
    }
}

/// Works out what followed since the last tick.
pub(crate) fn tick(control: &mut Control, now: Instant) {
    let all_beat = control.stale_workers.is_empty();
    control.signals.view.send_if_modified(|view| {
        let before = view.freshness;
        view.freshness.heard_workers(all_beat, now);
        view.freshness != before
    });
    let is_new = core::mem::take(&mut control.signals.is_stale);
    if is_new {
        refresh(control);
    }
    let Signals { doors: Some(doors), wanted, .. } = &mut control.signals else { return };
    if !is_new && !doors.is_due(now) {
        return;
    }
    let moves = doors.follow(wanted.clone(), now);
    let events = moves.into_iter().map(|Move { service, refusal }| {
        let subject = Subject::Service(service);
        Event::new(subject, Reason::FailedToStartServiceHealthcheck, refusal.words)
    });
    tell(control, events.collect());
}

fn tell(control: &mut Control, events: Vec<Event>) {
    for event in events {
        let service = match &event.subject {
            Subject::Service(key) => control.cluster().services.get(key),
            Subject::Node(_) => None,
        };
        let uid = service.map(|service| Arc::clone(&service.face.uid));
        // Manifests have none.
        let uid = uid.filter(|uid| !uid.is_empty());
        control.signals.tell(event, uid);
    }
}

/// Looks for events. Once a second, since a look passes over all Services: what comes and goes in
/// between is no news.
pub(crate) fn sample(control: &mut Control, now: Instant) {
    if core::mem::take(&mut control.signals.is_unseen) {
        look(control);
    }
    let full = [DropReason::FlowTableFull as usize, DropReason::FlowMapFull as usize];
    let slots = || control.attachments.names().keys();
    let of_worker = |worker: &Arc<WorkerCounters>| -> u64 {
        let counters = slots().map(|slot| &worker.interface(*slot).dropped_packets);
        counters.map(|dropped| full.map(|at| dropped[at].get()).iter().sum::<u64>()).sum()
    };
    let drops = control.engine.counters().iter().map(of_worker).sum();
    let event = control.signals.watcher.flow_table(drops, now);
    tell(control, event.into_iter().collect());
}

/// What is new, to be told.
fn look(control: &mut Control) {
    let mut watcher = core::mem::take(&mut control.signals.watcher);
    // An API server that is away refuses nothing, and could not be told either.
    let is_file = control.config.source.kind == SourceKind::File;
    let events = watcher.look(&Facts {
        cluster: control.cluster(),
        reports: control.reports(),
        attached: attached(control),
        refused: control.source.error.as_deref().filter(|_| is_file),
    });
    control.signals.watcher = watcher;
    tell(control, events);
}

/// Not the interfaces of pods: they come and go with them.
fn attached(control: &Control) -> BTreeMap<String, InterfaceFact> {
    let role = |name: &str| interface_config(&control.config.interfaces, name).map(|c| c.role);
    let live = control.attachments.live().values();
    let lasting = live.filter(|live| role(&live.request.name) != Some(Role::Backend));
    let fact = |live: &Live| InterfaceFact {
        modes: format!("{} XDP, {}", live.attach_word(), live.copy_word().unwrap_or("no queue")),
        zero_copy_refused: live.granted.queues.iter().find_map(|q| q.zero_copy_refused.clone()),
    };
    lasting.map(|live| (live.request.name.clone(), fact(live))).collect()
}

/// Reads the Services' health checks and the node's state anew.
fn refresh(control: &mut Control) {
    control.signals.is_unseen = true;
    control.signals.wanted = node_purposes(&control.config);
    if !control.source.is_read {
        return;
    }
    let cluster = control.cluster();
    let is_node_required = control.config.source.kind == SourceKind::Kubernetes;
    // A deleted Node's last form stays in the state (semantics H14).
    let is_deleted = control.source.notes.node == NodePresence::Deleted;
    let is_eligible = !is_deleted && is_eligible(cluster, &control.node, is_node_required);
    let services = Arc::new(service_checks(cluster, control.reports()));
    let addresses = check_binds(control);
    service_purposes(&services, &addresses, &mut control.signals.wanted);
    control.signals.view.send_modify(|view| {
        view.is_eligible = is_eligible;
        view.services = services;
    });
}

/// Where the Services' health checks are answered (semantics H2).
fn check_binds(control: &Control) -> Vec<IpAddr> {
    let network = control.mirror.state();
    let own = control.cluster().nodes.get(&*control.node).map(|node| &**node);
    let serving = node_addresses(own, &network, &control.config);
    check_addresses(serving, control.config.node_port_addresses.contains(&NodePortAddress::All))
}
