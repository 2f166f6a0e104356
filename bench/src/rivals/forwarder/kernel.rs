//! The kernel, with the rules that kube-proxy would have set, and without any.

use super::{Forwarder, Session};
use crate::rivals::napi::Placement;
use crate::rivals::rig::{BACKEND_PORT, BACKENDS, NODE_PORT, Rig};
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddrV4;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tidegate_control::demo::rig::GATEWAY;

const IPTABLES: &str = include_str!("../../../rules/kube-proxy.iptables");
const NFTABLES: &str = include_str!("../../../rules/kube-proxy.nft");

/// Which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// kube-proxy's mode `iptables`, by the kernel's own iptables where it has that.
    Iptables,
    /// kube-proxy's mode `nftables`.
    Nftables,
    /// None: plain routing to a backend's address.
    Routing,
}

impl Kernel {
    fn install(self, rig: &Rig) -> Result<()> {
        let gateway = rig.gateway();
        match self {
            Self::Iptables => {
                let legacy = feed(gateway.command("iptables-legacy-restore"), IPTABLES);
                legacy.or_else(|_| feed(gateway.command("iptables-restore"), IPTABLES))
            }
            Self::Nftables => {
                let mut nft = gateway.command("nft");
                nft.args(["-f", "-"]);
                feed(nft, NFTABLES)
            }
            Self::Routing => Ok(()),
        }
    }
}

impl Forwarder for Kernel {
    fn name(&self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Routing => "routing",
        }
    }

    fn placement(&self) -> Placement {
        Placement::Forwarder
    }

    fn destination(&self) -> SocketAddrV4 {
        match self {
            Self::Iptables | Self::Nftables => SocketAddrV4::new(GATEWAY, NODE_PORT),
            Self::Routing => SocketAddrV4::new(BACKENDS[0], BACKEND_PORT),
        }
    }

    fn serve(&self, rig: &Rig, session: &Session) -> Result<()> {
        // GRO gives a veth the NAPI that it else has only with an XDP program.
        rig.gateway().run("ethtool -K eth0 gro on")?;
        self.install(rig)?;
        session.ready();
        session.wait(|| ());
        Ok(())
    }
}

/// Runs a command with `text` as its standard input.
fn feed(mut command: Command, text: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn().context("start the rules' command")?;
    let mut stdin = child.stdin.take().context("open the rules' input")?;
    stdin.write_all(text.as_bytes()).context("write the rules")?;
    drop(stdin);
    let status = child.wait().context("wait for the rules' command")?;
    ensure!(status.success(), "the rules were refused: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_name_the_rigs_addresses() {
        for rules in [IPTABLES, NFTABLES] {
            assert!(rules.contains(&NODE_PORT.to_string()));
            for backend in BACKENDS {
                assert!(rules.contains(&format!("{backend}:{BACKEND_PORT}")), "{backend}");
            }
        }
        assert!(NFTABLES.contains(&GATEWAY.to_string()));
    }
}
