//! Errors as operators read them, in four parts: what failed, the kernel's own words, what we
//! have, what to type. And the exit codes that scripts and systemd read.

use core::fmt;
use std::process::ExitCode;

/// What the process exits with where something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Failed.
    Failed = 1,
    /// The command line makes no sense; what clap finds by itself exits so too.
    Usage = 2,
    /// The daemon is not reachable, or the host cannot do what was asked.
    Unavailable = 69,
    /// A capability is missing. systemd does not restart on it.
    NoPermission = 77,
    /// The configuration is invalid. systemd does not restart on it.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What failed: fits "error: ...".
    pub what: String,
    /// The kernel's or the parser's own words.
    pub kernel: Option<String>,
    /// What was found here.
    pub have: Option<String>,
    /// What to type.
    pub fix: Option<String>,
    /// What the process exits with.
    pub exit: Exit,
}

impl Fault {
    /// A fault with its first part alone.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { what: what.into(), kernel: None, have: None, fix: None, exit }
    }

    /// A fault from any error, its chain of sources on one line.
    pub fn from_error(exit: Exit, what: &str, error: &dyn core::error::Error) -> Self {
        Self::new(exit, format!("failed to {what}")).kernel(chain(error))
    }

    /// Adds the kernel's own words.
    #[must_use]
    pub fn kernel(mut self, words: impl Into<String>) -> Self {
        self.kernel = Some(words.into());
        self
    }

    /// Adds what was found here.
    #[must_use]
    pub fn have(mut self, found: impl Into<String>) -> Self {
        self.have = Some(found.into());
        self
    }

    /// Adds what to type.
    #[must_use]
    pub fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        let parts = [("kernel", &self.kernel), ("have", &self.have), ("fix", &self.fix)];
        for (name, text) in parts {
            if let Some(text) = text {
                write!(f, "\n  {:<8}{}", format!("{name}:"), text.replace('\n', "\n          "))?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for Fault {}

/// An error and its sources, joined by colons. A source that the error's own text repeats is
/// left out.
pub fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_four_parts_and_no_empty_one() {
        let fault = Fault::new(Exit::Failed, "cannot attach XDP to eth1 in native mode")
            .kernel("veth: Peer MTU is too large to set XDP (ERANGE)")
            .fix("ip link set eth1 mtu 3498");
        let expected = "error: cannot attach XDP to eth1 in native mode\n\
                        \x20 kernel: veth: Peer MTU is too large to set XDP (ERANGE)\n\
                        \x20 fix:    ip link set eth1 mtu 3498";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to read the file")]
        struct Outer(#[source] std::io::Error);
        let outer = Outer(std::io::Error::other("disk gone"));
        assert_eq!(chain(&outer), "failed to read the file: disk gone");
    }
}
