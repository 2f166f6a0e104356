//! The kernel's own NAT with rules shaped as kube-proxy's: the rival, and the rig's own proof.

use super::command::output_of;
use super::{NetNs, RigError};
use core::fmt::Write as _;
use core::net::SocketAddr;
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
    /// The endpoints of both families, one of which is chosen at random for each new flow.
    pub backends: Vec<SocketAddr>,
    /// What a family without endpoints does. By [`KernelNat::Nftables`] alone; so is the next.
    pub unserved: Unserved,
    /// Whether a client keeps its endpoint for three hours: `ClientIP` affinity.
    pub is_sticky: bool,
}

/// What becomes of new flows to a node port without endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// Port unreachable: there are none anywhere.
    Reject,
    /// Nothing: there are some on other nodes, and the policy is Local.
    Drop,
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

/// The words of nftables that differ between the families.
#[derive(Debug, Clone, Copy)]
struct Family {
    table: &'static str,
    address: &'static str,
    is_v4: bool,
}

const FAMILIES: [Family; 2] = [
    Family { table: "ip", address: "ipv4_addr", is_v4: true },
    Family { table: "ip6", address: "ipv6_addr", is_v4: false },
];

fn nftables(rules: &[NatRule]) -> String {
    FAMILIES.map(|family| nftables_of(family, rules)).concat()
}

/// A service chain per port and a chain per endpoint, found by one verdict map; another map for
/// ports without endpoints.
fn nftables_of(family: Family, rules: &[NatRule]) -> String {
    let table = family.table;
    let mut text = format!("table {table} tidegate-nat {{}}\ndelete table {table} tidegate-nat\n");
    push!(text, "table {table} tidegate-nat {{");
    let is_served = |rule: &&NatRule| rule.backends.iter().any(|b| b.is_ipv4() == family.is_v4);
    let (served, unserved): (Vec<_>, Vec<_>) = rules.iter().partition(is_served);
    let chains: String = served.iter().map(|rule| chains_of(family, rule)).collect();
    push!(text, "{chains}");
    text += &verdicts("nodeports", served, |rule| format!("goto {}", chain(rule)));
    text += &verdicts("no-endpoints", unserved, |rule| match rule.unserved {
        Unserved::Reject => "goto refuse".into(),
        Unserved::Drop => "drop".into(),
    });
    push!(text, "  chain refuse {{ reject; }}");
    push!(text, "  chain input {{ type filter hook input priority -110;");
    push!(
        text,
        "    ct state new fib daddr type local meta l4proto . th dport vmap @no-endpoints; }}"
    );
    push!(text, "  chain prerouting {{ type nat hook prerouting priority dstnat;");
    push!(text, "    fib daddr type local meta l4proto . th dport vmap @nodeports; }}");
    push!(text, "  chain postrouting {{ type nat hook postrouting priority srcnat;");
    push!(text, "    meta mark & 0x4000 == 0 return");
    push!(text, "    meta mark set meta mark xor 0x4000");
    push!(text, "    masquerade fully-random; }}");
    push!(text, "}}");
    text
}

/// A map from node ports to what is done with their packets.
fn verdicts(name: &str, rules: Vec<&NatRule>, verdict: impl Fn(&NatRule) -> String) -> String {
    let mut text = format!("  map {name} {{ type inet_proto . inet_service : verdict;\n");
    let element =
        |r: &NatRule| format!("{} . {} : {}", self::name(r.protocol), r.node_port, verdict(r));
    let elements: Vec<String> = rules.into_iter().map(element).collect();
    if !elements.is_empty() {
        push!(text, "    elements = {{ {} }};", elements.join(", "));
    }
    push!(text, "  }}");
    text
}

/// The chains of one node port and of its endpoints.
fn chains_of(family: Family, rule: &NatRule) -> String {
    let (mut text, chain, table) = (String::new(), chain(rule), family.table);
    let backends: Vec<_> = rule.backends.iter().filter(|b| b.is_ipv4() == family.is_v4).collect();
    for (index, backend) in backends.iter().enumerate() {
        if rule.is_sticky {
            push!(text, "  set clients-{chain}-{index} {{ type {};", family.address);
            push!(text, "    flags dynamic,timeout; timeout 10800s; }}");
        }
        push!(text, "  chain {chain}-{index} {{");
        push!(text, "    {table} saddr {} meta mark set meta mark or 0x4000", backend.ip());
        if rule.is_sticky {
            push!(text, "    update @clients-{chain}-{index} {{ {table} saddr }}");
        }
        push!(text, "    meta l4proto {} dnat to {backend}; }}", name(rule.protocol));
    }
    push!(text, "  chain {chain} {{");
    if rule.is_masqueraded {
        push!(text, "    meta mark set meta mark or 0x4000");
    }
    let count = backends.len();
    for index in (0..count).filter(|_| rule.is_sticky) {
        push!(text, "    {table} saddr @clients-{chain}-{index} goto {chain}-{index}");
    }
    let target = |index| format!("{index} : goto {chain}-{index}");
    let targets: Vec<String> = (0..count).map(target).collect();
    push!(text, "    numgen random mod {count} vmap {{ {} }}; }}", targets.join(", "));
    text
}

/// A service chain per port and a chain per endpoint, found one rule after the other. IPv4 alone.
fn iptables(rules: &[NatRule]) -> String {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:NODEPORTS -\n");
    push!(text, "-A PREROUTING -m addrtype --dst-type LOCAL -j NODEPORTS");
    push!(text, "-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN");
    push!(text, "-A POSTROUTING -j MARK --xor-mark 0x4000");
    push!(text, "-A POSTROUTING -j MASQUERADE --random-fully");
    for rule in rules {
        let backends: Vec<_> = rule.backends.iter().filter(|backend| backend.is_ipv4()).collect();
        let (protocol, chain, count) = (name(rule.protocol), chain(rule), backends.len());
        push!(text, ":{chain} -");
        push!(text, "-A NODEPORTS -p {protocol} --dport {} -j {chain}", rule.node_port);
        if rule.is_masqueraded {
            push!(text, "-A {chain} -j MARK --or-mark 0x4000");
        }
        for (index, backend) in backends.into_iter().enumerate() {
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
