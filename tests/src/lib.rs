//! What the tests over crate borders share.

pub mod api_server;
pub mod bystander;
pub mod differential;
pub mod flood;
pub mod kube_lab;
pub mod lab;
pub mod load;
pub mod manifests;
pub mod objects;
pub mod oracle;
pub mod probe;
pub mod replay;
pub mod setting;
pub mod shuffle;
pub mod soak;
pub mod spread;
pub mod steady;
pub mod tidy;
pub mod watching;
