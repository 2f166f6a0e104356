//! `demo --keep` and `demo --remove`.

use super::rig::{GATEWAY, NetNs, remove_leftovers};
use super::site::{HTTP_CLUSTER, HTTP_LOCAL, Site};
use anyhow::Result;
use std::io::{Write as _, stdout};

/// Leaves the site running and tells what to try with it.
pub(super) fn keep(site: Site) -> Result<()> {
    let program = std::env::current_exe()?.display().to_string();
    let inside = |netns: &NetNs| format!("sudo ip netns exec {}", netns.name());
    let client = inside(site.topology().client());
    let gateway = inside(site.topology().gateway());
    let (socket, manifests) = (site.files().socket(), site.files().manifests());
    let (socket, manifests) = (socket.display(), manifests.display());
    let lines = [
        format!("{client} curl http://{GATEWAY}:{HTTP_CLUSTER}/"),
        format!("{client} curl http://{GATEWAY}:{HTTP_LOCAL}/"),
        format!("sudo {program} --socket {socket} status"),
        format!("sudo {program} --socket {socket} get backends"),
        format!("sudo {program} --socket {socket} get drops"),
        format!("sudoedit {manifests}/frontend-3.yaml"),
        format!("{gateway} ip route"),
        format!("sudo {program} demo --remove"),
    ];
    writeln!(stdout(), "\n== all of it is left running; try\n   {}", lines.join("\n   "))?;
    site.keep();
    Ok(())
}

/// Removes what `--keep` left.
pub(super) fn remove() -> Result<()> {
    for name in remove_leftovers("tidegate-demo")? {
        writeln!(stdout(), "removed {name}")?;
    }
    Ok(())
}
