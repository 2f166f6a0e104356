//! Instructions per packet, counted by callgrind (valgrind): unlike times, they are the same on
//! every machine and under any load. This program runs itself under it.

use super::bed::Until;
use super::hits::Case;
use crate::numbers::float;
use anyhow::{Context as _, Result, ensure};
use std::process::Command;

/// The function whose instructions are counted, with all that it calls.
const COUNTED: &str = "*pipeline_alone*";

/// Cases with more flows are not counted: under valgrind, to begin them takes minutes, and a flow
/// more costs no instruction.
const FLOWS_MAX: u32 = 10_000;

/// Whether valgrind can be run.
pub(super) fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Instructions per packet of case `number`; `None` where there are too many flows.
pub(super) fn count(number: usize, case: &Case) -> Result<Option<f64>> {
    if !case.is_new && case.plan.flows > FLOWS_MAX {
        return Ok(None);
    }
    let (from, to) = case.part;
    let less = if from == Until::Written { 0.0 } else { counted(number, from)? };
    Ok(Some(counted(number, to)? - less))
}

fn counted(number: usize, until: Until) -> Result<f64> {
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(program)
        .args(["memory", "--count-case", &number.to_string(), "--count-until", until.name()])
        .output()
        .context("run valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {told}");
    let line = told.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = line.with_context(|| format!("find the count in: {told}"))?;
    let packets = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    ensure!(packets > 0, "no packet was counted");
    Ok(float(count.trim().parse()?) / float(packets))
}
