//! The road back to the kernel (T8): the program on `tidegate1` that returns frames to the
//! interface they came from.
//!
//! A worker sends such a frame by `tidegate0`, unchanged but for a [`RoadTrailer`] behind it. The
//! program moves it, trailer cut off, into the receive path of the interface that the trailer
//! names. Two things to know: the frame's source address becomes the road's, so that the steering
//! program knows it again, and the kernel verifies its checksums: a packet that still has only its
//! pseudo-header sum (T9) has to be finished before.
//!
//! [`RoadTrailer`]: crate::xdp::layout::RoadTrailer

use crate::engine::EngineError;
use crate::types::{IfIndex, MacAddress};
use crate::xdp::kernel_words::library_refused;
use crate::xdp::layout::RoadConfig;
use crate::xdp::maps::sum_percpu;
use crate::xdp::object::{self, Elf};
use libbpf_rs::{MapHandle, TC_INGRESS, TcHook, TcHookBuilder};
use std::os::fd::AsFd;

static ROAD: &Elf<[u8]> = &Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/road.bpf.o")));

/// The open road. Dropping it closes it: then the kernel gets nothing back. A program left behind
/// by a crash is replaced by the next.
#[derive(Debug)]
pub struct Road {
    hook: TcHook,
    counters: MapHandle,
}

/// What became of the frames on the road.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoadCounters {
    /// Given to the interface they came from.
    pub returned_packets: u64,
    /// Dropped: not ours, or too short.
    pub refused_packets: u64,
}

impl Road {
    /// Opens the road at `peer` (`tidegate1`). `magic` is a random number, which the trailers must
    /// bear; `road_mac` the address that [`crate::xdp::program::SteeringConfig`] was given.
    ///
    /// # Errors
    /// A missing capability, or no such interface.
    pub fn open(peer: IfIndex, magic: u32, road_mac: MacAddress) -> Result<Self, EngineError> {
        let config = RoadConfig { magic, road_mac: road_mac.0, zero: [0; 2] };
        let object = object::load(object::open(ROAD, &config)?)?;
        let program = object::program(&object, "road")?;
        // Once attached, the kernel holds the program and its map.
        let mut hook = TcHookBuilder::new(program.as_fd())
            .ifindex(peer.0.cast_signed())
            .handle(1)
            .priority(1)
            .replace(true)
            .hook(TC_INGRESS);
        let what = || format!("open the road on interface {}", peer.0);
        hook.create().map_err(|error| library_refused(what(), &error))?;
        hook.attach().map_err(|error| library_refused(what(), &error))?;
        Ok(Self { hook, counters: object::map(&object, "road_counters")? })
    }

    /// What the program counted since it was opened, all CPUs summed.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn counters(&self) -> Result<RoadCounters, EngineError> {
        Ok(RoadCounters { returned_packets: self.sum(0)?, refused_packets: self.sum(1)? })
    }

    /// `counter` is an `enum road_counter` of `bpf/steer.h`.
    fn sum(&self, counter: u32) -> Result<u64, EngineError> {
        sum_percpu(&self.counters, counter, "read the road's counters")
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        // Fails only where the interface has gone, and the program with it.
        drop(self.hook.detach());
    }
}
