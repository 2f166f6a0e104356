//! Why a source cannot be used.

use std::fmt;
use std::path::PathBuf;

/// What a source cannot use or reach. Text is a fragment that fits "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The API server is away, or refuses.
    #[error("{what}: {words}")]
    Server {
        /// What was asked of which server, as `watch Services at https://10.96.0.1`.
        what: String,
        /// The server's or the connection's own words, and what to type where that is known.
        words: String,
    },
}

/// A manifest that cannot be used. Text is a fragment that fits "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {}{}: {reason}", path.display(), Place(*line))]
pub struct ManifestError {
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
