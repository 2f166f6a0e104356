//! Where Services come from: files, or the API server. Both feed the model.

mod any;
mod document;
mod error;
mod event;
mod file;
pub mod kubernetes;
mod locate;
mod manifest;

pub use any::Source;
pub use error::{ManifestError, SourceError};
pub use event::{NodePresence, SourceEvent, SourceNotes};
pub use file::{FileSource, load_once};
