//! tidegate in its demo's cluster, with three pods and a bystander.

use crate::bystander::Bystander;
use crate::load::{self, Answers};
use crate::setting::{binary, take_turn, wait_until};
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, SocketAddr};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate_control::admin::report::{
    BackendReport, DropsReport, InterfaceReport, List, ReasonReport, StatusReport, WorkerReport,
};
use tidegate_control::demo::rig::{Node, RigPlan, Topology, gateway_of};
use tidegate_control::demo::site::{CONFIG, HTTP_CLUSTER, Site};
pub use tidegate_control::model::Family::{self, V4, V6};

/// The local pod.
pub const NEAR: &str = "near";
/// The pods on the other node.
pub const FAR: [&str; 2] = ["far-1", "far-2"];

/// Both families.
pub const FAMILIES: [Family; 2] = [V4, V6];

/// How long a change may take to reach the packet path, on a busy machine.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// Requests between two looks at whether the work under them is done.
const REQUESTS_BETWEEN: u32 = 100;

/// A running tidegate with everything around it.
#[derive(Debug)]
pub struct Lab {
    bystander: Bystander,
    site: Site,
    // Given back last.
    _turn: Option<File>,
}

impl Lab {
    /// Builds it and waits until tidegate uses all three pods, in both families. `changes` are
    /// pairs of lines: the first, of the demo's config, is replaced by the second.
    ///
    /// # Errors
    /// We are not root, or something does not start.
    pub fn start(plan: &RigPlan, changes: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(plan, |_| configure(changes))
    }

