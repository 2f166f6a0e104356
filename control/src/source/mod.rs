//! Where Services come from: files here, the API server in a later release. Both feed the model.

mod document;
mod error;
mod event;
mod file;
mod locate;
mod manifest;

pub use error::SourceError;
pub use event::SourceEvent;
pub use file::{FileSource, load_once};
