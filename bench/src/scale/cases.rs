//! The changes that are measured, one kind after the other, in one cluster.

use super::bed::{Bed, Took, resident_mib};
use super::cluster::{Endpoint, parse_service, parse_slice, service, slice};
use super::maglev;
use super::network::set_mac;
use super::samples::{Fact, Row, table};
use crate::report;
use crate::rivals::rig::Rig;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};
use tidegate_control::model::{Change, ClusterState, Object, ObjectKey, ObjectName};

/// How large a cluster.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Args {
    /// Services
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(100..=20_000),
    )]
    services: u32,
    /// Endpoints of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=20))]
    endpoints: u32,
    /// How often each kind of change is made
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    changes: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self { services: 10_000, endpoints: 10, changes: 500 }
    }
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    args: &'a Args,
    rows: &'a [Row],
    facts: &'a [Fact],
}

/// Ports of the Service that is restarted.
const RESTARTED_PORTS: u32 = 400;

/// Its number and its endpoints': behind all others.
const RESTARTED: u32 = 30_000;
const RESTARTED_ENDPOINTS: u32 = 230_000;

/// Runs all cases.
pub(crate) fn run(args: &Args) -> Result<()> {
    let noise = report::background_load()?;
    let (build, mut facts) = maglev::run()?;
    let rig = Rig::build()?;
    let mut rows = rig.gateway().enter(|| in_cluster(args, &rig, &mut facts))??;
    rows.push(build);
    report::print(&table(&rows, &facts))?;
    report::write("scale", noise, &Results { args, rows: &rows, facts: &facts })
}

fn in_cluster(args: &Args, rig: &Rig, facts: &mut Vec<Fact>) -> Result<Vec<Row>> {
    let mut bed = Bed::start(rig)?;
    let [empty, _] = resident_mib()?;
    let (state, decode) = decode(args)?;
    let first = bed.live(|store, _| store.replace(&state))?;
    drop(state);
    bed.tick();
    let [loaded, most] = resident_mib()?;
    for (name, value, unit) in [
        ("the list's objects, from bytes to our types", decode.as_secs_f64() * 1e3, "ms"),
        ("resident before the first load: engine with defaults, two workers", empty, "MiB"),
        ("resident with the cluster", loaded, "MiB"),
        ("resident at most", most, "MiB"),
    ] {
        facts.push(Fact { name: name.into(), value, unit });
    }
    let title = format!("first load: {} Services x {} endpoints", args.services, args.endpoints);
    let mut rows = vec![Row::of(&title, [first.total])];
    let mut cases = Cases { bed, args, ticks: Vec::new(), random: 1 };
    rows.push(cases.readiness()?);
    rows.push(cases.replaced_endpoints()?);
    rows.push(cases.services_that_come_and_go()?);
    rows.extend(cases.rolling_restart()?);
    rows.push(cases.neighbours()?);
    rows.push(cases.relist()?);
    rows.push(Row::of("(a tick of the control thread)", cases.ticks.clone()));
    cases.bed.stop();
    Ok(rows)
}

/// The whole cluster, and how long it takes from text to our own types.
fn decode(args: &Args) -> Result<(ClusterState, Duration)> {
    let (mut objects, mut took) = (Vec::new(), Duration::ZERO);
    for number in 0..args.services {
        let texts = (service(number, 1), slice(number, 1, &args.all_ready(number)));
        let begin = Instant::now();
        objects.push(parse_service(&texts.0)?);
        objects.push(parse_slice(&texts.1)?);
        took += begin.elapsed();
    }
    let begin = Instant::now();
    let state = ClusterState::try_new(objects)?;
    Ok((state, took + begin.elapsed()))
}

impl Args {
    fn all_ready(&self, service: u32) -> Vec<Endpoint> {
        let first = service * self.endpoints;
        (first..first + self.endpoints).map(Endpoint::ready).collect()
    }
}

struct Cases<'a> {
    bed: Bed,
    args: &'a Args,
    ticks: Vec<Duration>,
    random: u32,
}

