//! The fronts as the XDP program knows them, and the addresses that have any: a fragment has no
//! port to tell its front by.

use crate::engine::EngineError;
use crate::snapshot::FrontKey;
use crate::xdp::kernel_words::library_refused;
use crate::xdp::layout::Front;
use crate::xdp::maps::{set, unset};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use zerocopy::IntoBytes;

/// The published fronts.
#[derive(Debug)]
pub struct FrontMap {
    fronts: MapHandle,
    /// How many fronts each address has.
    addresses: MapHandle,
}

impl FrontMap {
    pub(crate) const fn new(fronts: MapHandle, addresses: MapHandle) -> Self {
        Self { fronts, addresses }
    }

    /// Adds a front, or changes its flags: [`crate::xdp::layout::FRONT_DRAINING`] and
    /// [`crate::xdp::layout::FRONT_CLUSTER`], or 0.
    ///
    /// # Errors
    /// The map is full ([`crate::xdp::layout::FRONTS_MAX`]), or the kernel has no memory.
    pub fn insert(&self, front: &FrontKey, flags: u32) -> Result<(), EngineError> {
        let is_new = !self.contains(front)?;
        set(&self.fronts, &Front::from(front), &flags, || {
            format!("add front {}", describe(front))
        })?;
        let counted = if is_new { self.count(front, 1) } else { Ok(()) };
        if counted.is_err() {
            // As if it had never been: the caller tries again.
            self.delete(front)?;
        }
        counted
    }

    /// Removes a front. Right also when it is not there.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub fn remove(&self, front: &FrontKey) -> Result<(), EngineError> {
        if !self.contains(front)? {
            return Ok(());
        }
        self.delete(front)?;
        // Where this fails, fragments come to the workers in vain, and go back.
        self.count(front, -1)
    }

    fn delete(&self, front: &FrontKey) -> Result<(), EngineError> {
        unset(&self.fronts, &Front::from(front), || format!("remove front {}", describe(front)))
    }

    fn contains(&self, front: &FrontKey) -> Result<bool, EngineError> {
        let value = self.fronts.lookup(Front::from(front).as_bytes(), MapFlags::ANY);
        let what = || format!("look for front {}", describe(front));
        Ok(value.map_err(|error| library_refused(what(), &error))?.is_some())
    }

    /// One front more or less of an address.
    fn count(&self, front: &FrontKey, change: i32) -> Result<(), EngineError> {
        let what = || format!("count the fronts of {}", front.address);
        let value = self.addresses.lookup(front.address.bytes(), MapFlags::ANY);
        let value = value.map_err(|error| library_refused(what(), &error))?;
        let count = value.and_then(|bytes| bytes.first_chunk().map(|b| u32::from_ne_bytes(*b)));
        match count.unwrap_or(0).saturating_add_signed(change) {
            0 => unset(&self.addresses, front.address.bytes(), what),
            count => set(&self.addresses, front.address.bytes(), &count, what),
        }
    }
}

fn describe(front: &FrontKey) -> String {
    format!("{}:{}/{}", front.address, front.port, front.protocol)
}
