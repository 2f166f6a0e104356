//! What the tests over crate borders share.

pub mod load;
pub mod setting;
pub mod tidy;
