//! Numbers that stay while what they name lives: counters and flows name things by them.

use crate::model::ObjectKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tidegate_dataplane::types::{
    BACKEND_SLOTS_MAX, BackendSlot, IpAddress, L4Port, Protocol, SERVICE_SLOTS_MAX, ServiceId,
};

/// What tells one service port from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortKey {
    pub(super) service: ObjectKey,
    pub(super) port_name: Arc<str>,
    pub(super) protocol: Protocol,
}

/// A backend within a service port.
pub(super) type BackendKey = (ServiceId, IpAddress, L4Port);

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    services: BTreeMap<PortKey, ServiceId>,
    last_service: u32,
    /// Numbers of service ports that are forgotten, the longest ago first.
    free_services: VecDeque<ServiceId>,
    backends: BTreeMap<BackendKey, Given>,
    /// Backends that are gone, by the compilation that let them go.
    gone: BTreeSet<(u64, BackendKey)>,
    /// Counts compilations.
    now: u64,
    /// The limits; smaller only in tests.
    backend_slots_max: Option<usize>,
    service_slots_max: Option<usize>,
}

#[derive(Debug)]
struct Given {
    slot: BackendSlot,
    gone_at: Option<u64>,
}

impl Ids {
    /// To be called at the start of a compilation.
    pub(super) fn begin(&mut self) {
        self.now += 1;
    }

    /// The number of a service port, from 1. One that was forgotten is given to another when all
    /// that have counters are given; when none was forgotten, one without.
    pub(super) fn service(&mut self, key: &PortKey) -> ServiceId {
        if let Some(id) = self.services.get(key) {
            return *id;
        }
        let slots = self.service_slots_max.unwrap_or(SERVICE_SLOTS_MAX);
        let is_full = self.last_service as usize + 1 >= slots;
        let reused = if is_full { self.free_services.pop_front() } else { None };
        let id = reused.unwrap_or_else(|| {
            self.last_service = self.last_service.saturating_add(1);
            ServiceId(self.last_service)
        });
        self.services.insert(key.clone(), id);
        id
    }

    /// The service port is gone for so long that its number may be another's.
    pub(super) fn forget_service(&mut self, key: &PortKey) {
        self.free_services.extend(self.services.remove(key));
    }

    /// The counters of a backend, from 1. When all are given, one is taken from a backend that is
    /// gone, and its counts go on under the new name; when none is gone, 0, the shared one.
    pub(super) fn backend(&mut self, key: BackendKey) -> BackendSlot {
        if let Some(given) = self.backends.get_mut(&key) {
            if let Some(gone_at) = given.gone_at.take() {
                self.gone.remove(&(gone_at, key));
            }
            return given.slot;
        }
        let Some(slot) = self.free_slot() else { return BackendSlot::default() };
        self.backends.insert(key, Given { slot, gone_at: None });
        slot
    }

    /// The backend is gone; it gets its counters again if it returns before they are needed.
    pub(super) fn release_backend(&mut self, key: BackendKey) {
        if let Some(given) = self.backends.get_mut(&key)
            && given.gone_at.is_none()
        {
            given.gone_at = Some(self.now);
            self.gone.insert((self.now, key));
        }
    }

    fn free_slot(&mut self) -> Option<BackendSlot> {
        let next = self.backends.len() + 1;
        if next < self.backend_slots_max.unwrap_or(BACKEND_SLOTS_MAX) {
            return u32::try_from(next).ok().map(BackendSlot);
        }
        // Gone since before this compilation: the last snapshot no longer names it.
        let (gone_at, key) = *self.gone.first()?;
        if gone_at == self.now {
            return None;
        }
        self.gone.pop_first();
        self.backends.remove(&key).map(|given| given.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(n: u8) -> BackendKey {
        (ServiceId(1), IpAddress::v4([10, 0, 0, n]), L4Port::new(80))
    }

    #[test]
    fn a_slot_is_stable_and_reused_only_when_all_are_given() {
        let mut ids = Ids { backend_slots_max: Some(3), ..Ids::default() };
        ids.begin();
        assert_eq!([1, 2, 1].map(|n| ids.backend(backend(n)).0), [1, 2, 1]);
        assert_eq!(ids.backend(backend(3)).0, 0, "all given, none gone");
        ids.begin();
        ids.release_backend(backend(1));
        assert_eq!(ids.backend(backend(3)).0, 0, "the last snapshot still names the first");
        ids.begin();
        assert_eq!(ids.backend(backend(3)).0, 1, "the first is gone");
        assert_eq!(ids.backend(backend(2)).0, 2);
    }

    #[test]
    fn a_backend_that_returns_has_its_slot_again() {
        let mut ids = Ids { backend_slots_max: Some(3), ..Ids::default() };
        ids.begin();
        let slots = [1, 2].map(|n| ids.backend(backend(n)));
        ids.release_backend(backend(1));
        ids.begin();
        assert_eq!(ids.backend(backend(1)), slots[0]);
        ids.begin();
        assert_eq!(ids.backend(backend(3)).0, 0, "none is gone");
    }

    #[test]
    fn a_service_ports_number_is_anothers_only_once_it_is_forgotten_and_all_are_given() {
        let key = |name: &str| PortKey {
            service: ObjectKey::new("default", name),
            port_name: "".into(),
            protocol: Protocol::Tcp,
        };
        let mut ids = Ids { service_slots_max: Some(3), ..Ids::default() };
        assert_eq!(["a", "b", "a", "c"].map(|name| ids.service(&key(name)).0), [1, 2, 1, 3]);
        ids.forget_service(&key("a"));
        assert_eq!(ids.service(&key("d")).0, 1);
        assert_eq!(ids.service(&key("a")).0, 4, "no longer its own");
    }
}
