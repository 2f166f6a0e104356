//! What the daemon tells of itself without being asked by a command: health and metrics. The
//! control loop says what happened; what follows from it is worked out at the next tick, so that
//! a change on its way to the workers does not wait for it.

use crate::admin::query::Mailbox;
use crate::compile::node_addresses;
use crate::config::{NodePortAddress, SourceKind};
use crate::daemon::control::Control;
use crate::health::view::{is_eligible, service_checks};
use crate::health::{
    AnswerCounts, Doors, HealthView, Purpose, SYNC_PERIOD, check_addresses, node_purposes,
    service_purposes,
};
use crate::metrics::sync::SyncStats;
use crate::model::ClusterState;
use crate::source::{NodePresence, SourceEvent};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// What the outside may read, and the listeners where it does.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) sync: SyncStats,
    view: watch::Sender<HealthView>,
    counts: Arc<AnswerCounts>,
    doors: Option<Doors>,
    wanted: BTreeMap<SocketAddr, Purpose>,
    pub(super) is_stale: bool,
    begun: Instant,
    refused: Option<Instant>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            sync: SyncStats::new(SystemTime::now()),
            view: watch::Sender::new(HealthView::default()),
            counts: Arc::default(),
            doors: None,
            wanted: BTreeMap::new(),
            is_stale: true,
            begun: Instant::now(),
            refused: None,
        }
    }
}

impl Signals {
    /// Begins to answer. Questions that only the control loop can answer wait in its mailbox.
    pub(crate) fn open(&mut self, mailbox: Mailbox) {
        let doors = Doors::new(self.view.subscribe(), Arc::clone(&self.counts), mailbox);
        self.doors = Some(doors);
    }

    /// The source tells `event`; `before` is what was known until now.
    pub(crate) fn heard(&mut self, before: &ClusterState, event: &SourceEvent) {
        self.sync.heard(before, event, SystemTime::now());
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
    if control.signals.is_stale {
        control.signals.is_stale = false;
        refresh(control);
    }
    let Signals { doors: Some(doors), wanted, .. } = &mut control.signals else { return };
    doors.follow(wanted.clone(), now);
}

/// Reads the Services' health checks and the node's state anew.
fn refresh(control: &mut Control) {
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
