//! `demo --keep` and `demo --remove`.

use super::rig::{CLIENT, GATEWAY, GATEWAY_V6, NetNs, remove_leftovers};
use super::site::{HTTP_CLUSTER, HTTP_LOCAL, Site};
use anyhow::Result;
use std::io::{Write as _, stdout};

/// Leaves the site running and tells what to try with it.
pub(super) fn keep(site: Site) -> Result<()> {
    // Root himself may have no sudo.
    let sudo = if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
    let program = format!("{sudo}{}", std::env::current_exe()?.display());
    let inside = |netns: &NetNs| format!("{sudo}ip netns exec {}", netns.name());
    let client = inside(site.topology().client());
    let gateway = inside(site.topology().gateway());
    let (socket, manifests) = (site.files().socket(), site.files().manifests());
    let (socket, manifests) = (socket.display(), manifests.display());
    let lines = [
        format!("{client} curl http://{GATEWAY}:{HTTP_CLUSTER}/"),
        format!("{client} curl http://{GATEWAY}:{HTTP_LOCAL}/"),
        format!("{client} curl http://[{GATEWAY_V6}]:{HTTP_CLUSTER}/"),
        format!("{program} --socket {socket} status"),
        format!("{program} --socket {socket} get backends"),
        format!("{program} --socket {socket} get drops -o wide"),
        format!("{program} --socket {socket} explain tcp {CLIENT}:41522 {GATEWAY}:{HTTP_CLUSTER}"),
        format!("edit {manifests}/frontend-3.yaml: set Ready to \"False\", then curl again"),
        format!("{gateway} ip route"),
        format!("{program} demo --remove"),
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
