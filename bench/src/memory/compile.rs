//! How long the control side takes to make a snapshot, the whole and after one change.

use super::rows::Series;
use crate::numbers::Spread;
use crate::rivals::rig::Link;
use crate::scale::{Endpoint, network, parse_service, parse_slice, service, slice};
use anyhow::{Context as _, Result};
use std::time::Instant;
use tidegate_control::compile::{Attached, Compiler};
use tidegate_control::config::{Config, InterfaceConfig, Role};
use tidegate_control::model::{Change, ClusterState, Object, Store};
use tidegate_control::netlink::NetworkState;
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// Clusters of so many Services with ten endpoints each.
const SERVICES: [u32; 5] = [10, 100, 1_000, 10_000, 20_000];

/// Services with so many endpoints, alone in their cluster.
const BACKENDS: [u32; 4] = [10, 100, 1_000, 10_000];

/// Changes of each cluster; the median counts.
const CHANGES: u32 = 25;

/// Runs all of it.
pub(super) fn run() -> Result<Vec<Series>> {
    let mut series = over("services", SERVICES.map(|services| (services, services, 10)))?;
    series.extend(over("backends", BACKENDS.map(|backends| (backends, 1, backends)))?);
    Ok(series)
}

/// Clusters, each as what grows, Services, and endpoints of each.
fn over<const N: usize>(
    against: &'static str,
    clusters: [(u32, u32, u32); N],
) -> Result<Vec<Series>> {
    let series = |name| Series::new(name, against, "ms");
    let [mut first, mut change] = ["first snapshot", "snapshot after a change"].map(series);
    for (x, services, endpoints) in clusters {
        let mut cluster = Cluster::new();
        first.points.push((x, cluster.load(services, endpoints)?));
        change.points.push((x, cluster.changes(endpoints)?));
    }
    Ok(vec![first, change])
}

/// The control side without a packet path.
struct Cluster {
    store: Store,
    network: NetworkState,
    compiler: Compiler,
    attached: Attached,
    config: Config,
}

impl Cluster {
    fn new() -> Self {
        let link = |name, number: u8| Link {
            name,
            index: IfIndex(number.into()),
            mac: MacAddress([2, 0, 0, 0, 0, number]),
        };
        let outer = InterfaceConfig { role: Role::Client, ..InterfaceConfig::named("eth0") };
        let interfaces = vec![outer, InterfaceConfig::named("eth1")];
        let mut cluster = Self {
            store: Store::new("gateway"),
            network: network(&link("eth0", 2), &link("eth1", 3)),
            compiler: Compiler::default(),
            attached: Attached::new(),
            config: Config { interfaces, ..Config::default() },
        };
        let Self { store, compiler, network, attached, config } = &mut cluster;
        let compiled = compiler.compile(store, network, attached, config);
        let wanted = compiled.wanted.iter().map(|w| (w.request.slot, w.request.index));
        cluster.attached = wanted.collect();
        cluster
    }

    /// Milliseconds from the whole state to its snapshot.
    fn load(&mut self, services: u32, endpoints: u32) -> Result<f64> {
        let mut objects = Vec::new();
        for number in 0..services {
            objects.push(parse_service(&service(number, 1))?);
            objects.push(slice_of(number, endpoints, None)?);
        }
        let state = ClusterState::try_new(objects)?;
        let start = Instant::now();
        self.store.replace(&state);
        self.compile();
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// Milliseconds from an event to its snapshot: an endpoint of the first Service becomes ready
    /// or not.
    fn changes(&mut self, endpoints: u32) -> Result<f64> {
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let away = (change % 2 == 0).then_some(change % endpoints);
            let object = slice_of(0, endpoints, away)?;
            let start = Instant::now();
            self.store.apply(Change::Upserted(object));
            self.compile();
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Spread::of(times).map(|spread| spread.median).context("no change was made")
    }

    fn compile(&mut self) {
        let Self { store, compiler, network, attached, config } = self;
        std::hint::black_box(compiler.compile(store, network, attached, config));
    }
}

/// The slice of a Service, one of whose endpoints may not be ready.
fn slice_of(number: u32, endpoints: u32, away: Option<u32>) -> Result<Object> {
    let first = number * endpoints;
    let endpoint = |n| {
        let is_ready = away != Some(n);
        Endpoint { is_ready, ..Endpoint::ready(first + n) }
    };
    parse_slice(&slice(number, 1, &(0..endpoints).map(endpoint).collect::<Vec<_>>()))
}
