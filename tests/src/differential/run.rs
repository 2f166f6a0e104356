//! Batch after batch: into both worlds, out of both, compared.

use super::arena::{Seen, World};
use super::cause::cause;
use super::exceptions::{EXCEPTIONS, Exception};
use super::flow::Side;
use super::generator::Generator;
use super::kind::Kind;
use super::normal::{Freedom, Normaliser, Output};
use super::pieces;
use super::setup::{FrontKind, Place};
use super::shot::{Origin, Shot};
use super::wire::{Ends, Transport};
use crate::lab::packets_of;
use crate::spread::Spread;
use anyhow::{Context as _, Result, bail, ensure};
use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate_control::admin::report::{DropsReport, List, ReasonReport, WorkerReport};
use tidegate_control::demo::rig::Daemon;

/// Packets that are sent before it is asked what came out: few enough for every ring.
const BATCH: usize = 64;

/// How long a packet that is missed may still take on a busy machine, and how often it is looked
/// for.
const GRACE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Datagrams in fragments that may be lost by a machine that stands still: as many as one stall
/// meets, a few times.
const LATE_MAX: u32 = 20;

/// What shall be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The same seed sends the same packets.
    pub seed: u64,
    /// How many, at least.
    pub packets: u32,
    /// How they meet tidegate's workers.
    pub spread: Spread,
    /// Pairs of lines: the first, of the demo's config, is replaced by the second.
    pub changes: &'static [(&'static str, &'static str)],
}

/// What was done, by name: packets of each kind, uses of each freedom and exception.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<String, u64>);

impl Report {
    fn count(&mut self, name: String) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Ends with an error where something that is listed never occurred.
    fn ensure_complete(&self) -> Result<()> {
        let kinds = Kind::WEIGHTS.iter().map(|(kind, _)| of_kind(*kind));
        let exceptions = EXCEPTIONS.iter().map(of_exception);
        let freedoms = Freedom::ALL.into_iter().map(of_freedom);
        let fronts = [FrontKind::NodePort, FrontKind::Vip, FrontKind::ExternalIp].map(of_front);
        let homes = [Place::Client, Place::PodA, Place::PodB].map(of_home);
        let cut = core::iter::once(CUT.to_owned());
        let all = kinds.chain(exceptions).chain(freedoms).chain(fronts).chain(homes).chain(cut);
        let never: Vec<_> = all.filter(|name| !self.0.contains_key(name)).collect();
        ensure!(never.is_empty(), "never occurred, so nothing is known about: {never:?}");
        Ok(())
    }
}

impl core::fmt::Display for Report {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "{count:8}  {name}"))
    }
}

/// Whole packets that came out in pieces.
const CUT: &str = "cut on the way";

fn of_kind(kind: Kind) -> String {
    format!("packets: {kind:?}")
}

fn of_front(kind: FrontKind) -> String {
    format!("to: {kind:?}")
}

fn of_home(home: Place) -> String {
    format!("from: {home:?}")
}

fn of_exception(exception: &Exception) -> String {
    format!("exception: {}: {}", exception.name, exception.reason)
}

fn of_freedom(freedom: Freedom) -> String {
    format!("freedom: {freedom:?}")
}

/// Sends random packets through both worlds and compares what comes out.
///
/// # Errors
/// Something differs that may not: the error shows the packet, both outputs and the seed. Or a
/// world cannot be built, an exception never occurred, or tidegate's books do not balance.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut worlds = [World::kernel()?, World::tidegate(plan.spread, plan.changes)?];
    for world in &mut worlds {
        world.warm_up()?;
        world.drain()?;
    }
    let mut run = Run {
        generator: Generator::new(plan.seed, plan.spread),
        normaliser: Normaliser::default(),
        report: Report::default(),
        late: 0,
        fragments_passed: 0,
    };
    let mut sent = 0;
    while sent < plan.packets {
        let context = || format!("seed {:#x}, after {sent} packets", plan.seed);
        sent += run.batch(&mut worlds).with_context(context)?;
    }
    for freedom in Freedom::ALL {
        let used = run.normaliser.used[freedom as usize];
        run.report.0.extend((used > 0).then(|| (of_freedom(freedom), used)));
    }
    balance(&worlds[1], plan)?;
    run.report.ensure_complete()?;
    Ok(run.report)
}

/// tidegate must have forwarded them itself, and know what became of every one.
fn balance(world: &World, plan: &Plan) -> Result<()> {
    let report = drops(world)?;
    ensure!(report.sum.forwarded > u64::from(plan.packets) / 2, "{:?}", report.sum);
    let bugs: Vec<_> = report.dropped.iter().filter(|reason| reason.kind == "bug").collect();
    ensure!(bugs.is_empty(), "dropped by a bug: {bugs:?}");
    let workers: List<WorkerReport> = daemon(world)?.get_json("/api/v1/workers")?;
    // Else each flow's packets came in at one worker alone.
    let have_handed = workers.items.iter().all(|worker| worker.handed_packets > 0);
    ensure!(plan.spread == Spread::OneQueue || have_handed, "nothing was shuffled: {workers:?}");
    Ok(())
}

