//! The load lab: a generator whose schedule nothing moves, a sink that accounts for each packet,
//! and the search for the no-drop rate between them.

mod bed;
mod files;
mod latency;
mod path;
mod requests;
mod run;
mod search;
mod sink;
mod traffic;
mod trial;
mod wire;

pub(crate) use latency::{Args as LatencyArgs, RequestsArgs, run as run_latency, run_requests};
pub(crate) use run::{Args as LoadArgs, rate, run as run_load};
pub(crate) use search::Found;
pub(crate) use sink::{Args as SinkArgs, run as run_sink};
pub(crate) use trial::{Bound, Latency};
