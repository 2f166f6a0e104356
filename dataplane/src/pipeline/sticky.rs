//! ClientIP affinity, as a new flow meets it (semantics F11-F17).

use crate::affinity::{AffinityTable, Client};
use crate::flow_table::FlowTable;
use crate::snapshot::{Backend, BackendSet, ServicePort};
use crate::types::{FlowKey, IpAddress, L4Port, Time};
use core::time::Duration;

/// A client that is held to the backend of its last new flow.
#[derive(Debug)]
pub(super) struct Sticky<'t> {
    table: &'t AffinityTable,
    client: Client,
    timeout: Duration,
    now: Time,
}

impl<'t> Sticky<'t> {
    /// `None` where the service wants no affinity.
    pub(super) fn new(
        table: &'t AffinityTable,
        flows: &FlowTable,
        service: &ServicePort,
        key: &FlowKey,
        now: Time,
    ) -> Option<Self> {
        let timeout = service.affinity_timeout?;
        let number = IpAddress::v4(service.id.0.to_be_bytes());
        let none = L4Port::default();
        let hash = flows.hash(&FlowKey::new(key.protocol, (key.src, none), (number, none)));
        let client = Client { address: key.src, service: service.id, hash };
        Some(Self { table, client, timeout, now })
    }

    /// The remembered backend, if new flows may still get it: one outside the set in use does not
    /// count, and is forgotten by the choice that follows (semantics F14, F15).
    pub(super) fn recall<'s>(&self, backends: &'s BackendSet) -> Option<&'s Backend> {
        let (address, port) = self.table.recall(&self.client, self.now, self.timeout)?;
        backends.find(address, port)
    }

    /// Every new flow counts anew (semantics F13).
    pub(super) fn remember(&self, backend: &Backend) {
        self.table.remember(&self.client, (backend.address, backend.port), self.now);
    }
}
