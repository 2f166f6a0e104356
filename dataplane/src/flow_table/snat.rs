//! Source ports for masquerading (T5): a port is free if no live flow of ours has the reply tuple
//! that it would make. So a port is reused across different backends, and rests as long as its
//! last flow's TIME_WAIT entry lives.

use crate::flow_table::FlowTable;
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};

/// Ports tried, from a random one on, before the slice counts as used up. With 90 % of a slice in
/// use towards one backend the chance to miss a free one is 10^-6.
const TRIES_MAX: u32 = 128;

/// What a port is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct SnatRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The chosen backend.
    pub backend: (IpAddress, L4Port),
    /// The node's address that the backend will see.
    pub address: IpAddress,
}

impl FlowTable {
    /// The reply tuple with a free port of this worker's slice, or `None` if none was found.
    pub fn find_snat(&mut self, request: &SnatRequest) -> Option<FlowKey> {
        let range = self.config.source_ports;
        let start = self.random.below(range.count());
        (0..TRIES_MAX.min(range.count())).find_map(|step| {
            let offset = (start + step) % range.count();
            let number = u16::try_from(u32::from(range.first()) + offset).ok()?;
            let destination = (request.address, L4Port::new(number));
            let reply = FlowKey::new(request.protocol, request.backend, destination);
            self.find(&reply, self.hash(&reply)).is_none().then_some(reply)
        })
    }
}