fn daemon(world: &World) -> Result<&Daemon> {
    world.site().and_then(|site| site.daemon()).context("a running tidegate")
}

fn drops(world: &World) -> Result<DropsReport> {
    Ok(daemon(world)?.get_json("/api/v1/drops")?)
}

/// What tidegate did not forward, by reason.
fn reasons(world: &World) -> Result<String> {
    let report = drops(world)?;
    let rows = report.dropped.iter().chain(&report.rejected).chain(&report.passed);
    let row = |row: &ReasonReport| {
        format!("{:8}  {} ({}) of {}\n", row.packets, row.reason, row.stage, row.interface)
    };
    Ok(rows.map(row).collect())
}

/// What came out of both worlds for each packet of a batch.
type Outputs = Vec<[Vec<Output>; 2]>;

struct Run {
    generator: Generator,
    normaliser: Normaliser,
    report: Report,
    /// Datagrams that were lost by a busy machine, and what tidegate told of fragments last.
    late: u32,
    fragments_passed: u64,
}

impl Run {
    /// One batch. Returns how many packets it had.
    fn batch(&mut self, worlds: &mut [World; 2]) -> Result<u32> {
        let shots = self.generator.batch(BATCH);
        let mut sent = [Vec::new(), Vec::new()];
        for (index, world) in worlds.iter_mut().enumerate() {
            for shot in &shots {
                sent[index].push(self.send(world, index, shot)?);
            }
        }
        let mut outputs: Outputs = shots.iter().map(|_| [Vec::new(), Vec::new()]).collect();
        for (index, world) in worlds.iter_mut().enumerate() {
            let seen = world.drain()?;
            self.sort(&mut outputs, (&shots, &sent[index]), (index, &seen))?;
        }
        let deadline = Instant::now() + GRACE;
        while difference(&shots, &outputs).is_some() && Instant::now() < deadline {
            for (index, world) in worlds.iter_mut().enumerate() {
                let seen = world.linger(LOOK_EVERY)?;
                self.sort(&mut outputs, (&shots, &sent[index]), (index, &seen))?;
            }
        }
        let late_before = self.late;
        while let Some(index) = difference(&shots, &outputs) {
            if self.is_late(&worlds[1], &shots[index], &outputs[index])? {
                outputs[index] = Default::default();
                worlds[1].give_up_pieces();
                continue;
            }
            let text = describe(&shots[index], &sent[0][index], &outputs[index]);
            let pieces: Vec<_> = worlds.iter_mut().map(World::give_up_pieces).collect();
            let (history, reasons) = (self.history(&shots[index]), reasons(&worlds[1])?);
            bail!("{text}{history}\nfragments left behind: {pieces:#?}\n{reasons}");
        }
        self.forget_late(&worlds[1], late_before)?;
        for world in worlds {
            let pieces = world.give_up_pieces();
            ensure!(pieces.is_empty(), "{} left fragments behind: {pieces:#?}", world.name());
        }
        self.count(&shots, &outputs);
        Ok(u32::try_from(shots.len())?)
    }

    /// Whether a datagram was lost since a worker, or we, stood still for longer than a fragment
    /// waits for its first: on a busy machine. tidegate tells that it gave one to the kernel.
    fn is_late(
        &mut self,
        world: &World,
        shot: &Shot,
        [kernel, tidegate]: &[Vec<Output>; 2],
    ) -> Result<bool> {
        let (Some(_), Origin::Flow(flow, _)) = (shot.cut, shot.of) else { return Ok(false) };
        let passed = packets_of(&drops(world)?.passed, "FRAGMENT");
        if !tidegate.is_empty() || kernel.is_empty() || passed <= self.fragments_passed {
            return Ok(false);
        }
        // What is known of the flow differs from now on.
        self.generator.flow_mut(flow).packets_left = 0;
        self.late += 1;
        Ok(self.late <= LATE_MAX)
    }

    /// Before the next batch: what the last one lost says nothing about it.
    fn forget_late(&mut self, world: &World, late_before: u32) -> Result<()> {
        if self.late > late_before {
            self.fragments_passed = packets_of(&drops(world)?.passed, "FRAGMENT");
        }
        Ok(())
    }

