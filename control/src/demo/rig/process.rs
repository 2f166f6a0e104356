//! A child process that ends with its guard.

use super::RigError;
use super::command::line_of;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A running child. On drop it gets SIGTERM, and SIGKILL if it does not end within 5 s.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
    command: String,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> Result<Self, RigError> {
        let text = line_of(&command);
        let started = command.stdin(Stdio::null()).spawn();
        let child = started.map_err(|source| RigError::Start { command: text.clone(), source })?;
        Ok(Self { child: Some(child), command: text })
    }

    /// Starts `command` and returns when it has written `line` as its first line; it ends, or
    /// writes, before it hangs: our own servers bind and tell, or fail.
    ///
    /// # Errors
    /// It cannot be started, or its first line is another, or none.
    pub fn start_and_await_line(mut command: Command, line: &str) -> Result<Self, RigError> {
        command.stdout(Stdio::piped());
        let mut process = Self::start(command)?;
        let stdout = process.child.as_mut().and_then(|child| child.stdout.take());
        let mut first = String::new();
        let read = stdout.map(|pipe| BufReader::new(pipe).read_line(&mut first));
        if let Some(Err(source)) = read {
            return Err(RigError::Start { command: process.command.clone(), source });
        }
        if first.trim_end() == line {
            return Ok(process);
        }
        let source = std::io::Error::other(format!("it said {first:?} instead of {line:?}"));
        Err(RigError::Start { command: process.command.clone(), source })
    }

    /// Its process number; 0 after it was kept.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Kills it at once (SIGKILL), as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        let Some(child) = self.child.as_mut() else { return };
        let result = child.kill().and_then(|()| child.wait());
        if let Err(error) = result {
            tracing::debug!(command = self.command, %error, "not killed");
        }
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            tracing::debug!(command = self.command, %error, "not terminated");
        }
    }

    /// Ends it: SIGTERM, and SIGKILL after 5 s. `None` if it had to be killed.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        self.terminate();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        None
    }

    /// Lets it live on.
    pub fn keep(mut self) {
        self.child = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() && self.stop().is_none() {
            tracing::warn!(command = self.command, "had to be killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_first_line_is_awaited() {
        let mut process =
            Process::start_and_await_line(shell("echo ready; exec sleep 60"), "ready").unwrap();
        assert_eq!(process.ended(), None);
        assert!(process.stop().is_some());
    }

    #[test]
    fn another_line_or_none_is_an_error() {
        for script in ["echo no", "exit 1"] {
            assert!(Process::start_and_await_line(shell(script), "ready").is_err());
        }
    }
}
