//! What a packet without a flow must pass before it begins one.

use crate::admission::{Admission, MidFlow};
use crate::flow_table::{FlowTable, FlowTableConfig};
use crate::limiter::Limiter;
use crate::pipeline::tcp::syn_proxy::SynProxy;
use crate::syn_cookie::SynCookies;
use crate::types::Time;
use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::Arc;

/// New flows that may begin at once: a second's allowance.
const BURST: Duration = Duration::from_secs(1);

/// The gate of one worker. The default is open: every flow begins, and what is mid-flow passes.
#[derive(Debug)]
pub struct Gate {
    limiter: Option<Limiter>,
    mid_flow: MidFlow,
    proxy: Option<SynProxy>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { limiter: None, mid_flow: MidFlow::Pass, proxy: None }
    }
}

impl Gate {
    /// The gate that the configuration asks for, before such a table. `cookies` are shared by all
    /// workers: whichever gets a client's ACK knows its cookie.
    pub fn new(admission: &Admission, table: &FlowTableConfig, cookies: Arc<SynCookies>) -> Self {
        // Handshakes that are masqueraded take a source port each; those to one backend have no
        // more than the worker's slice.
        let scarce = table.embryonic_max.min(table.source_ports.own.count());
        let proxy = SynProxy::new(admission.syn_proxy, scarce, cookies);
        let limiter = |per_second: NonZeroU32| Limiter::new(per_second.get(), BURST);
        Self {
            limiter: admission.new_flows_per_second.map(limiter),
            mid_flow: admission.mid_flow,
            proxy: Some(proxy),
        }
    }

    /// What packets of unknown TCP flows meet.
    pub(super) fn mid_flow(&self) -> MidFlow {
        self.mid_flow
    }

    /// Whether SYNs are answered with cookies now.
    pub(super) fn is_proxying(&mut self, flows: &FlowTable) -> bool {
        self.proxy.as_mut().is_some_and(|proxy| proxy.is_on(flows.embryonic()))
    }

    /// Who answers SYNs with cookies.
    pub(super) fn proxy(&self) -> Option<&SynProxy> {
        self.proxy.as_ref()
    }

    /// Whether one more flow may begin now; then it counts.
    pub(super) fn lets_begin(&mut self, now: Time) -> bool {
        self.limiter.as_mut().is_none_or(|limiter| limiter.take(now))
    }
}
