//! One forwarder, one scenario, one turn: paced loads up to the limit, then as much as there is.

use super::bed::cpu::CpuClock;
use super::bed::ends::Ends;
use super::bed::napi::Placement;
use super::bed::rig::Rig;
use super::forwarder::{Forwarder, serving};
use super::point::{LOSS_MAX, Point, best, point};
use super::scenario::{Scenario, Work};
use super::search::Search;
use crate::generator::{Kind, Load, Rate, Sent};
use crate::numbers::float;
use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use std::cell::Cell;
use std::time::{Duration, Instant};
use tidegate_control::demo::Interrupt;

/// A load that every forwarder should carry, to compare their cost.
const COMMON_PPS: f64 = 200_000.0;

/// Where everything runs, and how long.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Sender of paced loads.
    pub(crate) paced: Kind,
    /// Sender of the flood.
    pub(crate) flood: Kind,
    pub(crate) generator_cpu: usize,
    pub(crate) forwarder_cpu: usize,
    /// Length of a load that looks for the limit: short, so that few of them meet other work.
    pub(crate) probe_seconds: f64,
    /// Length of a paced load that shows the cost.
    pub(crate) paced_seconds: f64,
    /// Length of the flood.
    pub(crate) flood_seconds: f64,
    /// The first paced load; each next one is twice as large ...
    pub(crate) rate_first_pps: f64,
    /// ... up to this many packets per second.
    pub(crate) rate_max_pps: f64,
}

/// All loads of one turn.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Turn {
    pub(crate) round: u32,
    pub(crate) forwarder: &'static str,
    pub(crate) placement: Placement,
    pub(crate) scenario: Scenario,
    /// The loads that looked for the limit, in the order in which they were tried.
    pub(crate) paced: Vec<Point>,
    /// The largest load that was carried, once more and longer: its cost.
    pub(crate) at_best: Option<Point>,
    /// The load [`COMMON_PPS`] of established flows: its cost.
    pub(crate) at_common: Option<Point>,
    /// As much as the generator can, but for connections: SYNs without end are an attack.
    pub(crate) flood: Option<Point>,
}

impl Turn {
    /// The largest paced load that was carried.
    pub(crate) fn best(&self) -> Option<&Point> {
        best(&self.paced)
    }

    /// Whether nothing larger than the best load lost packets: the generator is the limit.
    pub(crate) fn is_generator_bound(&self) -> bool {
        let best_pps = self.best().and_then(|p| p.asked_pps).unwrap_or(0.0);
        let larger = self.paced.iter().filter(|p| p.asked_pps.unwrap_or(0.0) > best_pps);
        larger.into_iter().all(|p| p.loss < LOSS_MAX)
    }
}

/// Measures `forwarder` on a rig of its own.
pub(crate) fn measure(
    forwarder: &dyn Forwarder,
    plan: &Plan,
    task: &Task,
    interrupt: &Interrupt,
) -> Result<Turn> {
    let (rig, sink) = task.build()?;
    let (sink, next_flow) = (&sink, Cell::new(0));
    let course = Course { rig: &rig, sink, forwarder, plan, task, interrupt, next_flow };
    serving(forwarder, (&rig, &task.scenario), plan.forwarder_cpu, || course.run())
}

/// Which turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) round: u32,
    pub(crate) scenario: Scenario,
    /// The largest load that was carried in the round before.
    pub(crate) expected_pps: Option<f64>,
}

impl Task {
    /// A rig, and who counts what was forwarded.
    fn build(&self) -> Result<(Rig, Sink)> {
        let backends = self.scenario.backends();
        if self.scenario.work != Work::Connections {
            return Ok((Rig::with_backends(backends)?, Sink::Interface));
        }
        let rig = Rig::without_sink(backends)?;
        let ends = Ends::attach(&rig)?;
        Ok((rig, Sink::Ends(ends)))
    }
}

/// Who counts.
#[derive(Debug)]
enum Sink {
    /// The backends' interface: packets.
    Interface,
    /// The client's end: completed connections.
    Ends(Ends),
}

struct Course<'a> {
    rig: &'a Rig,
    sink: &'a Sink,
    forwarder: &'a dyn Forwarder,
    plan: &'a Plan,
    task: &'a Task,
    interrupt: &'a Interrupt,
    /// The next packet's flow.
    next_flow: Cell<u32>,
}

