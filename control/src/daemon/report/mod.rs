//! From the control thread's state to reports.

mod answer;
mod counters;
mod metrics;
mod node;
mod objects;
mod packets;
mod services;
mod status;

pub(crate) use answer::answer;
pub(crate) use counters::{SERVICE_PARTS, series, service_series};
pub(crate) use node::workers;
pub(crate) use status::{status, status_of, tell_systemd};
