//! What no single field can know: ranges, and fields that must fit together. All at once.

use super::cpu_list::Cpus;
use super::file::{ClusterIp, Config};
use super::interfaces::{InterfaceConfig, Role};
use super::scalars::{AutoCount, TableSize};
use super::{Latency, NodePortAddress, Problem, source};
use std::net::IpAddr;
use std::time::Duration;
use tidegate_dataplane::engine::CopyMode;
use tidegate_dataplane::snapshot::maglev::{MaglevError, MaglevTable};
use tidegate_dataplane::types::WORKERS_MAX;

/// The API server's default `--service-node-port-range`.
const NODE_PORTS: (u16, u16) = (30_000, 32_767);

/// Fewest SNAT ports: below, a worker's slice would not carry the flows to one backend.
const SOURCE_PORTS_MIN: u32 = 1_024;

/// Most SNAT addresses: a million ports to each backend are more than a gateway has flows.
const SNAT_ADDRESSES_MAX: usize = 64;

/// Most flows: 16 million, some 4 GiB of tables and XDP map.
const FLOWS_MAX: u32 = 1 << 24;

/// Fewest flows: below, the table cannot hold even one burst of new ones per worker.
const FLOWS_MIN: u32 = 1_024;

/// Fewest handshakes under way: below, the share of one of many workers cannot hold a burst.
const EMBRYONIC_MIN: u32 = 128;

/// Largest Maglev table: every change rebuilds it, 1 M entries take some 20 ms.
const TABLE_ENTRIES_MAX: u32 = 1 << 20;

/// Everything that is wrong with `config`, in the order of the fields.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    let connection = &config.client_connection;
    source::check(&config.source, connection, &config.state_directory, &mut found);
    node_port_addresses(config, &mut found);
    cluster_ip(config, &mut found);
    interfaces(&config.interfaces, &mut found);
    workers(config, &mut found);
    memory(config, &mut found);
    load_balancer(config, &mut found);
    conntrack(config, &mut found);
    listeners(config, &mut found);
    latency(&config.latency, &mut found);
    if !config.admin_socket.is_absolute() {
        found.add("adminSocket", "is not an absolute path");
    }
    found.0
}

pub(super) struct Found(Vec<Problem>);

impl Found {
    pub(super) fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem { field: field.into(), reason: reason.into() });
    }
}

fn node_port_addresses(config: &Config, found: &mut Found) {
    let entries = &config.node_port_addresses;
    if entries.is_empty() {
        found.add("nodePortAddresses", "is empty; leave it out for primary");
    }
    if entries.contains(&NodePortAddress::All) && entries.len() > 1 {
        found.add("nodePortAddresses", "holds all and more; all stands alone");
    }
}

fn cluster_ip(config: &Config, found: &mut Found) {
    let is_for_pods = |entry: &InterfaceConfig| entry.role == Role::Backend;
    if config.cluster_ip == ClusterIp::Serve && !config.interfaces.iter().any(is_for_pods) {
        found
            .add("clusterIP", "is serve, but no interface has role backend, so that none would be");
    }
}

fn interfaces(entries: &[InterfaceConfig], found: &mut Found) {
    if entries.iter().all(InterfaceConfig::is_exclusion) {
        found.add("interfaces", "names no interface to take packets from");
    }
    for (i, entry) in entries.iter().enumerate() {
        interface(i, entry, found);
        if entries.iter().take(i).any(|earlier| earlier.name == entry.name) {
            found.add(format!("interfaces[{i}].name"), format!("{} stands twice", entry.name));
        }
    }
}

fn interface(i: usize, entry: &InterfaceConfig, found: &mut Found) {
    let name = format!("interfaces[{i}].name");
    let pattern = entry.name.strip_prefix('!').unwrap_or(&entry.name);
    if pattern.is_empty() {
        found.add(&name, "is empty");
    }
    if let Err(e) = glob::Pattern::new(pattern) {
        found.add(&name, format!("{pattern} is not a glob: {e}"));
    }
    if entry.is_exact() && entry.name.len() > 15 {
        found.add(&name, format!("{} is longer than the kernel's 15 characters", entry.name));
    }
    if entry.is_exclusion() && *entry != InterfaceConfig::named(&entry.name) {
        found
            .add(&name, format!("{} excludes interfaces; its other fields do nothing", entry.name));
    }
    if entry.require_zero_copy && entry.copy_mode == CopyMode::Copy {
        let field = format!("interfaces[{i}].requireZeroCopy");
        found.add(field, "contradicts copyMode copy");
    }
}