impl Course<'_> {
    fn run(&self) -> Result<Turn> {
        self.warm_up()?;
        let paced = self.climb()?;
        let long = self.plan.paced_seconds;
        let best_pps = best(&paced).and_then(|point| point.asked_pps);
        Ok(Turn {
            round: self.task.round,
            forwarder: self.forwarder.name(),
            placement: self.forwarder.placement(),
            scenario: self.task.scenario,
            at_best: best_pps.map(|pps| self.point(Rate::Paced(pps), long)).transpose()?,
            at_common: self.at_common()?,
            flood: self.flooded()?,
            paced,
        })
    }

    fn at_common(&self) -> Result<Option<Point>> {
        let is_stream = matches!(self.task.scenario.work, Work::Stream(_));
        let rate = is_stream.then_some(Rate::Paced(COMMON_PPS));
        rate.map(|rate| self.point(rate, self.plan.paced_seconds)).transpose()
    }

    fn flooded(&self) -> Result<Option<Point>> {
        let is_flood = self.task.scenario.work != Work::Connections;
        is_flood.then(|| self.point(Rate::Full, self.plan.flood_seconds)).transpose()
    }

    /// Packets do arrive, and every flow is known before anything is measured: they are sent until
    /// all of them have come through.
    fn warm_up(&self) -> Result<()> {
        let (rate, seconds) = self.warm_up_load();
        let (mut sent, mut arrived) = (0, 0);
        for _ in 0..WARM_UPS_MAX {
            let before = self.delivered()?;
            let load = self.load(Rate::Paced(rate), seconds).run(self.rig.client_ns())?;
            self.pass_flows(&load)?;
            (sent, arrived) = (load.packets, self.settled()? - before);
            if arrived + sent / WARM_UP_LOSS >= sent {
                return Ok(());
            }
        }
        let name = self.forwarder.name();
        ensure!(arrived * 2 > sent, "{name} delivered {arrived} of {sent} that are to warm it up");
        Ok(())
    }

    /// Packets per second, and how long.
    fn warm_up_load(&self) -> (f64, f64) {
        let flows = match self.task.scenario.work {
            Work::Stream(flows) if self.forwarder.keeps_flows() => f64::from(flows),
            Work::Connections => return (CONNECTIONS_PPS, 0.1),
            Work::Stream(_) | Work::NewFlows => 0.0,
        };
        let rate = if flows > WARM_UP_FEW { WARM_UP_MANY_PPS } else { WARM_UP_PPS };
        (rate, 0.1 + flows * 1.02 / rate)
    }

    /// Looks for the largest load that is carried.
    fn climb(&self) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        let first = match self.task.scenario.work {
            Work::Connections => CONNECTIONS_PPS,
            _ => self.plan.rate_first_pps,
        };
        let mut search = Search::new(first, self.plan.rate_max_pps, self.task.expected_pps);
        while let Some(rate) = search.next() {
            let is_carried = self.is_carried(rate, &mut points)?;
            search.tell(rate, is_carried);
        }
        Ok(points)
    }

    /// Whether a load is carried in one of a few tries: what the machine does besides must not be
    /// taken for the forwarder's limit.
    fn is_carried(&self, rate: f64, points: &mut Vec<Point>) -> Result<bool> {
        let mut clear_losses = 0;
        for _ in 0..TRIES {
            let point = self.point(Rate::Paced(rate), self.probe_seconds())?;
            points.push(point);
            clear_losses += u32::from(point.loss > LOSS_CLEAR);
            if point.is_carried() || clear_losses >= LOSSES_CLEAR {
                return Ok(point.is_carried());
            }
        }
        Ok(false)
    }

    fn probe_seconds(&self) -> f64 {
        let is_slow = self.task.scenario.work == Work::Connections;
        self.plan.probe_seconds * if is_slow { 3.0 } else { 1.0 }
    }

    fn point(&self, rate: Rate, seconds: f64) -> Result<Point> {
        self.interrupt.check()?;
        let load = self.load(rate, seconds);
        let before = self.delivered()?;
        let (sent, window) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| load.run(self.rig.client_ns()));
            let window = self.watch(load.duration);
            (sending.join(), window)
        });
        let sent = sent.map_err(|_panic| anyhow!("the generator panicked"))??;
        self.pass_flows(&sent)?;
        let delivered = self.delivered_in_time()?.saturating_sub(before);
        Ok(point(rate, &sent, delivered, window?))
    }

    /// The gateway's CPU seconds per million packets in the middle of a load: without what it
    /// spends while the generator starts and ends. `None` where nothing arrives.
    fn watch(&self, duration: Duration) -> Result<Option<f64>> {
        std::thread::sleep(duration.mul_f64(WATCH_FROM));
        let read = || -> Result<_> {
            let clock = CpuClock::read(self.plan.generator_cpu, self.plan.forwarder_cpu)?;
            Ok((clock, self.delivered()?))
        };
        let (clock, before) = read()?;
        std::thread::sleep(duration.mul_f64(WATCH_UNTIL - WATCH_FROM));
        let (later, after) = read()?;
        let millions = float(after.saturating_sub(before)) / 1e6;
        let seconds = later.gateway_since(&clock).as_secs_f64();
        Ok((millions > 0.0).then(|| seconds / millions))
    }

    fn load(&self, rate: Rate, seconds: f64) -> Load {
        let kind = match rate {
            Rate::Paced(_) => self.plan.paced,
            Rate::Full => self.plan.flood,
        };
        let flow_first = match self.task.scenario.work {
            // It can do no other.
            Work::Stream(_) if kind == Kind::Xsk => 0,
            _ => self.next_flow.get(),
        };
        Load {
            kind,
            route: self.rig.route(self.forwarder.destination(self.rig)),
            name: self.rig.client.name.into(),
            index: self.rig.client.index,
            flows: self.task.scenario.tuples(),
            flow_first,
            shape: self.task.scenario.shape(),
            rate,
            duration: Duration::from_secs_f64(seconds),
            cpu: self.plan.generator_cpu,
        }
    }

    /// Packets that were forwarded, or connections that were completed.
    fn delivered(&self) -> Result<u64> {
        match self.sink {
            Sink::Interface => self.rig.delivered(),
            Sink::Ends(ends) => ends.completed(),
        }
    }

    /// The next load goes on where this one ended: no tuple comes again where every packet is a new
    /// flow, and no established one is idle for long.
    fn pass_flows(&self, sent: &Sent) -> Result<()> {
        let next = u64::from(self.next_flow.get()) + sent.packets;
        let next = next % u64::from(self.task.scenario.tuples());
        self.next_flow.set(u32::try_from(next).context("count new flows")?);
        Ok(())
    }

    /// The count at the end of a load. Packets that wait in rings are few; but a proxy works off
    /// connections that have waited for a second, and what is late was not carried.
    fn delivered_in_time(&self) -> Result<u64> {
        if self.task.scenario.work != Work::Connections {
            return self.settled();
        }
        std::thread::sleep(IN_FLIGHT);
        let in_time = self.delivered()?;
        self.settled()?;
        Ok(in_time)
    }

    /// The count of delivered packets once it stands still.
    fn settled(&self) -> Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut last = self.delivered()?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.delivered()?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }
}

