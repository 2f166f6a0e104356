//! The kernel, with the rules that kube-proxy would have set, and without any.

use super::{Forwarder, Session, rules};
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::rig::{BACKEND_PORT, NODE_PORT, Rig};
use crate::rivals::scenario::{Scenario, Work};
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
    fn install(self, rig: &Rig, scenario: &Scenario) -> Result<()> {
        let gateway = rig.gateway();
        let fill = |template| rules::fill(template, &rig.backends, scenario.protocol());
        match self {
            Self::Iptables => {
                let rules = fill(IPTABLES);
                let legacy = feed(gateway.command("iptables-legacy-restore"), &rules);
                legacy.or_else(|_| feed(gateway.command("iptables-restore"), &rules))
            }
            Self::Nftables => {
                let mut nft = gateway.command("nft");
                nft.args(["-f", "-"]);
                feed(nft, &fill(NFTABLES))
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

    fn can(&self, scenario: &Scenario) -> bool {
        *self != Self::Routing || matches!(scenario.work, Work::Stream(_))
    }

    fn destination(&self, rig: &Rig) -> SocketAddrV4 {
        match self {
            Self::Iptables | Self::Nftables => SocketAddrV4::new(GATEWAY, NODE_PORT),
            Self::Routing => SocketAddrV4::new(rig.backends[0], BACKEND_PORT),
        }
    }

    fn serve(&self, rig: &Rig, scenario: &Scenario, session: &Session) -> Result<()> {
        super::give_napi(rig, scenario)?;
        self.install(rig, scenario)?;
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
    use crate::rivals::bed::rig::backends;
    use tidegate_dataplane::types::Protocol;

    #[test]
    fn the_rules_name_the_rigs_addresses() {
        let backends = backends(3);
        for template in [IPTABLES, NFTABLES] {
            let rules = rules::fill(template, &backends, Protocol::Udp);
            assert!(rules.contains(&NODE_PORT.to_string()) && !rules.contains("{number}"));
            for backend in &backends {
                assert!(rules.contains(&format!("{backend}:{BACKEND_PORT}")), "{backend}");
            }
        }
        assert!(NFTABLES.contains(&GATEWAY.to_string()));
    }
}
