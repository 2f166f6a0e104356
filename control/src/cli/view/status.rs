//! `tidegate status`: one screen.

use crate::admin::report::{HandshakeReport, InterfaceReport, SourceReport, StatusReport};
use crate::cli::view::drops::sum_line;
use crate::cli::view::number::{age, count};
use crate::cli::view::table::Table;

/// The screen.
pub fn screen(status: &StatusReport) -> String {
    let mut table = Table::new(&[]);
    let version = format!("{} on {}, kernel {}", status.version, status.node, status.kernel);
    table.row(["tidegate", &version]);
    table.row(["ready", &readiness(status)]);
    table.row(["source", &source(&status.source)]);
    let snapshot = format!("version {}", status.snapshot_version);
    table.row(["snapshot", &snapshot]);
    for interface in &status.interfaces {
        table.row([interface.name.clone(), self::interface(interface)]);
    }
    let (flows, gap) = (count(status.flows), status.heartbeat_gap_milliseconds);
    let workers = format!("{}, {flows} flows; longest without heartbeat {gap}ms", status.workers);
    table.row(["workers", &workers]);
    table.row(["tcp", &handshakes(&status.handshakes, status.workers)]);
    table.row(["packets", &sum_line(&status.packets)]);
    for warning in &status.warnings {
        table.row(["WARN", warning]);
    }
    for note in &status.notes {
        table.row(["NOTE", note]);
    }
    table.render(false)
}

fn handshakes(report: &HandshakeReport, workers: usize) -> String {
    format!(
        "{} handshakes under way, at most {}; synProxy {}, active on {} of {workers} workers; \
         cookies: {} sent, {} valid, {} invalid",
        count(report.under_way),
        count(report.limit),
        report.syn_proxy,
        report.proxying_workers,
        count(report.cookies_sent),
        count(report.cookies_valid),
        count(report.cookies_invalid)
    )
}

fn readiness(status: &StatusReport) -> String {
    let up = age(status.uptime_seconds);
    let failed = status.checks.iter().filter(|check| !check.ok);
    let failed: Vec<_> = failed.map(|check| format!("{} ({})", check.name, check.detail)).collect();
    match failed.as_slice() {
        [] => format!("yes, up {up}"),
        _ => format!("no: {}; up {up}", failed.join(", ")),
    }
}

fn source(source: &SourceReport) -> String {
    let state = match source.age_seconds {
        Some(seconds) => format!(
            "{} service ports, {} fronts, changed {}",
            source.service_ports,
            source.fronts,
            if seconds == 0 { "now".to_owned() } else { format!("{} ago", age(seconds)) }
        ),
        None => "nothing read yet".to_owned(),
    };
    let kept = source.kept_age_seconds.iter().map(|s| format!("; KEPT ON DISK {} ago", age(*s)));
    let listing = source.listing.iter().map(|listing| format!(", {listing} lists"));
    let refused = source.error.iter().map(|words| format!("; REFUSED: {words}"));
    let rest: String = listing.chain(kept).chain(refused).collect();
    format!("{} {}: {state}{rest}", source.kind, source.location)
}

/// An interface's modes, or why it is not attached.
fn interface(interface: &InterfaceReport) -> String {
    let remarks = match interface.remarks().as_slice() {
        [] => String::new(),
        remarks => format!(" ({})", remarks.join("; ")),
    };
    interface.modes() + &remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;

    #[test]
    fn the_screen_names_every_compromise() {
        let expected = include_str!("../../../testdata/view/status.txt");
        assert_eq!(screen(&fixtures::status()), expected);
    }

    #[test]
    fn a_ready_daemon_says_yes() {
        let mut status = fixtures::status();
        status.checks.clear();
        assert!(screen(&status).contains("ready      yes, up 1m1s\n"));
    }
}
