//! From the control thread's state to metrics, one file per subject. Start at [`scrape`].

mod host;
mod interfaces;
mod packets;
mod scrape;
mod services;
mod sync;
mod workers;

pub(crate) use scrape::{scrape, scrape_services};
