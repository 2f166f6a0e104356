//! Why manifests were refused.

use std::fmt;
use std::path::PathBuf;

/// A manifest that cannot be used. Text is a fragment that fits "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {}{}: {reason}", path.display(), Place(*line))]
pub struct SourceError {
    /// The file or folder.
    pub path: PathBuf,
    /// The line, from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

struct Place(Option<u64>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}