impl Cases<'_> {
    /// One change, whose Services that are compiled are counted, and a tick after it.
    fn change(&mut self, objects: Vec<Object>, services: usize) -> Result<Duration> {
        let took = self.bed.live(|store, _| {
            objects.into_iter().for_each(|object| store.apply(Change::Upserted(object)));
        })?;
        self.settle(took, services)
    }

    fn settle(&mut self, took: Took, services: usize) -> Result<Duration> {
        ensure!(took.services == services, "{} Services compiled, not {services}", took.services);
        self.ticks.push(self.bed.tick());
        Ok(took.total)
    }

    /// Any Service.
    fn service(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) % self.args.services
    }

    fn readiness(&mut self) -> Result<Row> {
        let mut times = Vec::new();
        for _ in 0..self.args.changes.div_ceil(2) {
            let number = self.service();
            let mut endpoints = self.args.all_ready(number);
            for is_ready in [false, true] {
                endpoints[0].is_ready = is_ready;
                let object = parse_slice(&slice(number, 1, &endpoints))?;
                times.push(self.change(vec![object], 1)?);
            }
        }
        Ok(Row::of("one endpoint becomes ready or not", times))
    }

    fn replaced_endpoints(&mut self) -> Result<Row> {
        let mut times = Vec::new();
        for n in 0..self.args.changes.div_ceil(2) {
            let number = self.service();
            let before = self.args.all_ready(number);
            let mut after = before.clone();
            after[1] = Endpoint::ready(201_000 + n % 20_000);
            for endpoints in [after, before] {
                let object = parse_slice(&slice(number, 1, &endpoints))?;
                times.push(self.change(vec![object], 1)?);
            }
        }
        Ok(Row::of("one endpoint is replaced by another", times))
    }

    fn services_that_come_and_go(&mut self) -> Result<Row> {
        let mut times = Vec::new();
        for _ in 0..self.args.changes.div_ceil(2) {
            let number = self.service();
            let key = ObjectKey::new(
                &format!("team-{:03}", number / 100),
                &format!("service-{number:05}"),
            );
            let removal = Change::Removed(ObjectName::Service(key));
            let took = self.bed.live(|store, _| store.apply(removal))?;
            times.push(self.settle(took, 1)?);
            times.push(self.change(vec![parse_service(&service(number, 1))?], 1)?);
        }
        Ok(Row::of("a Service goes or comes", times))
    }

    /// Pod by pod: it terminates, then another takes its place.
    fn rolling_restart(&mut self) -> Result<[Row; 2]> {
        let first = RESTARTED_ENDPOINTS;
        let mut endpoints: Vec<_> =
            (first..first + self.args.endpoints).map(Endpoint::ready).collect();
        let text = |endpoints: &[Endpoint]| slice(RESTARTED, RESTARTED_PORTS, endpoints);
        let objects = vec![
            parse_service(&service(RESTARTED, RESTARTED_PORTS))?,
            parse_slice(&text(&endpoints))?,
        ];
        self.change(objects, 1)?;
        let (mut times, mut wholes) = (Vec::new(), Vec::new());
        for round in 1..=5 {
            let mut whole = Duration::ZERO;
            for place in 0..endpoints.len() {
                endpoints[place].is_ready = false;
                endpoints[place].is_terminating = true;
                let terminating = parse_slice(&text(&endpoints))?;
                endpoints[place] = Endpoint::ready(endpoints[place].number + 20 * round);
                let replaced = parse_slice(&text(&endpoints))?;
                for object in [terminating, replaced] {
                    let took = self.change(vec![object], 1)?;
                    whole += took;
                    times.push(took);
                }
            }
            wholes.push(whole);
        }
        Ok([
            Row::of("a step of a rolling restart, 400 ports", times),
            Row::of("(all steps of a rolling restart, 400 ports)", wholes),
        ])
    }

    /// A node answers from another link address: the Services with a backend there are compiled.
    fn neighbours(&mut self) -> Result<Row> {
        let mut times = Vec::new();
        for n in 0..self.args.changes.div_ceil(10) {
            let (node, inner) = (n % super::cluster::NODES, self.bed.inner);
            let variant = u8::try_from(n % 200 + 1).unwrap_or(1);
            let took = self
                .bed
                .live(|_, network| set_mac(&mut network.neighbours, inner, node, variant))?;
            ensure!(took.services > 0, "no Service has a backend on node {node}");
            times.push(self.settle(took, took.services)?);
        }
        Ok(Row::of("a node's link address changes: 1 endpoint in 1,000", times))
    }

    /// The watch was lost: the whole state is told again, and in it ten slices differ.
    fn relist(&mut self) -> Result<Row> {
        let mut times = Vec::new();
        for round in 0..self.args.changes.div_ceil(25) {
            // Read anew, as from the wire: nothing is shared with what is held.
            let (mut state, _) = decode(self.args)?;
            state.apply(Change::Upserted(parse_service(&service(RESTARTED, RESTARTED_PORTS))?));
            for (key, held) in &self.bed.store.state().slices {
                if !state.slices.contains_key(key) {
                    state.slices.insert(key.clone(), held.clone());
                }
            }
            for place in 0..10 {
                let number = (round * 97 + place * 13) % self.args.services;
                let mut endpoints = self.args.all_ready(number);
                endpoints.truncate(endpoints.len() - 1 - (round % 2) as usize);
                state.apply(Change::Upserted(parse_slice(&slice(number, 1, &endpoints))?));
            }
            let took = self.bed.live(|store, _| store.replace(&state))?;
            ensure!(took.services <= 20, "{} Services compiled after a relist", took.services);
            times.push(self.settle(took, took.services)?);
        }
        Ok(Row::of("a relist in which ten Services differ", times))
    }
}
