//! The demo, step by step.

use super::interrupt::Interrupt;
use super::report::Report;
use super::rig::{Node, RigError, RigPlan, client_of, families, gateway_of, remove_leftovers};
use super::site::{CONFIG, HTTP_CLUSTER, HTTP_LOCAL, Site, UDP_CLUSTER, UDP_LOCAL};
use super::traffic::{self, Tally};
use super::{DemoArgs, keep};
use crate::admin::report::{BackendReport, DropsReport, LatencyReport, List};
use crate::model::Family;
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, SocketAddr};
use serde::de::DeserializeOwned;
use std::io::{Stdout, Write as _, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests of the main run.
const REQUESTS: u32 = 2000;

/// Requests of each smaller run.
const REQUESTS_FEW: u32 = 400;

/// Requests between two looks at whether scaling is done, and how often at most.
const REQUESTS_WHILE_SCALING: (u32, usize) = (250, 60);

/// How long a change of the manifests may take to reach the packet path.
const CHANGE_MAX: Duration = Duration::from_secs(5);

/// `tidegate demo`.
///
/// # Errors
/// A request was not answered, or another check failed; we are not root, a program is missing, or
/// tidegate does not start. All that was made is removed.
pub fn run(args: &DemoArgs) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "run the demo: it needs root; try sudo");
    if args.remove {
        return keep::remove();
    }
    let begun = Instant::now();
    let interrupt = Interrupt::listen().context("listen for signals")?;
    let mut show = Show { report: Report::new(stdout()), interrupt };
    let performed = show.build().and_then(|site| show.perform(site));
    // What failed after Ctrl-C failed because its programs were interrupted too.
    show.interrupt.check()?;
    let site = performed?;
    if args.keep {
        keep::keep(site)?;
    } else {
        show.report.step("removing everything")?;
        drop(site);
    }
    show.conclude(begun)
}

struct Show {
    report: Report<Stdout>,
    interrupt: Interrupt,
}

impl Show {
    fn build(&mut self) -> Result<Site> {
        self.report.step("a cluster in namespaces: client, gateway, node2, three pods")?;
        remove_leftovers("tidegate-demo")?;
        let binary = std::env::current_exe().context("find tidegate's own file")?;
        let mut site = Site::build(&RigPlan::new("demo"), &binary)?;
        for (node, name) in [
            (Node::Gateway, "frontend-1"),
            (Node::Node2, "frontend-2"),
            (Node::Node2, "frontend-3"),
        ] {
            self.interrupt.check()?;
            site.add_pod(node, name)?;
            site.publish_pod(name)?;
            let pod = site.pod(name).with_context(|| format!("find the pod {name}"))?;
            let addresses = families().iter().map(|family| pod.address_of(*family).to_string());
            let addresses = addresses.collect::<Vec<_>>().join(" ");
            self.report.say(&format!("{name} {addresses} on {}", node.name()))?;
        }
        site.start_daemon(CONFIG)?;
        self.report.say("tidegate runs on the gateway and is ready")?;
        Ok(site)
    }

    fn perform(&mut self, mut site: Site) -> Result<Site> {
        let cluster = self.cluster(&site)?;
        let scaled = self.scale(&mut site)?;
        let local = self.local(&site)?;
        let udp = self.udp(&site)?;
        let ipv6 = self.ipv6(&site)?;
        self.report.step("who answered, and whom they saw")?;
        self.report.backends(&[
            ("CLUSTER", &cluster),
            ("SCALED", &scaled),
            ("LOCAL", &local),
            ("UDP", &udp.0),
            ("UDP-LOCAL", &udp.1),
            ("IPV6", &ipv6),
        ])?;
        self.accounts(&site)?;
        Ok(site)
    }

    fn cluster(&mut self, site: &Site) -> Result<Tally> {
        self.interrupt.check()?;
        self.report.step("HTTP by curl to frontend-svc, externalTrafficPolicy Cluster")?;
        let tally = traffic::http(site.topology().client(), front(HTTP_CLUSTER), REQUESTS)?;
        self.report.check_answered(&tally, "connections")?;
        self.check_pods(&tally, &["frontend-1", "frontend-2", "frontend-3"])?;
        self.check_masqueraded(site, &tally)?;
        Ok(tally)
    }

