//! One screen, and one line for systemd.

use crate::admin::report::{Check, HandshakeReport, InterfaceReport, SourceReport, StatusReport};
use crate::daemon::accounting::Ledger;
use crate::daemon::control::Control;
use crate::daemon::host::kernel_release;
use crate::daemon::report::counters::ledger;
use crate::daemon::report::node::{heartbeat_gap_ns, interfaces};
use crate::latency::log::HistogramLog;
use sd_notify::NotifyState;
use tidegate_dataplane::stats::{CookieEvent, Counter, LoopCounters};

/// The whole.
pub(crate) fn status(control: &Control) -> StatusReport {
    status_of(control, &ledger(control))
}

/// The whole, with these counts: reading them is a call for each queue.
pub(crate) fn status_of(control: &Control, ledger: &Ledger) -> StatusReport {
    let interfaces = interfaces(control, ledger);
    let checks = checks(control, &interfaces);
    let workers = control.engine.counters();
    let gaps = workers.iter().map(|worker| heartbeat_gap_ns(&worker.work));
    let source = source(control);
    let warnings = warnings(control, &interfaces, &source);
    let (started, wall) = control.started;
    StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        node: control.node.clone(),
        started: humantime::format_rfc3339_seconds(wall).to_string(),
        uptime_seconds: started.elapsed().as_secs(),
        ready: checks.iter().all(|check| check.ok),
        checks,
        source,
        snapshot_version: control.engine.snapshot().version.0,
        warnings,
        notes: control.signals.notes().collect(),
        interfaces,
        workers: workers.len(),
        heartbeat_gap_milliseconds: gaps.max().unwrap_or_default() / 1_000_000,
        flows: workers.iter().map(|worker| worker.work.flows.get()).sum(),
        handshakes: handshakes(control),
        packets: ledger.sum(),
    }
}

fn handshakes(control: &Control) -> HandshakeReport {
    let workers = control.engine.counters();
    let sum = |of: fn(&LoopCounters) -> &Counter| -> u64 {
        workers.iter().map(|worker| of(&worker.work).get()).sum()
    };
    HandshakeReport {
        under_way: sum(|work| &work.embryonic_flows),
        limit: control.config.admission().embryonic_flows_max.into(),
        syn_proxy: control.config.syn_proxy.name().to_owned(),
        proxying_workers: sum(|work| &work.syn_proxy_on),
        cookies_sent: sum(|work| &work.syn_cookies[CookieEvent::Sent as usize]),
        cookies_valid: sum(|work| &work.syn_cookies[CookieEvent::Valid as usize]),
        cookies_invalid: sum(|work| &work.syn_cookies[CookieEvent::Invalid as usize]),
    }
}

fn source(control: &Control) -> SourceReport {
    let notes = &control.source.notes;
    let file = control.config.source.file.as_deref();
    let kept = notes.kept_since.map(|since| since.elapsed().unwrap_or_default().as_secs());
    SourceReport {
        kind: control.config.source.kind.name().to_owned(),
        location: file.map_or_else(|| notes.location.clone(), |path| path.display().to_string()),
        listing: notes.listing.map(str::to_owned),
        kept_age_seconds: kept,
        age_seconds: control.source.changed.map(|changed| changed.elapsed().as_secs()),
        error: control.source.error.clone(),
        service_ports: control.reports().len(),
        fronts: control.reports().iter().map(|service| service.fronts.len()).sum(),
    }
}

/// What being ready means: read once, published, every queue bound, every worker alive.
fn checks(control: &Control, interfaces: &[InterfaceReport]) -> Vec<Check> {
    let refused: Vec<_> = interfaces
        .iter()
        .filter_map(|interface| Some(format!("{}: {}", interface.name, interface.error.as_ref()?)))
        .collect();
    let attached = interfaces.iter().filter(|interface| interface.attached).count();
    let detail = match refused.as_slice() {
        [] if attached == 0 => "none of the configured interfaces is there".to_owned(),
        [] => format!("{attached} attached"),
        words => words.join("; "),
    };
    let stale: Vec<_> = control.stale_workers.iter().map(|worker| worker.0.to_string()).collect();
    let published = control.compiled.publish_error.clone();
    vec![
        check("source", control.source.is_read, "read", control.source.error.as_ref()),
        check(
            "snapshot",
            control.compiled.is_published && published.is_none(),
            "published",
            published.as_ref(),
        ),
        Check { name: "interfaces".to_owned(), ok: refused.is_empty() && attached > 0, detail },
        Check {
            name: "workers".to_owned(),
            ok: stale.is_empty(),
            detail: if stale.is_empty() {
                "all beat".to_owned()
            } else {
                format!("no heartbeat of {}", stale.join(", "))
            },
        },
    ]
}

fn check(name: &str, ok: bool, good: &str, error: Option<&String>) -> Check {
    let detail = match (ok, error) {
        (true, _) => good.to_owned(),
        (false, Some(words)) => words.clone(),
        (false, None) => format!("not {good} yet"),
    };
    Check { name: name.to_owned(), ok, detail }
}

/// Everything that is less than it could be.
fn warnings(
    control: &Control,
    interfaces: &[InterfaceReport],
    source: &SourceReport,
) -> Vec<String> {
    // The compiler's own warnings tell of those that are left out.
    let left_out = &control.compiled.left_out;
    let is_told = |interface: &&InterfaceReport| {
        left_out.iter().any(|left_out| left_out.index.0 == interface.index)
    };
    let of_interfaces = interfaces.iter().filter(|i| !is_told(i)).flat_map(|interface| {
        let name = interface.name.clone();
        interface.remarks().into_iter().map(move |remark| format!("{name}: {remark}"))
    });
    let refused = control.source.error.iter().map(|words| format!("source refused: {words}"));
    let kept = source.kept_age_seconds.map(|seconds| {
        format!("serving from the state kept on disk, {seconds} s old: the API server is away")
    });
    let source = refused.chain(kept).chain(control.source.notes.warnings.iter().cloned());
    let reload = control.reload.error.iter();
    let reload = reload.map(|words| format!("configuration refused: {words}"));
    let fixed = control.warnings.iter().cloned().chain(reload);
    let compiled = control.compiled.warnings.iter().cloned();
    let listeners = control.signals.warnings();
    let log = control.latency.log().and_then(HistogramLog::error);
    fixed.chain(source).chain(compiled).chain(listeners).chain(log).chain(of_interfaces).collect()
}

/// Tells systemd how we are, where it asked: ready once the first snapshot is out. The watchdog is
/// fed only while every worker beats.
pub(crate) fn tell_systemd(control: &Control) {
    let services = control.reports().len();
    let line = format!("{services} service ports, {} interfaces", control.attachments.live().len());
    let mut states = vec![NotifyState::Status(&line)];
    if control.compiled.is_published {
        states.push(NotifyState::Ready);
    }
    if control.stale_workers.is_empty() {
        states.push(NotifyState::Watchdog);
    }
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
