//! What the tests over crate borders share.

pub mod tidy;
