//! How the packet path follows the cluster, by our names, and by those that kube-proxy's
//! dashboards ask for.

use super::workers::unix_seconds;
use crate::compile::{BackendState, Reports, ServiceReport};
use crate::daemon::signals::Signals;
use crate::health::AnswerCounts;
use crate::metrics::family::{Family, Label};
use crate::metrics::sync::SyncStats;
use crate::model::TrafficPolicy;

pub(super) fn families(signals: &Signals, reports: &Reports) -> Vec<Family> {
    let mut families = own(&signals.sync);
    families.extend(of_kube_proxy(&signals.sync));
    families.push(without_local_endpoints(reports));
    families.extend(answers(signals.counts()));
    families.extend(signals.events_lost().map(events_lost));
    families
}

const DURATION_HELP: &str = "Time to compile and publish one change of the cluster.";
const PROGRAMMING_HELP: &str =
    "Time from an endpoint's change, as its slice tells it, until every worker may read it.";
const LAST_HELP: &str = "When a snapshot was published last.";

fn own(stats: &SyncStats) -> Vec<Family> {
    let pending = stats.services.pending + stats.endpoints.pending;
    let last = Family::gauge("tidegate_sync_last_timestamp_seconds", LAST_HELP);
    vec![
        Family::histogram("tidegate_sync_duration_seconds", DURATION_HELP)
            .with_distribution([], stats.durations().clone()),
        Family::histogram("tidegate_network_programming_duration_seconds", PROGRAMMING_HELP)
            .with_distribution([], stats.programming().clone()),
        last.with_real(stats.published.map_or(0.0, unix_seconds)),
        Family::gauge("tidegate_sync_pending_changes", "Changes that are not published yet.")
            .with(pending),
        Family::counter("tidegate_sync_service_changes", "Changes of Services that were told.")
            .with(stats.services.total),
        Family::counter("tidegate_sync_endpoint_changes", "Changes of slices that were told.")
            .with(stats.endpoints.total),
    ]
}

/// The label that kube-proxy gives to what it does per family.
fn ipv4() -> [(&'static str, Label); 1] {
    [("ip_family", "IPv4".into())]
}

fn of_kube_proxy(stats: &SyncStats) -> Vec<Family> {
    let seconds = |name, help, time: Option<_>| {
        let mut family = Family::gauge(name, help);
        family.push_real(ipv4(), time.map_or(0.0, unix_seconds));
        family
    };
    vec![
        Family::histogram("kubeproxy_sync_proxy_rules_duration_seconds", DURATION_HELP)
            .with_distribution(ipv4(), stats.durations().clone()),
        Family::histogram("kubeproxy_network_programming_duration_seconds", PROGRAMMING_HELP)
            .with_distribution(ipv4(), stats.programming().clone()),
        seconds("kubeproxy_sync_proxy_rules_last_timestamp_seconds", LAST_HELP, stats.published),
        seconds(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change of the cluster was told last.",
            stats.queued,
        ),
        Family::counter(
            "kubeproxy_sync_proxy_rules_service_changes",
            "Changes of Services that were told.",
        )
        .with(stats.services.total),
        Family::counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes",
            "Changes of slices that were told.",
        )
        .with(stats.endpoints.total),
        Family::gauge(
            "kubeproxy_sync_proxy_rules_service_changes_pending",
            "Changes of Services that are not published yet.",
        )
        .with(stats.services.pending),
        Family::gauge(
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
            "Changes of slices that are not published yet.",
        )
        .with(stats.endpoints.pending),
    ]
}

/// A gauge, although its name says otherwise: it is kube-proxy's.
fn without_local_endpoints(reports: &Reports) -> Family {
    let mut family = Family::gauge(
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Service ports with policy Local that have endpoints, but none on this node.",
    );
    let count = reports.iter().filter(|report| lacks_local_endpoints(report)).count();
    let labels: [(&str, Label); 2] =
        [("ip_family", "IPv4".into()), ("traffic_policy", "external".into())];
    family.push(labels, count as u64);
    family
}

fn lacks_local_endpoints(report: &ServiceReport) -> bool {
    let serving = || report.backends.iter().filter(|b| b.state != BackendState::NotReady);
    report.policy == TrafficPolicy::Local
        && serving().next().is_some()
        && !serving().any(|backend| backend.is_local)
}

/// Told only where there is an API server to publish to.
fn events_lost(count: u64) -> Family {
    let mut family =
        Family::counter("tidegate_events_lost", "Events that the API server did not get.");
    family.push([("sink", "kubernetes".into())], count);
    family
}

fn answers(counts: &AnswerCounts) -> [Family; 2] {
    let mut healthz = Family::counter("kubeproxy_proxy_healthz", "Answers of /healthz by code.");
    let mut livez = Family::counter("kubeproxy_proxy_livez", "Answers of /livez by code.");
    for (code, of_healthz, of_livez) in [
        ("503", counts.healthz()[0], counts.livez()[0]),
        ("200", counts.healthz()[1], counts.livez()[1]),
    ] {
        healthz.push([("code", code.into())], of_healthz);
        livez.push([("code", code.into())], of_livez);
    }
    [healthz, livez]
}
