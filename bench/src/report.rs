//! Where results go: a table to standard output, JSON with its circumstances to a file.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Not kept by git. Below the folder where the command is run: the repository's root.
pub(crate) const FOLDER: &str = "bench/results";

/// What a number is worth nothing without.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) profile: String,
    /// CPUs' worth of other work just before.
    pub(crate) background_cpus: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a, T> {
    environment: Environment,
    results: &'a T,
}

/// What marks a figure whose limit was something else than the tested.
pub(crate) fn star(is_bound: bool) -> &'static str {
    if is_bound { " *" } else { "" }
}

/// A folder's name below that of the results, after what it holds and the time.
pub(crate) fn dated(name: &str) -> String {
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("{name}-{}", date.trim_end_matches('Z').replace(':', "-"))
}

/// Where a folder or file of results is.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Writes `results` to `bench/results/NAME.json`.
pub(crate) fn write<T: Serialize>(name: &str, background_cpus: f64, results: &T) -> Result<()> {
    let environment = environment(background_cpus)?;
    print(&format!(
        "{}, {} CPUs, kernel {}, commit {}, {}, {} build\n",
        environment.cpu,
        environment.cpus,
        environment.kernel,
        environment.commit,
        environment.date,
        environment.profile,
    ))?;
    let path = path(&format!("{name}.json"));
    let folder = path.parent().unwrap_or(Path::new(FOLDER));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(&Report { environment, results })?;
    fs::write(&path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    print(&format!("Written to {}.\n", path.display()))
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// Tells the watcher how far it is.
pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}

/// How many CPUs' worth of work the machine does by itself now.
pub(crate) fn background_load() -> Result<f64> {
    let before = busy()?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    Ok((busy()?.saturating_sub(before)).as_secs_f64() / start.elapsed().as_secs_f64())
}

/// CPU time of everybody since boot: user, nice, system, irq and softirq of `/proc/stat`.
fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum();
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

fn environment(background_cpus: f64) -> Result<Environment> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(Environment {
        cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
        cpus: std::thread::available_parallelism()?.get(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        commit: commit(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        profile: if cfg!(debug_assertions) { "unoptimized" } else { "release" }.into(),
        background_cpus,
    })
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let output = output.ok().filter(|output| output.status.success());
    let name = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.unwrap_or_else(|| "unknown".into())
}
