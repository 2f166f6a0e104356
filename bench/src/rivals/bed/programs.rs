//! Other people's programs, where `.ci/setup-bench` has unpacked them.

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_control::demo::rig::NetNs;

/// Below the folder where the command is run: the repository's root.
const FOLDER: &str = "target/rivals";

/// Debian's folders of libraries there.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A command that will run the unpacked `program` (its path in the package) inside `netns`.
///
/// # Errors
/// It was not unpacked.
pub(crate) fn command(netns: &NetNs, program: &str) -> Result<Command> {
    command_by(netns, &["env"], program)
}

/// As [`command`], by way of another program and its arguments.
///
/// # Errors
/// It was not unpacked.
pub(crate) fn command_by(netns: &NetNs, way: &[&str], program: &str) -> Result<Command> {
    let path = folder()?.join(program);
    ensure!(
        path.exists(),
        "{} is missing: unpack it with `bash .ci/setup-bench`, or choose others with --only",
        path.display()
    );
    let folders = libraries()?.map(|folder| folder.display().to_string());
    let mut command = netns.command(way.first().copied().unwrap_or("env"));
    command.args(way.get(1..).unwrap_or_default()).arg(path);
    command.env("LD_LIBRARY_PATH", folders.join(":"));
    Ok(command)
}

/// The folders of their libraries.
pub(crate) fn libraries() -> Result<[PathBuf; 2]> {
    let folder = folder()?;
    Ok(LIBRARIES.map(|name| folder.join(name)))
}

fn folder() -> Result<PathBuf> {
    Ok(std::path::absolute(Path::new(FOLDER))?)
}
