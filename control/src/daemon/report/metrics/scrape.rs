//! Everything that one scrape tells.

use super::{host, interfaces, packets, services, sync, workers};
use crate::admin::query::METRIC_PARTS;
use crate::compile::ServiceReport;
use crate::daemon::control::Control;
use crate::daemon::report::counters::ledger;
use crate::daemon::report::status_of;
use crate::metrics::family::Family;
use std::time::SystemTime;

/// All families but those of service ports. Series of what is gone are not in them.
pub(crate) fn scrape(control: &Control) -> Vec<Family> {
    let now = SystemTime::now();
    let ledger = ledger(control);
    let status = status_of(control, &ledger);
    let engine = &control.engine;
    let mut families = host::families(&status, control.started.1);
    families.extend(host::config(&control.reload));
    families.push(host::draining(control.source.is_read && !control.signals.is_eligible()));
    families.extend(interfaces::families(
        &status.interfaces,
        &ledger.queues,
        engine,
        &control.attachments,
    ));
    families.extend(packets::families(&ledger, control.attachments.names()));
    families.extend(workers::families(engine, &control.config, now));
    families.extend(workers::latency(control.latency.lifetime()));
    families.extend(sync::families(control));
    families
}

/// The series of one part of the service ports.
pub(crate) fn scrape_services(control: &Control, part: u32) -> Vec<Family> {
    let told = &control.config.metrics;
    let moved = |service| control.reports().moved_slots(service);
    let workers = control.engine.counters();
    let counted = services::Counted::new(&control.tally, workers, &moved);
    let is_part = |report: &&ServiceReport| report.id.0 % METRIC_PARTS == part;
    let reports = || control.reports().iter().filter(is_part);
    let mut families = Vec::new();
    if told.per_service {
        families.extend(services::of_ports(reports(), &counted));
    }
    if told.per_backend {
        families.extend(services::of_backends(reports(), &counted));
    }
    families
}
