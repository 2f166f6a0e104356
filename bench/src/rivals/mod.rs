//! tidegate against a bare forwarder and against the kernel, on veths between three namespaces.

mod contest;
mod cpu;
mod forwarder;
mod measure;
mod napi;
mod priority;
mod recording;
pub(crate) mod rig;
mod table;

pub(crate) use contest::{Args, forwarders, run};
pub(crate) use forwarder::{Forwarder, Session};
pub(crate) use napi::{Placement, receive_on};
pub(crate) use priority::Precedence;
pub(crate) use recording::{RecordingArgs, recording};
pub(crate) use rig::{Link, Rig};
