//! Why a configuration was refused.

use std::fmt;
use std::path::PathBuf;

/// A configuration that cannot be used. Text is a fragment that fits "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Not YAML, an unknown field or a value of the wrong form; with line, column and snippet.
    #[error("parse {}: {text}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, source snippet and the allowed names.
        text: String,
    },
    /// Each value is well formed, but they do not fit together or lie out of range.
    #[error("accept {}:{}", path.display(), list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All of them, in the order of the file's fields.
        problems: Vec<Problem>,
    },
}

/// One value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field's path, as `loadBalancer.maglev.tableSize`.
    pub field: String,
    /// What is wrong with it and what would be right: fits after the field's name.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.reason)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |text, problem| text + "\n  " + &problem.to_string())
}