    /// Adds frontend-4 and takes frontend-2 away while requests run; returns what came after.
    fn scale(&mut self, site: &mut Site) -> Result<Tally> {
        self.interrupt.check()?;
        self.report.step("scaling under load: frontend-4 comes, frontend-2 goes")?;
        site.add_pod(Node::Node2, "frontend-4")?;
        let during = scale_under_load(site)?;
        self.report.check_answered(&during, "connections while the manifests changed")?;
        let after = traffic::http(site.topology().client(), front(HTTP_CLUSTER), REQUESTS_FEW)?;
        self.report.check_answered(&after, "connections afterwards")?;
        self.check_pods(&after, &["frontend-1", "frontend-3", "frontend-4"])?;
        Ok(after)
    }

    fn local(&mut self, site: &Site) -> Result<Tally> {
        self.interrupt.check()?;
        self.report.step("HTTP to frontend-local, externalTrafficPolicy Local")?;
        let tally = traffic::http(site.topology().client(), front(HTTP_LOCAL), REQUESTS_FEW)?;
        self.report.check_answered(&tally, "connections")?;
        self.check_local(&tally, Family::V4)?;
        Ok(tally)
    }

    fn udp(&mut self, site: &Site) -> Result<(Tally, Tally)> {
        self.interrupt.check()?;
        self.report.step("UDP to echo-svc (Cluster) and echo-local (Local)")?;
        let client = site.topology().client();
        let cluster = traffic::udp(client, front(UDP_CLUSTER), REQUESTS_FEW)?;
        self.report.check_answered(&cluster, "datagrams")?;
        self.check_pods(&cluster, &["frontend-1", "frontend-3", "frontend-4"])?;
        self.check_masqueraded(site, &cluster)?;
        let local = traffic::udp(client, front(UDP_LOCAL), REQUESTS_FEW)?;
        self.report.check_answered(&local, "datagrams")?;
        self.check_local(&local, Family::V4)?;
        Ok((cluster, local))
    }

    /// Gives the answers under policy Cluster.
    fn ipv6(&mut self, site: &Site) -> Result<Tally> {
        self.interrupt.check()?;
        if !families().contains(&Family::V6) {
            self.report.step("no IPv6: this kernel has none")?;
            return Ok(Tally::default());
        }
        self.report.step("the same Services over IPv6")?;
        let (client, to) = (site.topology().client(), |port| front_of(Family::V6, port));
        let mut cluster = traffic::http(client, to(HTTP_CLUSTER), REQUESTS_FEW)?;
        cluster.merge(traffic::udp(client, to(UDP_CLUSTER), REQUESTS_FEW)?);
        self.report.check_answered(&cluster, "connections and datagrams")?;
        self.check_pods(&cluster, &["frontend-1", "frontend-3", "frontend-4"])?;
        self.check_masqueraded(site, &cluster)?;
        let local = traffic::http(client, to(HTTP_LOCAL), REQUESTS_FEW)?;
        self.report.check_answered(&local, "connections")?;
        self.check_local(&local, Family::V6)?;
        Ok(cluster)
    }

    fn check_pods(&mut self, tally: &Tally, expected: &[&str]) -> Result<()> {
        let pods: Vec<&str> = tally.by_pod.keys().map(String::as_str).collect();
        let what = format!("answers came from {}", expected.join(", "));
        Ok(self.report.check(pods == expected, &what, &pods.join(", "))?)
    }

    fn check_masqueraded(&mut self, site: &Site, tally: &Tally) -> Result<()> {
        let is_so = tally.seen.iter().all(|seen| site.topology().is_gateway(*seen));
        let what = "under Cluster the pods see the gateway's address";
        Ok(self.report.check(
            is_so && !tally.seen.is_empty(),
            what,
            &format!("{:?}", tally.seen),
        )?)
    }

    fn check_local(&mut self, tally: &Tally, family: Family) -> Result<()> {
        self.check_pods(tally, &["frontend-1"])?;
        let client = client_of(family);
        let is_so = tally.seen.iter().eq([&client]);
        let what = format!("under Local the pod sees the client's own address, {client}");
        Ok(self.report.check(is_so, &what, &format!("{:?}", tally.seen))?)
    }

