//! tidegate against a bare forwarder, the kernel, and programs that many use, on veths between
//! three namespaces.

mod bed;
mod contest;
mod forwarder;
mod measure;
mod point;
mod recording;
mod scenario;
mod search;
mod table;

pub(crate) use bed::conntrack::Conntrack;
pub(crate) use bed::napi::Placement;
pub(crate) use bed::priority::Precedence;
pub(crate) use bed::rig::{self, Link, Rig};
pub(crate) use contest::{Args, forwarders, is_variant, run};
pub(crate) use forwarder::{Forwarder, serving};
pub(crate) use recording::{RecordingArgs, recording};
pub(crate) use scenario::{Scenario, Work};
pub(crate) use table::aim;
