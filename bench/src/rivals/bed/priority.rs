//! Generator, forwarder and the receiving threads go before other work on the machine, and none of
//! them before another.

use anyhow::{Context as _, Result};
use rustix::process::setpriority_process;
use std::fs;

/// What `nice` may give at most, less one.
pub(crate) const NICENESS: i32 = -19;

/// Where the kernel groups processes by terminal session, niceness counts within a group only, and
/// the group has its own.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// This process goes first until it is dropped: the group outlives us.
#[derive(Debug)]
pub(crate) struct Precedence {
    group_before: Option<String>,
}

impl Precedence {
    /// Takes it for this thread and those that it will start.
    pub(crate) fn take() -> Result<Self> {
        setpriority_process(None, NICENESS).context("raise our priority")?;
        let group = fs::read_to_string(AUTOGROUP).ok();
        let niceness = group.as_ref().and_then(|text| text.split_whitespace().nth(2));
        let group_before = niceness.map(str::to_owned);
        if group_before.is_some() {
            fs::write(AUTOGROUP, NICENESS.to_string()).context("raise our session's priority")?;
        }
        Ok(Self { group_before })
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Some(niceness) = &self.group_before {
            // Refused, it only stays as it is until the session ends.
            fs::write(AUTOGROUP, niceness).ok();
        }
    }
}