    /// Sends a packet and returns it with its ends in this world.
    fn send(&self, world: &mut World, index: usize, shot: &Shot) -> Result<(Ends, Vec<u8>)> {
        let mut template = shot.template.clone();
        let (place, mut ends) = match shot.of {
            Origin::Alone(ends) => (Place::Client, ends),
            Origin::Flow(flow, side) => {
                let flow = self.generator.flow(flow);
                let of_flow = flow.place(side, index).zip(flow.ends(side, index));
                of_flow.context("a flow whose backend is not known answers")?
            }
        };
        if let Transport::Error(complaint) = &template.transport {
            if complaint.by_router {
                ends.source.set_ip(Place::router(ends.source.ip()));
            }
            template.payload.clone_from(&shot.quotes[index]);
        }
        let packet = template.write(shot.marker, ends)?;
        let pieces = match shot.cut {
            Some(how) => pieces::cut(&packet, shot.marker, how)?,
            None => vec![packet.clone()],
        };
        pieces.iter().try_for_each(|piece| world.send(place, piece))?;
        Ok((ends, packet))
    }

    /// Gives each packet that came out to the one that went in.
    fn sort(
        &mut self,
        outputs: &mut Outputs,
        (shots, sent): (&[Shot], &[(Ends, Vec<u8>)]),
        (world, seen): (usize, &[Seen]),
    ) -> Result<()> {
        let by_marker: BTreeMap<u16, usize> = shots.iter().map(|s| s.marker).zip(0..).collect();
        let name = ["the kernel", "tidegate"][world];
        let with_cause = seen.iter().map(|seen| {
            let unknown = || format!("{name} made this of nothing known: {seen:?}");
            cause(&by_marker, sent, seen).map(|index| (index, seen)).with_context(unknown)
        });
        let mut with_cause: Vec<_> = with_cause.collect::<Result<_>>()?;
        // As they were sent: the places were read one after the other.
        with_cause.sort_by_key(|(index, _)| *index);
        for (index, seen) in with_cause {
            let flows = &mut self.generator.flows;
            let normal = self.normaliser.normal((world, seen), &shots[index], flows);
            let output = normal.map_err(|wrong| {
                let (what, packet) = (hex(&seen.packet), hex(&sent[index].1));
                anyhow::anyhow!(
                    "{name}: {wrong}\n#{} {:?} {:?}\nwent in: {packet}\ncame out at {:?}: {what}{}",
                    shots[index].marker,
                    shots[index].kind,
                    shots[index].of,
                    seen.place,
                    self.history(&shots[index])
                )
            })?;
            outputs[index][world].push(output);
        }
        Ok(())
    }

    /// What its flow has seen so far.
    fn history(&self, shot: &Shot) -> String {
        match shot.of {
            Origin::Flow(index, _) => {
                let flow = self.generator.flow(index);
                let (service, history) = (flow.service.name, flow.history.join("\n  "));
                format!("\nits flow, to {service}:\n  {history}\n{:?}", flow.arrivals)
            }
            Origin::Alone(_) => String::new(),
        }
    }

    fn count(&mut self, shots: &[Shot], outputs: &Outputs) {
        for (shot, [kernel, tidegate]) in shots.iter().zip(outputs) {
            self.report.count(of_kind(shot.kind));
            if tidegate.iter().any(Output::is_cut) {
                self.report.count(CUT.to_owned());
            }
            if let Origin::Flow(index, Side::Client) = shot.of {
                let flow = self.generator.flow(index);
                self.report.count(of_front(flow.front_kind));
                self.report.count(of_home(flow.home));
            }
            let found = (kernel != tidegate).then(|| exception(shot, kernel, tidegate)).flatten();
            if let Some(exception) = found {
                self.report.count(of_exception(exception));
            }
        }
    }
}

/// The first packet that the worlds treat differently though they may not.
fn difference(shots: &[Shot], outputs: &Outputs) -> Option<usize> {
    let differs = |(shot, [kernel, tidegate]): (&Shot, &[Vec<Output>; 2])| {
        kernel != tidegate && exception(shot, kernel, tidegate).is_none()
    };
    shots.iter().zip(outputs).position(differs)
}

fn exception(shot: &Shot, kernel: &[Output], tidegate: &[Output]) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| (exception.applies)(shot, kernel, tidegate))
}

fn describe(shot: &Shot, sent: &(Ends, Vec<u8>), [kernel, tidegate]: &[Vec<Output>; 2]) -> String {
    let side = match shot.of {
        Origin::Flow(_, Side::Backend) => "a backend",
        Origin::Flow(_, Side::Client) | Origin::Alone(_) => "a client",
    };
    let came_out = |outputs: &[Output]| {
        let lines = outputs.iter().map(|output| {
            let end = if output.is_inside { "a backend" } else { "a client" };
            format!("  at {end}: {}\n  {output:?}\n", hex(&output.packet))
        });
        lines.collect::<String>()
    };
    let cut = shot.cut;
    format!(
        "the worlds differ over {:?} of {side} ({:?}), cut {cut:?}, in the kernel's world {:?}\n\
         went in:\n  {}\ncame out of the kernel, less what it may choose:\n{}\
         came out of tidegate, less what it may choose:\n{}",
        shot.kind,
        shot.of,
        sent.0,
        hex(&sent.1),
        came_out(kernel),
        came_out(tidegate),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a string takes everything");
        text
    })
}
