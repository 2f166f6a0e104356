//! How the packet path follows the cluster, by our names, and by those that kube-proxy's
//! dashboards ask for.

use super::workers::unix_seconds;
use crate::compile::{BackendReport, BackendState, Reports, ServiceReport};
use crate::daemon::control::Control;
use crate::health::AnswerCounts;
use crate::latency::log::HistogramLog;
use crate::metrics::family::{Family, Label};
use crate::metrics::sync::SyncStats;
use crate::model::{Family as IpFamily, TrafficPolicy};

pub(super) fn families(control: &Control) -> Vec<Family> {
    let signals = &control.signals;
    let mut families = own(&signals.sync);
    families.extend(of_each_family(&signals.sync));
    families.extend(of_kube_proxy(&signals.sync));
    families.push(without_local_endpoints(control.reports()));
    families.extend(answers(signals.counts()));
    families
        .push(lost(signals.events_lost(), control.latency.log().map(HistogramLog::lost_records)));
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
fn label(family: IpFamily) -> (&'static str, Label) {
    ("ip_family", if family == IpFamily::V4 { "IPv4" } else { "IPv6" }.into())
}

/// What kube-proxy, which runs once for each family, measures apart.
fn of_each_family(stats: &SyncStats) -> [Family; 4] {
    let mut durations =
        Family::histogram("kubeproxy_sync_proxy_rules_duration_seconds", DURATION_HELP);
    let mut programming =
        Family::histogram("kubeproxy_network_programming_duration_seconds", PROGRAMMING_HELP);
    let mut last = Family::gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", LAST_HELP);
    let mut queued = Family::gauge(
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "When a change of the cluster was told last.",
    );
    for (family, of) in stats.families() {
        durations = durations.with_distribution([label(family)], of.durations.clone());
        programming = programming.with_distribution([label(family)], of.programming.clone());
        last.push_real([label(family)], stats.published.map_or(0.0, unix_seconds));
        queued.push_real([label(family)], of.queued.map_or(0.0, unix_seconds));
    }
    [durations, programming, last, queued]
}

fn of_kube_proxy(stats: &SyncStats) -> Vec<Family> {
    vec![
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
    for ip in [IpFamily::V4, IpFamily::V6] {
        let count = reports.iter().filter(|report| lacks_local_endpoints(report, ip)).count();
        family.push([label(ip), ("traffic_policy", "external".into())], count as u64);
    }
    family
}

fn lacks_local_endpoints(report: &ServiceReport, family: IpFamily) -> bool {
    let is_serving = |backend: &&BackendReport| {
        backend.state != BackendState::NotReady && IpFamily::of(backend.address.into()) == family
    };
    let serving = || report.backends.iter().filter(is_serving);
    report.policy == TrafficPolicy::Local
        && serving().next().is_some()
        && !serving().any(|backend| backend.is_local)
}

/// Told only of sinks that there are: an API server, a histogram log.
fn lost(events: Option<u64>, records: Option<u64>) -> Family {
    let mut family =
        Family::counter("tidegate_events_lost", "What a slow or absent reader did not get.");
    for (sink, count) in [("kubernetes", events), ("histogram_log", records)] {
        count.into_iter().for_each(|count| family.push([("sink", sink.into())], count));
    }
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
