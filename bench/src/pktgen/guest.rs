//! Boots the guest, does its sums and tells them.

use super::account::{self, Trial};
use crate::report;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidegate_control::cli::view::table::Table;
use tidegate_control::demo::Interrupt;

/// How to run the guest.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Debian's suite whose kernel boots: bookworm (6.1), trixie (6.12: copy only) or sid
    #[arg(long, default_value = "sid")]
    suite: String,
    /// Packets of each trial; where it has more flows, one for each
    #[arg(long, default_value_t = 5_000)]
    count: u32,
    /// Packets per second of each trial; the guest is emulated, so it is slow
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// `copyMode` of the guest's configuration
    #[arg(long, default_value = "auto", value_parser = ["auto", "copy", "zero-copy"])]
    copy_mode: String,
    /// The daemon's binary; by default the one beside this program
    #[arg(long)]
    tidegate: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        let copy_mode = "auto".into();
        Self { suite: "sid".into(), count: 5_000, rate: 5_000, copy_mode, tidegate: None }
    }
}

/// What is written to the file of results.
#[derive(Debug, Serialize)]
struct Results {
    guest_kernel: String,
    trials: Vec<Trial>,
}

/// Below the folder where the command is run: the repository's root.
const FOLDER: &str = "bench/vm";

/// Runs the guest, prints the sums and writes the results.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    ensure!(
        Path::new(FOLDER).join("run").exists(),
        "there is no {FOLDER}/run here: run this from the repository's root",
    );
    let noise = report::background_load()?;
    let console = boot(args)?;
    interrupt.check()?;
    let trials = account::trials(&console)?;
    let kernel = console.lines().find_map(|line| line.strip_prefix("@@guest "));
    let results = Results { guest_kernel: kernel.unwrap_or("unknown").into(), trials };
    report::print(&table(&results.trials))?;
    report::print(&format!("pktgen and tidegate on kernel {}.\n", results.guest_kernel))?;
    report::write("pktgen", noise, &results)?;
    let open = results.trials.iter().filter(|trial| !trial.is_closed()).count();
    ensure!(open == 0, "{open} trials in which packets are not accounted for");
    Ok(())
}

/// Runs the guest to its end and returns what it said.
fn boot(args: &Args) -> Result<String> {
    let tidegate = match &args.tidegate {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("tidegate"),
    };
    ensure!(
        tidegate.exists(),
        "there is no {}: type make bench-pktgen, which builds it, or give --tidegate",
        tidegate.display(),
    );
    let settings = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let Args { count, rate, copy_mode, .. } = args;
    fs::write(settings.path(), format!("COUNT={count}\nRATE={rate}\nCOPY_MODE={copy_mode}\n"))?;
    let files = format!(
        "configs/pktgen/nodeport:nodeport {FOLDER}/cluster.yaml:cluster.yaml \
         {FOLDER}/tidegate.yaml:tidegate.yaml {}:settings",
        settings.path().display(),
    );
    let mut guest = Command::new(format!("{FOLDER}/run"))
        .arg(format!("{FOLDER}/pktgen"))
        .env("SUITE", &args.suite)
        .env("PROGRAMS", format!("nft sysctl {}", tidegate.display()))
        .env("MODULES", "pktgen nf_tables veth sch_ingress cls_bpf")
        .env("FILES", files)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {FOLDER}/run"))?;
    let stdout = guest.stdout.take().context("the guest's console")?;
    let console = follow(stdout)?;
    let status = guest.wait()?;
    ensure!(
        status.success(),
        "the guest failed ({status}); what it needs comes by .ci/setup-bench. It said:\n{console}"
    );
    Ok(console)
}

/// Reads the console; trials are told as they begin to be counted.
fn follow(console: impl std::io::Read) -> Result<String> {
    let mut text = String::new();
    for line in BufReader::new(console).lines() {
        let line = line.context("read the guest's console")?;
        if let Some(trial) = line.strip_prefix("@@sent ") {
            report::progress(&format!("pktgen: sent to {trial} flows"));
        }
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

fn table(trials: &[Trial]) -> String {
    let mut table = Table::new(&[
        "NODE",
        "PORT",
        "POLICY",
        "FLOWS",
        "MODE",
        "QUEUES",
        "KPPS",
        "SENT",
        "FORWARDED",
        "DROPPED",
        "ARRIVED",
        "CLOSES",
    ]);
    for trial in trials {
        table.row([
            trial.node.clone(),
            trial.node_port.to_string(),
            trial.policy.clone(),
            trial.flows.to_string(),
            trial.copy_mode.clone(),
            trial.queues.to_string(),
            format!("{:.1}", account::kpps(trial)),
            trial.sent.to_string(),
            trial.forwarded.to_string(),
            trial.dropped_words(),
            trial.arrived.to_string(),
            if trial.is_closed() { "yes".into() } else { "NO".into() },
        ]);
    }
    table.render(true) + "\n"
}
