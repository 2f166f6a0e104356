//! The control side's parts and a real packet path, driven by hand.

use super::network::network;
use crate::rivals::rig::{Rig, link};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};
use tidegate_control::compile::{Attached, Compiler};
use tidegate_control::config::{Config, HostFacts, InterfaceConfig, Role};
use tidegate_control::daemon::tally::Tally;
use tidegate_control::model::Store;
use tidegate_control::netlink::NetworkState;
use tidegate_dataplane::engine::{Engine, KernelRoad};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot};

/// Workers, wherever the scheduler puts them.
const WORKERS: usize = 2;

/// A worker that has not read a snapshot by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bed.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) network: NetworkState,
    pub(crate) compiler: Compiler,
    /// Towards the backends.
    pub(crate) inner: IfIndex,
    engine: Engine,
    tally: Tally,
    attached: Attached,
    config: Config,
}

/// What a change took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// From the event to the last worker that has read it.
    pub(crate) total: Duration,
    /// The Services that were compiled.
    pub(crate) services: usize,
}

impl Bed {
    /// A bed on the gateway of `rig`, whose namespace the caller is in, with the configuration's
    /// defaults and both interfaces attached.
    pub(crate) fn start(rig: &Rig) -> Result<Self> {
        let gateway = rig.gateway();
        gateway
            .ip("link add tidegate0 numtxqueues 2 numrxqueues 2 type veth peer name tidegate1")?;
        gateway.ip("link set tidegate0 up")?;
        gateway.ip("link set tidegate1 up")?;
        let road = KernelRoad {
            device: "tidegate0".into(),
            device_index: link(gateway, "tidegate0")?.index,
            peer_index: link(gateway, "tidegate1")?.index,
        };
        let outer = InterfaceConfig { role: Role::Client, ..InterfaceConfig::named("eth0") };
        let interfaces = vec![outer, InterfaceConfig::named("eth1")];
        let config = Config { interfaces, ..Config::default() };
        let mut engine_config = config.to_engine(&HostFacts::default(), road);
        engine_config.worker_cpus = vec![None; WORKERS];
        let mut bed = Self {
            store: Store::new("gateway"),
            network: network(&rig.outer, &rig.inner),
            compiler: Compiler::default(),
            inner: rig.inner.index,
            engine: Engine::start(engine_config)?,
            tally: Tally::default(),
            attached: Attached::new(),
            config,
        };
        bed.attach()?;
        Ok(bed)
    }

    fn attach(&mut self) -> Result<()> {
        let Self { store, compiler, network, attached, config, .. } = self;
        let compiled = compiler.compile(store, network, attached, config);
        for wanted in compiled.wanted.iter() {
            self.engine.attach(&wanted.request)?;
            self.attached.insert(wanted.request.slot, wanted.request.index);
        }
        ensure!(self.attached.contains_key(&InterfaceSlot(1)), "no interface is wanted");
        self.live(|_, _| ()).map(drop)
    }

    /// Does `event` and what the control thread does after it, until every worker has read it.
    pub(crate) fn live(
        &mut self,
        event: impl FnOnce(&mut Store, &mut NetworkState),
    ) -> Result<Took> {
        let begin = Instant::now();
        event(&mut self.store, &mut self.network);
        let Self { store, compiler, network, attached, config, .. } = self;
        let compiled = compiler.compile(store, network, attached, config);
        let reports = self.compiler.reports();
        let changed = &compiled.changed_services;
        self.tally.learn(changed.iter().flat_map(|key| reports.of_service(key)));
        let version = self.engine.publish(compiled.snapshot, compiled.changed_fronts)?;
        while self.engine.versions_read().any(|read| read < version) {
            ensure!(begin.elapsed() < PATIENCE, "a worker did not read version {}", version.0);
            std::thread::yield_now();
        }
        Ok(Took { total: begin.elapsed(), services: changed.len() })
    }

    /// What the control thread does ten times per second, and what once.
    pub(crate) fn tick(&mut self) -> Duration {
        let begin = Instant::now();
        self.engine.tick();
        self.compiler.reap(|_| false);
        begin.elapsed()
    }

    /// Ends the packet path.
    pub(crate) fn stop(self) {
        self.engine.stop();
    }
}

/// This process's resident memory in MiB: now, and at its most.
pub(crate) fn resident_mib() -> Result<[f64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let value = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("find VmRSS")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    };
    Ok([value("VmRSS:")?, value("VmHWM:")?])
}