fn workers(config: &Config, found: &mut Found) {
    if let Cpus::List(cpus) = &config.workers.cpus
        && cpus.numbers().len() > WORKERS_MAX
    {
        let count = cpus.numbers().len();
        found.add("workers.cpus", format!("names {count} CPUs, at most {WORKERS_MAX} workers"));
    }
    if config.workers.idle_spin.0 > Duration::from_millis(100) {
        let spin = config.workers.idle_spin;
        found.add("workers.idleSpin", format!("{spin} is above 100ms; use pollMode busy"));
    }
}

fn memory(config: &Config, found: &mut Found) {
    let memory = &config.memory;
    power_of_two("memory.framesPerQueue", memory.frames_per_queue, 256, 1 << 20, found);
    if !matches!(memory.frame_size, 2048 | 4096) {
        found.add("memory.frameSize", format!("{} is neither 2048 nor 4096", memory.frame_size));
    }
    power_of_two("memory.ringSize", memory.ring_size, 64, 1 << 16, found);
    if memory.ring_size > memory.frames_per_queue {
        let (rings, frames) = (memory.ring_size, memory.frames_per_queue);
        found.add("memory.ringSize", format!("{rings} is above memory.framesPerQueue {frames}"));
    }
}

fn power_of_two(field: &str, value: u32, min: u32, max: u32, found: &mut Found) {
    if !value.is_power_of_two() || value < min || value > max {
        let near = value.clamp(min, max).next_power_of_two();
        let range = format!("between {min} and {max}");
        found.add(field, format!("{value} is not a power of two {range}; next {near}"));
    }
}

fn load_balancer(config: &Config, found: &mut Found) {
    if let TableSize::Entries(entries) = config.load_balancer.maglev.table_size {
        table_size(entries, found);
    }
    if config.load_balancer.maglev.seed().is_none() {
        let seed = &config.load_balancer.maglev.hash_seed;
        let field = "loadBalancer.maglev.hashSeed";
        found.add(field, format!("{seed} is not up to 16 hexadecimal digits"));
    }
    snat_addresses(&config.load_balancer.snat_addresses, found);
    let range = config.load_balancer.source_port_range.0;
    let (first, last, field) = (range.first(), range.last(), "loadBalancer.sourcePortRange");
    if first <= NODE_PORTS.1 && last >= NODE_PORTS.0 {
        let (from, to) = NODE_PORTS;
        found.add(field, format!("{first}-{last} overlaps the node ports {from}-{to}"));
    }
    if range.count() < SOURCE_PORTS_MIN {
        found.add(field, format!("{first}-{last} has fewer than {SOURCE_PORTS_MIN} ports"));
    }
    if first < 1_024 {
        found.add(field, format!("{first}-{last} reaches into the well-known ports below 1024"));
    }
}

fn snat_addresses(addresses: &[IpAddr], found: &mut Found) {
    if addresses.len() > SNAT_ADDRESSES_MAX {
        let count = addresses.len();
        let reason = format!("has {count} addresses, at most {SNAT_ADDRESSES_MAX}");
        found.add("loadBalancer.snatAddresses", reason);
    }
    for (i, address) in addresses.iter().enumerate() {
        let field = format!("loadBalancer.snatAddresses[{i}]");
        if !is_source(address) {
            found.add(&field, format!("{address} is not an address that other hosts can answer"));
        }
        if addresses.iter().take(i).any(|earlier| earlier == address) {
            found.add(&field, format!("{address} stands twice"));
        }
    }
}

fn is_source(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_link_local
}

fn table_size(entries: u32, found: &mut Found) {
    let field = "loadBalancer.maglev.tableSize";
    if entries > TABLE_ENTRIES_MAX {
        return found.add(field, format!("{entries} is above {TABLE_ENTRIES_MAX}"));
    }
    if let Err(MaglevError::NotPrime { size, next }) = MaglevTable::try_new(&[], entries, 0) {
        found.add(field, format!("{size} is not prime; next {next}"));
    }
}

