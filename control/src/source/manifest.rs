//! From a manifest's text to objects of the model, each with its place.

use super::error::SourceError;
use crate::model::{ClusterState, Object};
use std::path::Path;

/// An object and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    object: Object,
}

/// The objects of a file.
///
/// # Errors
/// With line and reason.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Placed>, SourceError> {
    let _ = (file, text);
    Ok(Vec::new())
}

/// The state made of all objects.
///
/// # Errors
/// Two Services claim one node port.
pub(super) fn assemble(placed: Vec<Placed>) -> Result<ClusterState, SourceError> {
    ClusterState::try_new(placed.into_iter().map(|p| p.object)).map_err(|clash| SourceError {
        path: Path::new("").to_owned(),
        line: None,
        reason: clash.to_string(),
    })
}
