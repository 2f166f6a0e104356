//! Everything that one scrape tells.

use super::{host, interfaces, packets, services, sync, workers};
use crate::daemon::control::Control;
use crate::daemon::report::counters::ledger;
use crate::daemon::report::status_of;
use crate::metrics::family::Family;
use std::time::SystemTime;

/// All families. Series of what is gone are not in them.
pub(crate) fn scrape(control: &Control) -> Vec<Family> {
    let now = SystemTime::now();
    let ledger = ledger(control);
    let status = status_of(control, &ledger);
    let engine = &control.engine;
    let mut families = host::families(&status, control.started.1);
    families.extend(interfaces::families(&status.interfaces, engine, &control.attachments));
    families.extend(packets::families(&ledger, control.attachments.names()));
    families.extend(workers::families(engine, &control.config, now));
    families.extend(workers::latency(control.latency.lifetime()));
    families.extend(sync::families(&control.signals, control.reports()));
    let told = &control.config.metrics;
    let counted = services::Counted { tally: &control.tally, workers: engine.counters() };
    if told.per_service {
        families.extend(services::of_ports(control.reports().iter(), &counted));
    }
    if told.per_backend {
        families.extend(services::of_backends(control.reports().iter(), &counted));
    }
    families
}
