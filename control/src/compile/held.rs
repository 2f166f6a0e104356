//! What a service port holds from one compilation to the next: numbers, and wishes for fronts.

use super::fronts::Wishes;
use super::ids::Ids;
use super::next_hops::{NOWHERE, NextHops, Pair};
use crate::model::Endpoint;
use std::net::IpAddr;
use tidegate_dataplane::snapshot::{Backend, FrontKey};
use tidegate_dataplane::types::{BackendSlot, L4Port, ServiceId};

/// A compiled service port.
#[derive(Debug, Default)]
pub(super) struct HeldPort {
    pub(super) id: ServiceId,
    /// In the order of the endpoints: by address and port.
    pub(super) backends: Vec<HeldBackend>,
    /// Which of the Service's ports.
    pub(super) place: usize,
    pub(super) wishes: Wishes,
    /// The fronts that it has in the snapshot.
    pub(super) fronts: Vec<FrontKey>,
}

/// A backend with its numbers.
#[derive(Debug, Clone)]
pub(super) struct HeldBackend {
    pub(super) backend: Backend,
    is_serving: bool,
}

/// Whether flows, old or new, may go to an endpoint.
pub(super) fn serves(endpoint: &Endpoint) -> bool {
    endpoint.condition.is_ready || endpoint.condition.is_serving
}

impl HeldPort {
    /// Takes numbers for `endpoints` in place of those so far. What stays keeps its own.
    pub(super) fn renew(
        &mut self,
        endpoints: &[Endpoint],
        (ids, next_hops): (&mut Ids, &mut NextHops),
    ) {
        let id = self.id;
        let mut renewed = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let known = find(&self.backends, (endpoint.address, endpoint.port));
            let kept = known.filter(|known| known.is_kept(serves(endpoint)));
            renewed.push(kept.cloned().unwrap_or_else(|| take(id, endpoint, (ids, next_hops))));
        }
        for old in core::mem::replace(&mut self.backends, renewed) {
            let Backend { address, port, .. } = old.backend;
            let now = find(&self.backends, old.key());
            if now.is_none_or(|now| now.pair(id) != old.pair(id)) {
                next_hops.release(address, old.pair(id));
            }
            if now.is_none() {
                ids.release_backend((id, address, port));
            }
        }
    }
}

fn take(
    id: ServiceId,
    endpoint: &Endpoint,
    (ids, next_hops): (&mut Ids, &mut NextHops),
) -> HeldBackend {
    let (address, port) = (endpoint.address.into(), endpoint.port);
    let slot = ids.backend((id, address, port));
    let is_serving = serves(endpoint);
    let next_hop = next_hops.take(address, Pair { service: id, slot, is_serving });
    HeldBackend { backend: Backend { address, port, next_hop, slot }, is_serving }
}

fn find(list: &[HeldBackend], key: (IpAddr, L4Port)) -> Option<&HeldBackend> {
    let place = list.binary_search_by_key(&key, HeldBackend::key).ok()?;
    list.get(place)
}

impl HeldBackend {
    fn key(&self) -> (IpAddr, L4Port) {
        (self.backend.address.into(), self.backend.port)
    }

    fn pair(&self, service: ServiceId) -> Pair {
        Pair { service, slot: self.backend.slot, is_serving: self.is_serving }
    }

    /// One that found no number of its own before tries again.
    fn is_kept(&self, is_serving: bool) -> bool {
        let has_numbers =
            self.backend.slot != BackendSlot::default() && self.backend.next_hop != NOWHERE;
        has_numbers && self.is_serving == is_serving
    }
}
