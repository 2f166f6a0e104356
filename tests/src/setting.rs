//! What a test in namespaces needs before it can begin.

use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The ports of every pod's servers.
pub const POD_HTTP: u16 = 5000;
/// See [`POD_HTTP`].
pub const POD_UDP: u16 = 5001;

/// The real `tidegate`, as cargo built it beside this test: `$TIDEGATE_BINARY` if set, else
/// `../tidegate` as seen from the test's own program.
///
/// # Errors
/// It was not built.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("TIDEGATE_BINARY") {
        Some(path) => PathBuf::from(path),
        None => beside_the_test()?,
    };
    let hint = "build it first: cargo build -p tidegate-control (make test does)";
    ensure!(path.is_file(), "there is no {}; {hint}", path.display());
    Ok(path)
}

fn beside_the_test() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(|deps| deps.parent());
    Ok(folder.context("find target/debug")?.join("tidegate"))
}

/// One test in namespaces at a time on this machine: they share its cores. Waits for its turn; the
/// turn ends when the file is dropped.
///
/// # Errors
/// We are not root, which every test in namespaces needs.
pub fn take_turn() -> Result<File> {
    let path = "/run/tidegate-tests.lock";
    let file = File::create(path);
    let file = file.with_context(|| format!("create {path}: run as root (make test does)"))?;
    file.lock()?;
    Ok(file)
}

/// Asks `is_so` again and again until it says yes.
///
/// # Errors
/// It does not within `max`.
pub fn wait_until(what: &str, max: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + max;
    while Instant::now() < deadline {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("{what}: not within {max:?}")
}

/// KiB of a process's memory that are resident.
///
/// # Errors
/// There is no such process.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("VmRSS of process {pid}"))?.parse()?)
}
