//! The fronts as the XDP program knows them, and the addresses that have any: a fragment has no
//! port to tell its front by.

use crate::engine::EngineError;
use crate::snapshot::FrontKey;
use crate::xdp::kernel_words::library_refused;
use crate::xdp::layout::Front;
use crate::xdp::maps::{set, set_new, unset};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

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
        let (key, what) = (Front::from(front), || format!("add front {}", describe(front)));
        if !set_new(&self.fronts, &key, &flags, what)? {
            return set(&self.fronts, &key, &flags, what);
        }
        let counted = self.count(front, 1);
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
        // Where counting fails, fragments come to the workers in vain, and go back.
        if self.delete(front)? { self.count(front, -1) } else { Ok(()) }
    }

    /// Whether it was there.
    fn delete(&self, front: &FrontKey) -> Result<bool, EngineError> {
        unset(&self.fronts, &Front::from(front), || format!("remove front {}", describe(front)))
    }

    /// One front more or less of an address.
    fn count(&self, front: &FrontKey, change: i32) -> Result<(), EngineError> {
        let what = || format!("count the fronts of {}", front.address);
        let value = self.addresses.lookup(front.address.bytes(), MapFlags::ANY);
        let value = value.map_err(|error| library_refused(what(), &error))?;
        let count = value.and_then(|bytes| bytes.first_chunk().map(|b| u32::from_ne_bytes(*b)));
        match count.unwrap_or(0).saturating_add_signed(change) {
            0 => unset(&self.addresses, front.address.bytes(), what).map(drop),
            count => set(&self.addresses, front.address.bytes(), &count, what),
        }
    }
}

fn describe(front: &FrontKey) -> String {
    format!("{}:{}/{}", front.address, front.port, front.protocol)
}
