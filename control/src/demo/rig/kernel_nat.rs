//! The kernel's own NAT with rules shaped as kube-proxy's: the rival, and the rig's own proof.

use super::command::output_of;
use super::{NetNs, RigError};
use core::fmt::Write as _;
use core::net::SocketAddrV4;
use tidegate_dataplane::types::Protocol;

/// One node port and where it leads.
#[derive(Debug, Clone)]
pub struct NatRule {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The node port.
    pub node_port: u16,
    /// Whether the source is masqueraded: externalTrafficPolicy Cluster.
    pub is_masqueraded: bool,
    /// The endpoints, one of which is chosen at random for each new flow. At least one.
    pub backends: Vec<SocketAddrV4>,
}

/// Which of the kernel's two rule sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelNat {
    /// As kube-proxy's mode `nftables`: verdict maps and numgen.
    Nftables,
    /// As kube-proxy's mode `iptables`: chains and statistic matches.
    Iptables,
}

impl KernelNat {
    /// Installs `rules` in `netns`, in place of those installed before.
    ///
    /// # Errors
    /// `nft` or `iptables-restore` is missing or refuses the rules.
    pub fn install(self, netns: &NetNs, rules: &[NatRule]) -> Result<(), RigError> {
        let (mut command, text) = match self {
            Self::Nftables => (netns.command("nft"), nftables(rules)),
            Self::Iptables => (netns.command("iptables-restore"), iptables(rules)),
        };
        if self == Self::Nftables {
            command.arg("-f");
        }
        let path = std::env::temp_dir().join(format!("{}.rules", netns.name()));
        let file = |source| RigError::File { path: path.display().to_string(), source };
        std::fs::write(&path, text).map_err(file)?;
        let result = output_of(command.arg(&path));
        std::fs::remove_file(&path).map_err(file)?;
        result.map(drop)
    }
}

fn chain(rule: &NatRule) -> String {
    format!("svc-{}-{}", name(rule.protocol), rule.node_port)
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Writing to a string cannot fail.
macro_rules! push {
    ($text:expr, $($arg:tt)*) => {
        if writeln!($text, $($arg)*).is_err() {
            return $text;
        }
    };
}

/// A service chain per port and a chain per endpoint, found by one verdict map.
fn nftables(rules: &[NatRule]) -> String {
    let mut text = String::from("table ip tidegate-nat {}\ndelete table ip tidegate-nat\n");
    push!(text, "table ip tidegate-nat {{");
    for rule in rules {
        let (protocol, chain, count) = (name(rule.protocol), chain(rule), rule.backends.len());
        for (index, backend) in rule.backends.iter().enumerate() {
            push!(text, "  chain {chain}-{index} {{");
            push!(text, "    ip saddr {} meta mark set meta mark or 0x4000", backend.ip());
            push!(text, "    meta l4proto {protocol} dnat to {backend}; }}");
        }
        push!(text, "  chain {chain} {{");
        if rule.is_masqueraded {
            push!(text, "    meta mark set meta mark or 0x4000");
        }
        let target = |index| format!("{index} : goto {chain}-{index}");
        let targets: Vec<String> = (0..count).map(target).collect();
        push!(text, "    numgen random mod {count} vmap {{ {} }}; }}", targets.join(", "));
    }
    push!(text, "  map nodeports {{ type inet_proto . inet_service : verdict;");
    let element =
        |r: &NatRule| format!("{} . {} : goto {}", name(r.protocol), r.node_port, chain(r));
    let elements: Vec<String> = rules.iter().map(element).collect();
    push!(text, "    elements = {{ {} }}; }}", elements.join(", "));
    push!(text, "  chain prerouting {{ type nat hook prerouting priority dstnat;");
    push!(text, "    fib daddr type local meta l4proto . th dport vmap @nodeports; }}");
    push!(text, "  chain postrouting {{ type nat hook postrouting priority srcnat;");
    push!(text, "    meta mark & 0x4000 == 0 return");
    push!(text, "    meta mark set meta mark xor 0x4000");
    push!(text, "    masquerade fully-random; }}");
    push!(text, "}}");
    text
}

/// A service chain per port and a chain per endpoint, found one rule after the other.
fn iptables(rules: &[NatRule]) -> String {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:NODEPORTS -\n");
    push!(text, "-A PREROUTING -m addrtype --dst-type LOCAL -j NODEPORTS");
    push!(text, "-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN");
    push!(text, "-A POSTROUTING -j MARK --xor-mark 0x4000");
    push!(text, "-A POSTROUTING -j MASQUERADE --random-fully");
    for rule in rules {
        let (protocol, chain, count) = (name(rule.protocol), chain(rule), rule.backends.len());
        push!(text, ":{chain} -");
        push!(text, "-A NODEPORTS -p {protocol} --dport {} -j {chain}", rule.node_port);
        if rule.is_masqueraded {
            push!(text, "-A {chain} -j MARK --or-mark 0x4000");
        }
        for (index, backend) in rule.backends.iter().enumerate() {
            let (target, choice) = (format!("{chain}-{index}"), choice(count - index));
            push!(text, ":{target} -");
            push!(text, "-A {target} -s {} -j MARK --or-mark 0x4000", backend.ip());
            push!(text, "-A {target} -p {protocol} -j DNAT --to-destination {backend}");
            push!(text, "-A {chain}{choice} -j {target}");
        }
    }
    push!(text, "COMMIT");
    text
}

/// The match that takes one flow in `left`, as kube-proxy's chains do; the last takes all.
fn choice(left: usize) -> String {
    match u32::try_from(left) {
        Ok(left) if left > 1 => {
            let probability = 1.0 / f64::from(left);
            format!(" -m statistic --mode random --probability {probability:.10}")
        }
        _ => String::new(),
    }
}