    /// The same with a config that `prepare` returns when the pods are there.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_with(
        plan: &RigPlan,
        prepare: impl FnOnce(&Site) -> Result<String>,
    ) -> Result<Self> {
        Self::build(Some(take_turn()?), plan, prepare)
    }

    /// As [`Self::start`], without a turn: for a run so long that others cannot wait for its end.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_beside(plan: &RigPlan, changes: &[(&str, &str)]) -> Result<Self> {
        Self::build(None, plan, |_| configure(changes))
    }

    fn build(
        turn: Option<File>,
        plan: &RigPlan,
        prepare: impl FnOnce(&Site) -> Result<String>,
    ) -> Result<Self> {
        let mut site = Site::build(plan, &binary()?)?;
        let nodes = [(Node::Gateway, NEAR), (Node::Node2, FAR[0]), (Node::Node2, FAR[1])];
        for (node, name) in nodes {
            site.add_pod(node, name)?;
            site.publish_pod(name)?;
        }
        // Before tidegate: it shall not notice the start either.
        let bystander = Bystander::begin(site.topology())?;
        let config = prepare(&site)?;
        site.start_daemon(&config)?;
        let lab = Self { bystander, site, _turn: turn };
        for (_, name) in nodes {
            lab.wait_for(name, true)?;
        }
        Ok(lab)
    }

    /// The cluster.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The cluster, to change it.
    pub fn site_mut(&mut self) -> &mut Site {
        &mut self.site
    }

    /// The rig.
    pub fn rig(&self) -> &Topology {
        self.site.topology()
    }

    /// The bystander.
    pub fn bystander(&self) -> &Bystander {
        &self.bystander
    }

    /// HTTP requests from the client to a front, each on a connection of its own.
    ///
    /// # Errors
    /// One of them fails.
    pub fn http(&self, front: SocketAddr, count: u32) -> Result<Answers> {
        let answers = load::http(self.rig().client(), front, count, 16)?;
        answers.ensure_all(count).with_context(|| format!("HTTP to {front}"))?;
        Ok(answers)
    }

    /// UDP flows from the client to a front, a datagram each.
    ///
    /// # Errors
    /// One of them fails.
    pub fn udp(&self, front: SocketAddr, count: u32) -> Result<Answers> {
        let answers = load::udp(self.rig().client(), front, count, 16)?;
        answers.ensure_all(count).with_context(|| format!("UDP to {front}"))?;
        Ok(answers)
    }

    /// Waits until tidegate uses the pod `name` for new flows, or does not.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for(&self, name: &str, is_wanted: bool) -> Result<()> {
        let pod = self.site.pod(name).context("a pod of that name")?;
        let what = format!("{name} is {}used", if is_wanted { "" } else { "not " });
        let is_so = || {
            let is_used = FAMILIES.map(|family| self.is_used(pod.address_of(family)).ok());
            is_used == [Some(is_wanted); 2]
        };
        wait_until(&what, CHANGE_MAX, is_so).with_context(|| self.log())
    }

    fn is_used(&self, address: IpAddr) -> Result<bool> {
        let backends: List<BackendReport> = self.report("/api/v1/backends")?;
        let is_there = |end: &str| end.parse().is_ok_and(|end: SocketAddr| end.ip() == address);
        let mut of_pod = backends.items.iter().filter(|b| is_there(&b.address));
        Ok(of_pod.any(|b| b.state == "ready"))
    }

    /// The interfaces as tidegate reports them.
    ///
    /// # Errors
    /// tidegate does not answer.
    pub fn interfaces(&self) -> Result<Vec<InterfaceReport>> {
        Ok(self.report::<List<InterfaceReport>>("/api/v1/interfaces")?.items)
    }

    /// Requests to policy Cluster's node port over these families, while `work` lasts. None of
    /// them may fail.
    ///
    /// # Errors
    /// One failed, or `work` did, or it took more than `rounds_max` rounds of requests.
    pub fn under_load(
        &self,
        families: &[Family],
        rounds_max: u32,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Answers> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.load_until(&done, families, rounds_max));
            let worked = work();
            done.store(true, Ordering::Relaxed);
            let answers = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            worked.map(|()| answers)
        })
    }

    fn load_until(
        &self,
        done: &AtomicBool,
        families: &[Family],
        rounds_max: u32,
    ) -> Result<Answers> {
        let mut all = Answers::default();
        for _ in 0..rounds_max {
            for family in families {
                all.merge(self.http(front(*family, HTTP_CLUSTER), REQUESTS_BETWEEN)?);
            }
            if done.load(Ordering::Relaxed) {
                return Ok(all);
            }
        }
        anyhow::bail!("the changes took more than {rounds_max} rounds of requests")
    }

    /// Ends the bystander's session and balances the books.
    ///
    /// # Errors
    /// The bystander noticed something; packets are not accounted for, or a reason says bug.
    pub fn finish(self) -> Result<()> {
        let books = self.balance();
        let context = self.log();
        self.bystander.end()?;
        books.context(context)
    }

    fn balance(&self) -> Result<()> {
        let path = "/api/v1/drops";
        let is_closed = |r: &DropsReport| r.sum.unaccounted == 0 && r.sum.in_flight == 0;
        let closed = || self.report(path).is_ok_and(|report| is_closed(&report));
        let waited = wait_until("the sum of packets closes", CHANGE_MAX, closed);
        let report: DropsReport = self.report(path)?;
        waited.with_context(|| format!("{:?}", report.sum))?;
        ensure!(report.sum.received > 0 && report.sum.forwarded > 0, "{:?}", report.sum);
        let bugs: Vec<_> = report.dropped.iter().filter(|reason| reason.kind == "bug").collect();
        ensure!(bugs.is_empty(), "dropped by a bug: {bugs:?}");
        Ok(())
    }

    /// A report of tidegate's admin socket.
    ///
    /// # Errors
    /// tidegate does not answer.
    pub fn report<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.site.daemon().context("a running tidegate")?.get_json(path)?)
    }

    /// Why packets met what they met, and what tidegate warns of: for errors.
    pub fn diagnosis(&self) -> String {
        let drops: Result<DropsReport> = self.report("/api/v1/drops");
        let warnings: Result<StatusReport> = self.report("/api/v1/status");
        let warnings = warnings.map(|status| (status.checks, status.warnings));
        let workers: Result<List<WorkerReport>> = self.report("/api/v1/workers");
        let gaps = workers.map(|all| {
            all.items.iter().map(|w| (w.worker, w.heartbeat_gap_milliseconds)).collect::<Vec<_>>()
        });
        let gaps = format!("longest without heartbeat, by worker, in ms: {gaps:?}");
        format!("{drops:#?}\n{warnings:#?}\n{gaps}\n{}", self.log())
    }

    /// What tidegate logged, for errors.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.site.files().log());
        format!("tidegate's log:\n{}", log.unwrap_or_default())
    }
}

/// A node port of the gateway.
pub fn front(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(gateway_of(family), port)
}

/// Packets of a reason.
pub fn packets_of(list: &[ReasonReport], reason: &str) -> u64 {
    list.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum()
}

/// The demo's config with `changes` made: pairs of what stands there and what shall.
///
/// # Errors
/// It has no such line.
pub fn configure(changes: &[(&str, &str)]) -> Result<String> {
    let mut text = CONFIG.to_owned();
    for (old, new) in changes {
        ensure!(text.contains(old), "the demo's config has no line {old:?}");
        text = text.replace(old, new);
    }
    Ok(text)
}