/// Gentle enough for every forwarder to make its flows.
const WARM_UP_PPS: f64 = 100_000.0;

/// A loss that other work on the machine seldom explains: so many of them are enough.
const LOSS_CLEAR: f64 = 0.15;
const LOSSES_CLEAR: u32 = 2;

/// Tries for each other load before it counts as not carried.
const TRIES: usize = 8;

/// Loads to warm up with: enough for a forwarder that takes in half of the new flows of each.
const WARM_UPS_MAX: u32 = 6;

/// All flows are known once less than this part of a load is lost: what is lost then is lost to
/// other work, and most of those flows were known before.
const WARM_UP_LOSS: u64 = 200;

/// Soon over with a million flows.
const WARM_UP_MANY_PPS: f64 = 200_000.0;

/// So many flows are few.
const WARM_UP_FEW: f64 = 100_000.0;

/// The first load of connections, a second: each is six packets and two ends' work.
const CONNECTIONS_PPS: f64 = 10_000.0;

/// How long a connection may be under way: longer than the generator's last batch takes, and 2 % of
/// a load's time.
const IN_FLIGHT: Duration = Duration::from_millis(5);

/// The part of a load's time in which CPU time is measured.
const WATCH_FROM: f64 = 0.2;
const WATCH_UNTIL: f64 = 0.9;
