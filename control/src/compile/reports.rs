//! The reports on all service ports, renewed Service by Service.

use super::ServiceReport;
use crate::model::ObjectKey;
use std::collections::BTreeMap;
use tidegate_dataplane::types::ServiceId;

/// What became of each service port, by namespace, name and port.
#[derive(Debug, Default)]
pub struct Reports {
    by_service: BTreeMap<ObjectKey, Vec<ServiceReport>>,
    services: BTreeMap<ServiceId, ObjectKey>,
    /// Not of one compilation, as the reports are, but of all.
    moved_slots: BTreeMap<ServiceId, u64>,
}

impl Reports {
    /// All of them, sorted by namespace, name and port.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceReport> {
        self.by_service.values().flatten()
    }

    /// The numbers of all service ports.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> {
        self.services.keys().copied()
    }

    /// The number of service ports.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Those of one Service.
    pub fn of_service(&self, service: &ObjectKey) -> &[ServiceReport] {
        self.by_service.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// That of one service port.
    pub fn of(&self, id: ServiceId) -> Option<&ServiceReport> {
        self.of_service(self.services.get(&id)?).iter().find(|report| report.id == id)
    }

    /// Entries of a service port's Maglev tables that got another backend since it came.
    pub fn moved_slots(&self, id: ServiceId) -> u64 {
        self.moved_slots.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn add_moved_slots(&mut self, id: ServiceId, count: u64) {
        if count > 0 {
            *self.moved_slots.entry(id).or_default() += count;
        }
    }

    /// The Service that a service port belongs to.
    pub(super) fn service(&self, id: ServiceId) -> Option<&ObjectKey> {
        self.services.get(&id)
    }

    /// Renews those of one Service; none: it is gone.
    pub(super) fn set(&mut self, service: &ObjectKey, reports: Vec<ServiceReport>) {
        for report in &reports {
            self.services.insert(report.id, service.clone());
        }
        let is_gone = reports.is_empty();
        let before = self.by_service.insert(service.clone(), reports).unwrap_or_default();
        for report in before {
            if self.of(report.id).is_none() {
                self.services.remove(&report.id);
                self.moved_slots.remove(&report.id);
            }
        }
        if is_gone {
            self.by_service.remove(service);
        }
    }
}
