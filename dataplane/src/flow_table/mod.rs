//! The live flows of one worker (T4): bounded, no allocation after start, two keys per flow.

pub mod directory;
mod embryonic;
pub mod entry;
mod expiry;
pub mod hash;
mod index;
pub mod proxy;
mod snat;
pub mod table;
pub mod tcp;

pub use directory::OwnerDirectory;
pub use entry::{Direction, FlowEntry, FlowKind, NewFlow, TranslationV4};
pub use hash::HashKey;
pub use index::Reference;
pub use proxy::Proxy;
pub use snat::{SHARE_ONE, SnatPort, SnatRequest, SourcePorts};
pub use table::{FlowId, FlowMapChanges, FlowTable, FlowTableConfig};
pub use tcp::{FlowState, TimeoutTable};
