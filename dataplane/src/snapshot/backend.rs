//! Backends, and how one of them is picked for a new flow.

use crate::snapshot::maglev::MaglevTable;
use crate::types::{BackendSlot, IpAddress, L4Port, NextHopId};
use std::sync::Arc;

/// A compiled pod address and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The pod's address.
    pub address: IpAddress,
    /// The pod's port.
    pub port: L4Port,
    /// Where it is.
    pub next_hop: NextHopId,
    /// Its counters within this service port.
    pub slot: BackendSlot,
}

/// How a backend is picked (T11).
#[derive(Debug, Clone)]
pub enum Picker {
    /// By the flow's hash; equal sets share one table.
    Maglev(Arc<MaglevTable>),
    /// Uniformly per new flow, as kube-proxy does (semantics C6).
    Random,
}

/// The backends that a new flow may get. Never empty.
#[derive(Debug, Clone)]
pub struct BackendSet {
    backends: Box<[Backend]>,
    picker: Picker,
}

impl BackendSet {
    /// A set of `backends`, or `None` if there are none or the Maglev table was built for another
    /// number of backends.
    pub fn new_checked(backends: Box<[Backend]>, picker: Picker) -> Option<Self> {
        let fits = match &picker {
            Picker::Maglev(table) => table.backend_count() == backends.len(),
            Picker::Random => true,
        };
        (fits && !backends.is_empty()).then_some(Self { backends, picker })
    }

    /// The backends, in the order that the table's entries mean.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend with this address and port: one look at each, since only new flows of clients
    /// with affinity ask.
    pub fn find(&self, address: IpAddress, port: L4Port) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.address == address && backend.port == port)
    }

    /// How one is picked.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// The backend for a new flow whose tuple has the unkeyed hash `tuple_hash` (the same on every
    /// node); `random` is used by [`Picker::Random`] alone.
    #[inline]
    pub fn pick(&self, tuple_hash: u64, random: u64) -> Option<&Backend> {
        let index = match &self.picker {
            Picker::Maglev(table) => table.backend_index(tuple_hash),
            Picker::Random => scale(random, self.backends.len()),
        };
        self.backends.get(index)
    }
}

/// `random` scaled to `0..count` without a division (Lemire's multiply-shift).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the product's high half is below count")]
fn scale(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}
