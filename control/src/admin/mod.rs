//! The admin interface: HTTP over a UNIX socket. One schema ([`report`]) serves HTTP and
//! `-o json`. The server holds no state: it asks the control thread by messages ([`query`]).

pub mod client;
mod event_report;
mod handshake_report;
mod latency;
pub mod query;
pub mod report;
pub mod server;
mod wording;
mod worker_report;

pub use client::{Client, ClientError};
pub use event_report::EventReport;
pub use query::{Mailbox, Query};
