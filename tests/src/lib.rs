//! What the tests over crate borders share.

pub mod bystander;
pub mod lab;
pub mod load;
pub mod setting;
pub mod tidy;
