//! How reports leave: data to stdout, in the form that was asked for.

use crate::fault::{Exit, Fault};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write as _};

/// Forms of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide screens: more columns.
    Wide,
    /// JSON, as the admin interface gives it.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Stdout cannot be written, a full disk for example.
pub fn print(text: &str) -> Result<(), Fault> {
    print_on(text).map(drop)
}

/// Writes to stdout, of which there may be more. Whether anybody still reads.
///
/// # Errors
/// As [`print()`].
pub fn print_on(text: &str) -> Result<bool, Fault> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::from_error(Exit::Failed, "write to stdout", &error))
        }
        written => Ok(written.is_ok()),
    }
}

/// A report as JSON, indented, with a final newline.
///
/// # Errors
/// None in practice: reports hold nothing that JSON cannot.
pub fn to_json<T: Serialize>(report: &T) -> Result<String, Fault> {
    let text = serde_json::to_string_pretty(report);
    let text = text.map_err(|error| Fault::from_error(Exit::Failed, "write JSON", &error))?;
    Ok(text + "\n")
}

/// A report as YAML.
///
/// # Errors
/// None in practice: reports hold nothing that YAML cannot.
pub fn to_yaml<T: Serialize>(report: &T) -> Result<String, Fault> {
    serde_saphyr::to_string(report)
        .map_err(|error| Fault::from_error(Exit::Failed, "write YAML", &error))
}
