//! A network namespace that is removed with its guard.

use super::command::{RigError, output_of, run};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "/run/netns";

/// A named network namespace; removed, with all processes inside, on drop.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    is_kept: bool,
}

impl NetNs {
    /// Makes the namespace `name`, with its loopback up.
    ///
    /// # Errors
    /// It exists already, or we are not root.
    pub fn create(name: &str) -> Result<Self, RigError> {
        run(&format!("ip netns add {name}"))?;
        let netns = Self { name: name.to_owned(), is_kept: false };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does not remove the namespace on drop.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Runs `ip ARGUMENTS` for this namespace and returns its output.
    ///
    /// # Errors
    /// The command fails.
    pub fn ip(&self, arguments: &str) -> Result<String, RigError> {
        run(&format!("ip -n {} {arguments}", self.name))
    }

    /// Runs a command line, split at blanks, inside and returns its output.
    ///
    /// # Errors
    /// The command fails.
    pub fn run(&self, line: &str) -> Result<String, RigError> {
        let mut words = line.split_whitespace();
        output_of(self.command(words.next().unwrap_or_default()).args(words))
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Sets a kernel parameter inside, for example `net.ipv4.ip_forward=1`.
    ///
    /// # Errors
    /// There is no such parameter, or the value is refused.
    pub fn sysctl(&self, setting: &str) -> Result<(), RigError> {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let write = || fs::write(&path, value);
        let result = self.enter(write)?;
        result.map_err(|source| RigError::File { path, source })
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for it. Sockets that it
    /// opens belong to the namespace.
    ///
    /// # Errors
    /// The namespace is gone, or we are not root.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, RigError> {
        let path = self.path();
        let inside = || -> std::io::Result<T> {
            let file = fs::File::open(&path)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        let joined = std::thread::scope(|scope| scope.spawn(inside).join());
        let result = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map_err(|source| RigError::File { path: path.display().to_string(), source })
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = remove(&self.name) {
            tracing::warn!(netns = self.name, %error, "namespace left behind");
        }
    }
}

fn remove(name: &str) -> Result<(), RigError> {
    let pids = run(&format!("ip netns pids {name}"))?;
    let pids = pids.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?));
    for pid in pids {
        // It may have ended by itself since we asked.
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!(?pid, %error, "not killed");
        }
    }
    run(&format!("ip netns del {name}")).map(drop)
}

/// Removes namespaces, with all processes inside, and temporary folders that begin with `kind` and
/// belong to a process that is gone. Returns their names. Names are `KIND-PID-...`.
///
/// # Errors
/// One of them cannot be removed.
pub fn remove_leftovers(kind: &str) -> Result<Vec<String>, RigError> {
    let mut names = orphans(Path::new(FOLDER), kind);
    names.iter().try_for_each(|name| remove(name))?;
    let temporary = std::env::temp_dir();
    for name in orphans(&temporary, kind) {
        let path = temporary.join(&name);
        let removed = fs::remove_dir_all(&path);
        removed.map_err(|source| RigError::File { path: path.display().to_string(), source })?;
        names.push(name);
    }
    Ok(names)
}

fn orphans(folder: &Path, kind: &str) -> Vec<String> {
    // No such folder: nothing was ever made there.
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_orphan(name, kind)).collect()
}

fn is_orphan(name: &str, kind: &str) -> bool {
    let rest = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
    let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_have_orphans() {
        let alive = std::process::id();
        assert!(!is_orphan(&format!("tidegate-demo-{alive}-0-client"), "tidegate-demo"));
        // Beyond the largest pid that Linux gives out.
        assert!(is_orphan("tidegate-demo-4194305-0-client", "tidegate-demo"));
        assert!(!is_orphan("tidegate-demo-4194305-0-client", "tidegate-test"));
        assert!(!is_orphan("tidegate-demo-client", "tidegate-demo"));
        assert!(!is_orphan("another", "tidegate-demo"));
    }
}