fn conntrack(config: &Config, found: &mut Found) {
    let conntrack = &config.conntrack;
    if !(FLOWS_MIN..=FLOWS_MAX).contains(&conntrack.max_flows) {
        let flows = conntrack.max_flows;
        let range = format!("between {FLOWS_MIN} and {FLOWS_MAX}");
        found.add("conntrack.maxFlows", format!("{flows} is not {range}"));
    }
    if let AutoCount::Count(count) = conntrack.max_embryonic_flows
        && !(EMBRYONIC_MIN..=conntrack.max_flows).contains(&count)
    {
        let range = format!("between {EMBRYONIC_MIN} and maxFlows, {}", conntrack.max_flows);
        found.add("conntrack.maxEmbryonicFlows", format!("{count} is not {range}"));
    }
    let timeouts = [
        ("tcpEstablishedTimeout", conntrack.tcp_established_timeout),
        ("tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout),
        ("tcpFinTimeout", conntrack.tcp_fin_timeout),
        ("udpTimeout", conntrack.udp_timeout),
        ("udpStreamTimeout", conntrack.udp_stream_timeout),
    ];
    for (name, timeout) in timeouts {
        // A worker's clock for idle times wraps after 49 days.
        if timeout.0 < Duration::from_secs(1) || timeout.0 > Duration::from_hours(24 * 30) {
            found.add(format!("conntrack.{name}"), format!("{timeout} is not between 1s and 30d"));
        }
    }
}

/// What may be read on the node alone must not be told to the network with the metrics.
fn listeners(config: &Config, found: &mut Found) {
    let admin = config.admin_bind_address.0;
    let others = [config.healthz_bind_address, config.metrics_bind_address];
    if admin.0.is_some() && others.contains(&admin) {
        let reason = "is the address of healthzBindAddress or metricsBindAddress; give it its own";
        found.add("adminBindAddress", reason);
    }
}

/// Longest interval: what is in memory of five minutes at the default would be days old.
const INTERVAL_MAX: Duration = Duration::from_hours(1);

fn latency(latency: &Latency, found: &mut Found) {
    let interval = latency.interval;
    if interval.0 < Duration::from_secs(1) || interval.0 > INTERVAL_MAX {
        found.add("latency.interval", format!("{interval} is not between 1s and 1h"));
    }
    let log = &latency.histogram_log;
    if log.as_os_str().is_empty() {
        return;
    }
    if !log.is_absolute() {
        found.add("latency.histogramLog", "is not an absolute path");
    }
    if latency.sample.0.is_none() {
        found.add("latency.histogramLog", "would stay empty: latency.sample is 0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;
    use crate::config::{MidFlow, SynProxy};
    use std::path::Path;

    const HEAD: &str = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n";

    fn parse(rest: &str) -> Result<Config, ConfigError> {
        Config::from_text(&format!("{HEAD}{rest}"), Path::new("config.yaml"))
    }

    fn problem_texts(rest: &str) -> Vec<String> {
        match parse(rest).unwrap_err() {
            ConfigError::Invalid { problems, .. } => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_default_file_is_the_default() {
        let parsed = Config::from_text(Config::default_yaml(), Path::new("default.yaml")).unwrap();
        assert_eq!(parsed, Config::default());
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_default_file_names_every_field() {
        let fields = serde_json::to_value(Config::default()).unwrap();
        for (section, value) in fields.as_object().unwrap() {
            assert!(Config::default_yaml().contains(section.as_str()), "{section}");
            let inner = value.as_object().into_iter().flatten();
            inner.for_each(|(name, _)| assert!(Config::default_yaml().contains(name.as_str())));
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let texts = problem_texts(
            "loadBalancer: {maglev: {tableSize: 65536}, sourcePortRange: 29000-31000}\n\
             memory: {ringSize: 1000}\nsource: {kind: kubernetes, file: /a}\n",
        );
        assert_eq!(
            texts,
            [
                "source.file does nothing with source.kind kubernetes; leave it out",
                "memory.ringSize 1000 is not a power of two between 64 and 65536; next 1024",
                "loadBalancer.maglev.tableSize 65536 is not prime; next 65537",
                "loadBalancer.sourcePortRange 29000-31000 overlaps the node ports 30000-32767",
            ]
        );
    }

    #[test]
    fn each_limit_is_kept() {
        for (text, field) in [
            ("source: {kind: file}", "source.file"),
            ("clientConnection: {qps: 0}", "clientConnection.qps"),
            ("clientConnection: {burst: 10001}", "clientConnection.burst"),
            ("stateDirectory: state", "stateDirectory"),
            ("nodePortAddresses: []", "nodePortAddresses"),
            ("nodePortAddresses: [all, primary]", "nodePortAddresses"),
            ("clusterIP: serve", "clusterIP"),
            ("interfaces: []", "interfaces"),
            ("interfaces: [{name: a}, {name: a}]", "interfaces[1].name"),
            ("interfaces: [{name: 'a['}]", "interfaces[0].name"),
            ("interfaces: [{name: sixteen-letters-}]", "interfaces[0].name"),
            ("interfaces: [{name: a}, {name: '!b', role: client}]", "interfaces[1].name"),
            (
                "interfaces: [{name: a, copyMode: copy, requireZeroCopy: true}]",
                "interfaces[0].requireZeroCopy",
            ),
            ("workers: {cpus: 0-64}", "workers.cpus"),
            ("workers: {idleSpin: 1s}", "workers.idleSpin"),
            ("memory: {framesPerQueue: 1024}", "memory.ringSize"),
            ("memory: {frameSize: 1500}", "memory.frameSize"),
            ("loadBalancer: {maglev: {hashSeed: xyz}}", "loadBalancer.maglev.hashSeed"),
            ("loadBalancer: {maglev: {tableSize: 1048583}}", "loadBalancer.maglev.tableSize"),
            ("loadBalancer: {snatAddresses: [127.0.0.1]}", "loadBalancer.snatAddresses[0]"),
            ("loadBalancer: {snatAddresses: ['fe80::1']}", "loadBalancer.snatAddresses[0]"),
            (
                "loadBalancer: {snatAddresses: [10.0.0.1, 10.0.0.1]}",
                "loadBalancer.snatAddresses[1]",
            ),
            ("loadBalancer: {sourcePortRange: 15000-15001}", "loadBalancer.sourcePortRange"),
            ("loadBalancer: {sourcePortRange: 1000-29999}", "loadBalancer.sourcePortRange"),
            ("conntrack: {maxFlows: 3}", "conntrack.maxFlows"),
            ("conntrack: {udpTimeout: 0s}", "conntrack.udpTimeout"),
            ("conntrack: {maxEmbryonicFlows: 127}", "conntrack.maxEmbryonicFlows"),
            ("conntrack: {maxEmbryonicFlows: 1048577}", "conntrack.maxEmbryonicFlows"),
            ("adminSocket: admin.sock", "adminSocket"),
            ("adminBindAddress: 0.0.0.0:10271", "adminBindAddress"),
            ("latency: {interval: 100ms}", "latency.interval"),
            ("latency: {histogramLog: a.hlog}", "latency.histogramLog"),
            ("latency: {sample: 0, histogramLog: /a.hlog}", "latency.histogramLog"),
        ] {
            let texts = problem_texts(text);
            assert!(texts.iter().any(|t| t.starts_with(field)), "{text}: {texts:?}");
        }
    }

    #[test]
    fn forms_as_operators_write_them_are_read() {
        let config = parse(
            "workers: {cpus: [2, 3], pollMode: busy, idleSpin: 20us}\nlatency: {sample: 0}\n\
             interfaces: [{name: eth0, queues: 0-1, attachMode: skb, copyMode: zero-copy}]\n\
             nodePortAddresses: [10.0.0.0/8, primary]\n\
             conntrack: {maxEmbryonicFlows: 5000, newFlowsPerSecond: 9, midFlow: reset}\n\
             synProxy: off\n",
        );
        let config = config.unwrap();
        assert_eq!(config.conntrack.max_embryonic_flows, AutoCount::Count(5000));
        assert_eq!(config.conntrack.mid_flow, MidFlow::Reset);
        assert_eq!(config.syn_proxy, SynProxy::Off, "a word, not a boolean");
        assert_eq!(String::from(config.workers.cpus), "2-3");
        assert_eq!(config.latency.sample.0, None);
        assert_eq!(String::from(config.interfaces[0].queues.clone()), "0-1");
        assert_eq!(config.interfaces[0].copy_mode, CopyMode::ZeroCopy);
    }

    #[test]
    fn a_misspelt_field_is_refused_with_place_and_nearest_name() {
        let text = parse("loadBalancer:\n  algoritm: maglev\n").unwrap_err().to_string();
        for part in ["config.yaml", "4 |   algoritm: maglev", "^", "algorithm"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn localhost_is_refused_with_its_reason() {
        let text = parse("nodePortAddresses: [localhost]\n").unwrap_err().to_string();
        assert!(text.contains("XDP hook") && text.contains("3 |"), "{text}");
    }
}
