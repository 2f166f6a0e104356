//! Running other programs, with errors that say which one and what it said.

use std::process::{Command, Stdio};

/// Why the rig could not do what was asked. Text is a fragment that fits "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The program is not there, or may not be run.
    #[error("start `{command}`")]
    Start {
        /// The whole command line.
        command: String,
        /// The kernel's words.
        #[source]
        source: std::io::Error,
    },
    /// It ran and was not content.
    #[error("run `{command}` ({status}): {stderr}")]
    Run {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// A file of the rig.
    #[error("use {path}")]
    File {
        /// Which.
        path: String,
        /// The kernel's words.
        #[source]
        source: std::io::Error,
    },
    /// Something did not happen in time.
    #[error("see that {what} within {seconds} s{log}")]
    Late {
        /// What should have been.
        what: String,
        /// The limit.
        seconds: u64,
        /// The end of the log of whom we waited for, with a line break before it; may be empty.
        log: String,
    },
}

/// Runs a command line, split at blanks, and returns its standard output.
///
/// # Errors
/// It cannot be started, or it ends with another status than 0.
pub fn run(line: &str) -> Result<String, RigError> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    output_of(command.args(words))
}

/// Runs `command` to its end and returns its standard output.
pub(super) fn output_of(command: &mut Command) -> Result<String, RigError> {
    let text = line_of(command);
    let started = command.stdin(Stdio::null()).output();
    let output = started.map_err(|source| RigError::Start { command: text.clone(), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(RigError::Run { command: text, status: output.status, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line, for messages.
pub(super) fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let text = run("ls --no-such-option").unwrap_err().to_string();
        assert!(text.contains("ls --no-such-option") && text.contains("unrecognized"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let text = run("no-such-program -x").unwrap_err().to_string();
        assert_eq!(text, "start `no-such-program -x`");
    }
}
