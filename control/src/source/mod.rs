//! Where Services come from: files here, the API server in a later release. Both feed the model.

mod document;
mod error;
mod file;
mod locate;
mod manifest;

pub use error::SourceError;
pub use file::{FileSource, SourceEvent, load_once};
