//! One question, one answer.

use crate::admin::query::Query;
use crate::admin::report::List;
use crate::daemon::control::Control;
use crate::daemon::report::{
    counters::ledger, metrics, node, objects, packets, services, status::status,
};
use crate::explain::{Explainer, Explanation, Question};
use std::time::SystemTime;

/// Answers. A caller that went away meanwhile is no error.
pub(crate) fn answer(control: &mut Control, query: Query) {
    let is_heard = match query {
        Query::Status(to) => to.send(status(control)).is_ok(),
        Query::Services(to) => to.send(list(services::services(control))).is_ok(),
        Query::Backends(to) => to.send(list(services::backends(control))).is_ok(),
        Query::Flows(limit, to) => to.send(list(services::flows(control, limit))).is_ok(),
        Query::Interfaces(to) => to.send(list(node::interfaces(control, &ledger(control)))).is_ok(),
        Query::Workers(to) => to.send(list(node::workers(control))).is_ok(),
        Query::Neighbors(to) => to.send(list(node::neighbors(control))).is_ok(),
        Query::ServiceObjects(to) => to.send(list(objects::services(control))).is_ok(),
        Query::EndpointsObjects(to) => to.send(list(objects::endpoints(control))).is_ok(),
        Query::Events(to) => {
            let events = control.signals.events.report(SystemTime::now());
            to.send(list(events)).is_ok()
        }
        Query::Drops(to) => to.send(packets::drops(control)).is_ok(),
        Query::Metrics(to) => {
            let is_native = control.config.metrics.native_histograms;
            to.send((metrics::scrape(control), is_native)).is_ok()
        }
        Query::ServiceMetrics(part, to) => to.send(metrics::scrape_services(control, part)).is_ok(),
        Query::Explain(question, to) => to.send(explain(control, &question)).is_ok(),
        Query::Latency(to) => {
            control.collect_latency();
            to.send(control.latency.measured()).is_ok()
        }
        Query::LatencyIntervals(span, to) => to.send(control.latency.intervals(span)).is_ok(),
        Query::ResetLatency(to) => {
            control.collect_latency();
            control.latency.reset();
            to.send(()).is_ok()
        }
    };
    if !is_heard {
        tracing::debug!("an admin client went away before its answer");
    }
}

/// What the published snapshot holds for a packet.
fn explain(control: &Control, question: &Question) -> Explanation {
    let (snapshot, network) = (control.engine.snapshot(), control.mirror.state());
    let source_ports = control.config.load_balancer.source_port_range.0;
    let compiled = (&*snapshot, control.reports());
    Explainer::new(compiled, &network, source_ports, true).explain(question)
}

fn list<T>(items: Vec<T>) -> List<T> {
    List { items }
}
