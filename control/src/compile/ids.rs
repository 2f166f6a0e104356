//! Numbers that stay while the process lives: counters and flows name things by them.

use crate::model::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::types::{
    BACKEND_SLOTS_MAX, BackendSlot, IpAddress, L4Port, Protocol, ServiceId,
};

/// What tells one service port from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortKey {
    pub(super) service: ObjectKey,
    pub(super) port_name: Arc<str>,
    pub(super) protocol: Protocol,
}

/// A backend within a service port.
type BackendKey = (ServiceId, IpAddress, L4Port);

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    services: BTreeMap<PortKey, ServiceId>,
    backends: BTreeMap<BackendKey, Given>,
    /// Counts compilations.
    now: u64,
    /// The limit; smaller only in tests.
    backend_slots_max: Option<usize>,
}

#[derive(Debug)]
struct Given {
    slot: BackendSlot,
    last_used: u64,
}

impl Ids {
    /// To be called at the start of a compilation.
    pub(super) fn begin(&mut self) {
        self.now += 1;
    }

    /// The number of a service port, from 1.
    pub(super) fn service(&mut self, key: &PortKey) -> ServiceId {
        if let Some(id) = self.services.get(key) {
            return *id;
        }
        let next = u32::try_from(self.services.len() + 1).unwrap_or(u32::MAX);
        self.services.insert(key.clone(), ServiceId(next));
        ServiceId(next)
    }

    /// The counters of a backend, from 1. When all are given, one is taken from a backend that is
    /// gone, and its counts go on under the new name; when none is gone, 0, the shared one.
    pub(super) fn backend(
        &mut self,
        service: ServiceId,
        address: IpAddress,
        port: L4Port,
    ) -> BackendSlot {
        let key = (service, address, port);
        if let Some(given) = self.backends.get_mut(&key) {
            given.last_used = self.now;
            return given.slot;
        }
        let Some(slot) = self.free_slot() else { return BackendSlot::default() };
        self.backends.insert(key, Given { slot, last_used: self.now });
        slot
    }

    fn free_slot(&mut self) -> Option<BackendSlot> {
        let next = self.backends.len() + 1;
        if next < self.backend_slots_max.unwrap_or(BACKEND_SLOTS_MAX) {
            return u32::try_from(next).ok().map(BackendSlot);
        }
        // Gone since before the last compilation: the last snapshot no longer names it.
        let gone = self.backends.iter().filter(|(_, given)| given.last_used + 1 < self.now);
        let (key, slot) = gone.min_by_key(|(_, g)| g.last_used).map(|(key, g)| (*key, g.slot))?;
        self.backends.remove(&key);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_stable_and_reused_only_when_all_are_given() {
        let mut ids = Ids { backend_slots_max: Some(3), ..Ids::default() };
        let slot = |ids: &mut Ids, n: u8| {
            ids.backend(ServiceId(1), IpAddress::v4([10, 0, 0, n]), L4Port::new(80)).0
        };
        ids.begin();
        assert_eq!([slot(&mut ids, 1), slot(&mut ids, 2), slot(&mut ids, 1)], [1, 2, 1]);
        assert_eq!(slot(&mut ids, 3), 0, "all given, none gone");
        ids.begin();
        assert_eq!(slot(&mut ids, 2), 2);
        ids.begin();
        assert_eq!(slot(&mut ids, 3), 1, "the first is gone");
        assert_eq!(slot(&mut ids, 2), 2);
    }
}
