//! What a change costs in a large cluster: from the event to the last worker that has read it.

mod bed;
mod cases;
mod cluster;
mod maglev;
mod network;
mod samples;

pub(crate) use bed::resident_mib;
pub(crate) use cases::{Args, run};
pub(crate) use cluster::{Endpoint, parse_service, parse_slice, service, slice};
pub(crate) use network::network;
