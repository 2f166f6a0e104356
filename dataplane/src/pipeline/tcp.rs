//! TCP beyond addresses: packets of flows that we do not know, and handshakes in the backend's
//! place.

pub(super) mod mid_flow;
pub(super) mod numbers;
mod options;
pub(super) mod reset;
pub(super) mod segment;
pub(super) mod syn_proxy;
pub(super) mod translate;
