//! The API server as a source: Services, EndpointSlices and this node's own Node.
//!
//! ```text
//! watch (one per kind) --> gather: what the server says, as one state --> control thread
//!        client, pace                     |
//!                                       kept: the same on disk
//! ```

mod client;
mod gather;
mod keeper;
mod kept;
mod pace;
mod source;
mod told;
mod watch;
mod watched;

pub use client::connect;
pub use source::{KubeSource, Settings};
