//! What follows from a change: compile, attach, publish, detach, ask for neighbours.

use super::{Control, log_new};
use crate::compile::Compiled;
use crate::daemon::attachments::Hooks;
use crate::fault::chain;
use crate::netlink::NetworkState;
use std::sync::Arc;
use std::time::Instant;
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::types::BackendSlot;

/// Compilations in a row while attaching changes what is attached: two settle it, one more
/// allows for an interface that vanishes meanwhile.
const ROUNDS_MAX: usize = 3;

impl Control {
    /// Frees what no flow needs any more. A snapshot that could not be published may still be
    /// needed, and what it names.
    pub(super) fn reap(&mut self) {
        if self.compiled.is_published && self.compiled.publish_error.is_none() {
            self.compiler.reap(flows_of(self.engine.counters()));
        }
    }

    /// Compiles, attaches, publishes, detaches: until nothing changes any more.
    pub(super) fn apply(&mut self) {
        if !self.source.is_read {
            return;
        }
        self.signals.begin();
        let network = self.mirror.state();
        if network.removals != self.removals_seen {
            self.removals_seen = network.removals;
            self.give_up_lost();
        }
        let mut unpublished = None;
        for _ in 0..ROUNDS_MAX {
            let compiled = self.compile(&network, unpublished.take());
            let now = Instant::now();
            let attached = self.attachments.attach(&mut self.engine, &compiled.wanted, now);
            if attached {
                // virtio-net receives on more queues once it has a program, and says so to nobody.
                self.mirror.read_links_again();
            }
            let (workers, compiler) = (self.engine.counters(), &self.compiler);
            let is_in_use = |interface| compiler.has_flows_by(interface, flows_of(workers));
            let leaving = self.attachments.take_unwanted(&compiled.wanted, now, is_in_use);
            if !attached && leaving.is_empty() {
                self.publish(compiled);
                return;
            }
            unpublished = Some(compiled);
            // Load-bearing: no snapshot may send packets to an interface that is gone.
            if !leaving.is_empty() {
                let without = self.compile(&network, unpublished.take());
                self.publish(without);
            }
            for live in leaving {
                tracing::info!(interface = live.request.name, "detached");
                Hooks::detach(&mut self.engine, live.request.slot);
            }
        }
        let compiled = self.compile(&network, unpublished);
        self.publish(compiled);
    }

    /// Detaches what has lost its program, and has others, whose frames went with it, bound anew:
    /// what is still there is attached anew. Whether there was any.
    pub(super) fn give_up_lost(&mut self) -> bool {
        let lost = self.attachments.take_lost(&self.engine.lost());
        for live in &lost {
            tracing::info!(interface = live.request.name, "lost");
            Hooks::detach(&mut self.engine, live.request.slot);
        }
        let closed = self.engine.release_closed_frames();
        self.attachments.renew(&closed);
        !lost.is_empty() || !closed.is_empty()
    }

    /// `unpublished` is the compilation before, if it was not published.
    fn compile(&mut self, network: &NetworkState, unpublished: Option<Compiled>) -> Compiled {
        let begin = Instant::now();
        let attached = self.attachments.attached();
        let compiled = self.compiler.compile(&mut self.store, network, &attached, &self.config);
        tracing::debug!(took = ?begin.elapsed(), "compiled");
        match unpublished {
            Some(before) => compiled.after(before),
            None => compiled,
        }
    }

    fn publish(&mut self, compiled: Compiled) {
        let begin = Instant::now();
        let fronts = compiled.snapshot.fronts.len();
        let reports = self.compiler.reports();
        self.tally.learn(compiled.changed_services.iter().flat_map(|key| reports.of_service(key)));
        match self.engine.publish(compiled.snapshot, compiled.changed_fronts) {
            Ok(version) => {
                tracing::debug!(version = version.0, fronts, took = ?begin.elapsed(), "published");
                self.signals.published();
                self.compiled.is_published = true;
                self.compiled.publish_error = None;
            }
            Err(error) => {
                self.signals.refused();
                let error = chain(&error);
                tracing::error!("failed to {error}; the last snapshot keeps serving");
                self.compiled.publish_error = Some(error);
            }
        }
        self.compiled.probes = compiled.probes;
        self.compiled.left_out = compiled.left_out;
        log_new(&self.compiled.warnings, &compiled.warnings);
        self.compiled.warnings = compiled.warnings;
        self.probe();
    }

    /// Asks the kernel for the neighbours that are not known, beside the loop: each is a question
    /// and an answer on a socket. Asked again each second while they stay unknown.
    pub(super) fn probe(&mut self) {
        self.is_probe_due = self.probing.as_ref().is_some_and(|task| !task.is_finished());
        if self.is_probe_due || self.compiled.probes.is_empty() {
            return;
        }
        let (mirror, probes) = (Arc::clone(&self.mirror), Arc::clone(&self.compiled.probes));
        self.probing = Some(tokio::spawn(async move {
            for (interface, address) in probes.iter() {
                if let Err(error) = mirror.probe_neighbour(*interface, *address).await {
                    tracing::debug!(%error, "cannot probe");
                }
            }
        }));
    }
}

/// Whether a (service port, backend) pair has flows, on any worker.
fn flows_of(workers: &[Arc<WorkerCounters>]) -> impl Fn(BackendSlot) -> bool {
    |slot| workers.iter().any(|worker| worker.backend(slot).flows.get() > 0)
}
