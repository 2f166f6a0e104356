//! TCP beyond addresses: packets of flows that we do not know.

pub(super) mod mid_flow;
pub(super) mod reset;
pub(super) mod segment;
