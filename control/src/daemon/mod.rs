//! `tidegate run`: the control thread. It watches manifests and the kernel, compiles what they
//! say, attaches and publishes, and answers the admin socket. It never touches a packet.
//! Start at [`control`]: its loop is the whole.

pub mod accounting;
pub mod attachments;
mod banner;
pub mod control;
pub mod host;
pub mod meter;
mod reload;
mod report;
pub mod reserved_ports;
mod run;
mod signals;
pub mod tally;

pub use banner::start_log;
pub use run::{Options, run};
