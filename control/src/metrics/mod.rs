//! `/metrics`: what is counted (`daemon/report/metrics`), and the forms in which it leaves
//! ([`exposition`]). Counters live where they are counted, on workers and in the kernel; a scrape
//! reads them and makes [`family::Family`]s. Each name is listed in `docs/metrics.md`.

pub mod distribution;
pub mod exposition;
pub mod family;
pub mod sync;
