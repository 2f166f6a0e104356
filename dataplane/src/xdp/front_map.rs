//! The fronts as the XDP program knows them.

use crate::engine::EngineError;
use crate::snapshot::FrontKey;
use crate::xdp::layout::Front;
use crate::xdp::maps::{set, unset};
use libbpf_rs::MapHandle;

/// The published fronts.
#[derive(Debug)]
pub struct FrontMap(pub(crate) MapHandle);

impl FrontMap {
    /// Adds a front, or changes its flags: [`crate::xdp::layout::FRONT_DRAINING`] and
    /// [`crate::xdp::layout::FRONT_CLUSTER`], or 0.
    ///
    /// # Errors
    /// The map is full ([`crate::xdp::layout::FRONTS_MAX`]), or the kernel has no memory.
    pub fn insert(&self, front: &FrontKey, flags: u32) -> Result<(), EngineError> {
        set(&self.0, &Front::from(front), &flags, || format!("add front {}", describe(front)))
    }

    /// Removes a front. Right also when it is not there.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub fn remove(&self, front: &FrontKey) -> Result<(), EngineError> {
        unset(&self.0, &Front::from(front), || format!("remove front {}", describe(front)))
    }
}

fn describe(front: &FrontKey) -> String {
    format!("{}:{}/{}", front.address, front.port, front.protocol)
}