    fn accounts(&mut self, site: &Site) -> Result<()> {
        self.interrupt.check()?;
        self.report.step("where every packet went")?;
        let mut drops = None;
        let closed = |drops: &Option<DropsReport>| drops.as_ref().is_some_and(is_closed);
        let waited = wait("the sum of packets closes", || {
            drops = get(site, "/api/v1/drops").ok();
            closed(&drops)
        });
        let drops = drops.context("read the drops from the admin socket")?;
        self.report.drops(&drops)?;
        let sum = drops.sum;
        let found = format!("{} unaccounted, {} in flight", sum.unaccounted, sum.in_flight);
        self.report.check(waited.is_ok(), "every packet received is accounted for", &found)?;
        let bugs = drops.dropped.iter().filter(|reason| reason.kind == "bug");
        let bugs: Vec<&str> = bugs.map(|reason| reason.reason.as_str()).collect();
        self.report.check(bugs.is_empty(), "no drop names a bug", &bugs.join(", "))?;
        self.latency(site, drops.sum.forwarded)
    }

    fn latency(&mut self, site: &Site, forwarded: u64) -> Result<()> {
        self.report.step("how long packets took through the gateway")?;
        let mut latency: LatencyReport = get(site, "/api/v1/latency")?;
        // Workers hand over what they measured at each interval; most of it shall be here.
        let measured = wait("latency is handed over", || {
            latency = get(site, "/api/v1/latency").unwrap_or_else(|_| latency.clone());
            latency.stages.iter().any(|stage| stage.count * 10 > forwarded * 9)
        });
        self.report.latency(&latency)?;
        let what = "latency was measured of nine packets forwarded in ten";
        Ok(self.report.check(measured.is_ok(), what, &format!("{forwarded} forwarded"))?)
    }

    fn conclude(mut self, begun: Instant) -> Result<()> {
        let failed = self.report.failed().to_owned();
        let lines = failed.join("\n  ");
        ensure!(failed.is_empty(), "hold every check; {} failed:\n  {lines}", failed.len());
        self.report.step(&format!("every check held, {} s", begun.elapsed().as_secs()))?;
        Ok(stdout().flush()?)
    }
}

/// A node port of the gateway.
fn front(port: u16) -> SocketAddr {
    front_of(Family::V4, port)
}

fn front_of(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(gateway_of(family), port)
}

fn is_closed(drops: &DropsReport) -> bool {
    drops.sum.unaccounted == 0 && drops.sum.in_flight == 0 && drops.sum.received > 0
}

/// Requests run on a thread of their own until both changes have reached the packet path.
fn scale_under_load(site: &Site) -> Result<Tally> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = site.topology().client();
        let load = scope.spawn(|| {
            let (chunk, chunks) = REQUESTS_WHILE_SCALING;
            let mut tally = Tally::default();
            for _ in 0..chunks {
                tally.merge(traffic::http(client, front(HTTP_CLUSTER), chunk)?);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok::<_, RigError>(tally)
        });
        let changed = change(site);
        done.store(true, Ordering::Relaxed);
        let joined = load.join();
        changed?;
        Ok(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    })
}

fn change(site: &Site) -> Result<()> {
    site.publish_pod("frontend-4")?;
    wait_for_ready(site, "frontend-4", true)?;
    site.withdraw_pod("frontend-2")?;
    wait_for_ready(site, "frontend-2", false)
}

fn wait_for_ready(site: &Site, name: &str, wanted: bool) -> Result<()> {
    let pod = site.pod(name).with_context(|| format!("find the pod {name}"))?;
    let addresses: Vec<IpAddr> = families().iter().map(|family| pod.address_of(*family)).collect();
    let is_ready = |address: &IpAddr| -> Result<bool> {
        let backends: List<BackendReport> = get(site, "/api/v1/backends")?;
        let is_it = |b: &BackendReport| is_at(&b.address, *address);
        Ok(backends.items.iter().any(|b| is_it(b) && b.state == "ready"))
    };
    let is_so = |address: &IpAddr| is_ready(address).is_ok_and(|is| is == wanted);
    let word = if wanted { "is used" } else { "is not used any more" };
    wait(&format!("{name} {word}"), || addresses.iter().all(is_so))
}

/// Whether `end`, an address and port, has this address.
fn is_at(end: &str, address: IpAddr) -> bool {
    end.parse().is_ok_and(|end: SocketAddr| end.ip() == address)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + CHANGE_MAX;
    while Instant::now() < deadline {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("see that {what} within {CHANGE_MAX:?}")
}

fn get<T: DeserializeOwned>(site: &Site, path: &str) -> Result<T> {
    let daemon = site.daemon().context("reach tidegate: it is not running")?;
    Ok(daemon.get_json(path)?)
}
