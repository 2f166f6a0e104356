//! Every packet towards the gateway on a queue by chance, so that replies, fragments and ICMP
//! errors arrive at the wrong worker about every other time.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tidegate_control::demo::rig::Topology;

/// The socket mark of a sender that wants the gateway's queue 0; the next one is for queue 1.
pub(crate) const CHOSEN_QUEUE_MARK: u32 = 0x7180;

/// The tc program, for the sending ends of two-queue veths.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/shuffle.bpf.c");

/// Where the kernel's headers for this machine are, on Debian; clang's BPF target does not look.
const HEADERS: &str = "/usr/include/x86_64-linux-gnu";

/// From now on shuffles what the rig's client, node2 and local pods send to the gateway.
///
/// # Errors
/// clang or tc is missing, or the kernel refuses the program.
pub fn shuffle(rig: &Topology) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let object = compile(&folder)?;
    for (netns, device) in rig.far_ends() {
        netns.run(&format!("tc qdisc add dev {device} clsact"))?;
        let filter = format!("tc filter add dev {device} egress bpf da obj {}", object.display());
        netns.run(&format!("{filter} sec classifier"))?;
    }
    Ok(())
}

fn compile(folder: &TempDir) -> Result<Box<Path>> {
    let object = folder.path().join("shuffle.bpf.o");
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-I", HEADERS, "-c", SOURCE]);
    let output = clang.arg("-o").arg(&object).output().context("start clang")?;
    ensure!(output.status.success(), "clang: {}", String::from_utf8_lossy(&output.stderr));
    Ok(object.into())
}
