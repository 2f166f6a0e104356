//! What a packet without a flow must pass before it begins one.

use crate::admission::{Admission, MidFlow};
use crate::limiter::Limiter;
use crate::types::Time;
use core::num::NonZeroU32;
use core::time::Duration;

/// New flows that may begin at once: a second's allowance.
const BURST: Duration = Duration::from_secs(1);

/// The gate of one worker. The default is open: every flow begins, and what is mid-flow passes.
#[derive(Debug)]
pub struct Gate {
    limiter: Option<Limiter>,
    mid_flow: MidFlow,
}

impl Default for Gate {
    fn default() -> Self {
        Self { limiter: None, mid_flow: MidFlow::Pass }
    }
}

impl Gate {
    /// The gate that the configuration asks for.
    pub fn new(admission: &Admission) -> Self {
        let limiter = |per_second: NonZeroU32| Limiter::new(per_second.get(), BURST);
        Self { limiter: admission.new_flows_per_second.map(limiter), mid_flow: admission.mid_flow }
    }

    /// What packets of unknown TCP flows meet.
    pub(super) fn mid_flow(&self) -> MidFlow {
        self.mid_flow
    }

    /// Whether one more flow may begin now; then it counts.
    pub(super) fn lets_begin(&mut self, now: Time) -> bool {
        self.limiter.as_mut().is_none_or(|limiter| limiter.take(now))
    }
}
