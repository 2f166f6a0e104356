//! What is told of Services and the node when it changes: `tidegate get events`, and Events of the
//! cluster. Start at [`watcher`]: what is new is a pure function of what was and what is.

pub mod event;
pub mod log;
pub mod publisher;
pub mod watcher;

pub use event::{Event, Reason, Subject};
pub use log::EventLog;
pub use publisher::Publisher;
pub use watcher::{Facts, Watcher};
