//! One forwarder, one number of flows, one turn: rising paced loads, then as much as there is.

use super::cpu::CpuClock;
use super::forwarder::{Forwarder, Session};
use super::napi::{self, Placement};
use super::rig::Rig;
use crate::generator::{Kind, Load, Rate, Sent};
use crate::numbers::{float, ratio};
use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tidegate_control::demo::Interrupt;

/// A paced load that loses less counts as carried.
pub(crate) const LOSS_MAX: f64 = 0.005;

/// A load that every forwarder should carry, to compare their cost.
const COMMON_PPS: f64 = 200_000.0;

/// A generator that sends less than this share of the rate is the limit itself.
const KEPT_RATE_MIN: f64 = 0.98;

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

/// One load and what became of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Point {
    /// Packets per second asked of the generator; `None` for as many as it can.
    pub(crate) asked_pps: Option<f64>,
    pub(crate) sent_pps: f64,
    pub(crate) delivered_pps: f64,
    /// Share of the sent packets that did not arrive.
    pub(crate) loss: f64,
    /// The gateway's CPU time per million delivered packets.
    pub(crate) cpu_seconds_per_million: f64,
    /// The generator could not keep the rate: it is the limit, not the forwarder.
    pub(crate) is_generator_bound: bool,
}

/// All loads of one turn.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Turn {
    pub(crate) round: u32,
    pub(crate) forwarder: &'static str,
    pub(crate) placement: Placement,
    pub(crate) flows: u32,
    /// The loads that looked for the limit, in the order in which they were tried.
    pub(crate) paced: Vec<Point>,
    /// The largest load that was carried, once more and longer: its cost.
    pub(crate) at_best: Option<Point>,
    /// The load [`COMMON_PPS`]: its cost.
    pub(crate) at_common: Point,
    pub(crate) flood: Point,
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

fn best(points: &[Point]) -> Option<&Point> {
    let carried = points.iter().filter(|p| p.is_carried());
    carried.max_by(|a, b| a.asked_pps.unwrap_or(0.0).total_cmp(&b.asked_pps.unwrap_or(0.0)))
}

impl Point {
    fn is_carried(&self) -> bool {
        self.loss < LOSS_MAX && !self.is_generator_bound
    }
}

/// Measures `forwarder` on a rig of its own.
pub(crate) fn measure(
    forwarder: &dyn Forwarder,
    plan: &Plan,
    (flows, round): (u32, u32),
    interrupt: &Interrupt,
) -> Result<Turn> {
    let rig = Rig::build()?;
    let (sender, ready) = channel();
    let session = Session::new(sender);
    let serve = || {
        let result = rig.gateway().enter(|| forwarder.serve(&rig, &session));
        // Whoever waits for readiness must not wait for ever.
        session.ready();
        result
    };
    std::thread::scope(|scope| {
        let service = scope.spawn(serve);
        let course = Course { rig: &rig, forwarder, plan, flows, round, interrupt };
        let measured = course.run(&ready);
        session.end();
        let served = service.join().map_err(|_panic| anyhow!("the forwarder panicked"))?;
        served.map_err(anyhow::Error::from).flatten().context("forward packets")?;
        measured
    })
}

struct Course<'a> {
    rig: &'a Rig,
    forwarder: &'a dyn Forwarder,
    plan: &'a Plan,
    flows: u32,
    round: u32,
    interrupt: &'a Interrupt,
}

impl Course<'_> {
    fn run(&self, ready: &Receiver<()>) -> Result<Turn> {
        ready.recv_timeout(Duration::from_secs(20)).context("wait for the forwarder")?;
        if self.forwarder.placement() == Placement::Forwarder {
            napi::receive_on(self.rig, self.plan.forwarder_cpu)?;
        }
        self.warm_up()?;
        let paced = self.climb()?;
        let long = self.plan.paced_seconds;
        let best_pps = best(&paced).and_then(|point| point.asked_pps);
        Ok(Turn {
            round: self.round,
            forwarder: self.forwarder.name(),
            placement: self.forwarder.placement(),
            flows: self.flows,
            at_best: best_pps.map(|pps| self.point(Rate::Paced(pps), long)).transpose()?,
            at_common: self.point(Rate::Paced(COMMON_PPS), long)?,
            flood: self.point(Rate::Full, self.plan.flood_seconds)?,
            paced,
        })
    }

    /// Every flow is known before anything is measured; and packets do arrive.
    fn warm_up(&self) -> Result<()> {
        let seconds = 0.1 + f64::from(self.flows) * 2.0 / WARM_UP_PPS;
        let load = self.load(Rate::Paced(WARM_UP_PPS), seconds);
        let before = self.rig.delivered()?;
        let sent = load.run(self.rig.client_ns())?;
        let arrived = self.settled()? - before;
        let name = self.forwarder.name();
        ensure!(arrived * 2 > sent.packets, "{name} delivered {arrived} of {}", sent.packets);
        Ok(())
    }

    /// Doubles the load until one is not carried, then halves the gap between the last that was and
    /// the first that was not.
    fn climb(&self) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut rate = self.plan.rate_first_pps;
        while rate <= self.plan.rate_max_pps && high.is_infinite() {
            *(if self.is_carried(rate, &mut points)? { &mut low } else { &mut high }) = rate;
            rate *= 2.0;
        }
        for _ in 0..HALVINGS_MAX {
            if high.is_infinite() || high - low < high * GAP {
                break;
            }
            let middle = f64::midpoint(low, high);
            let is_carried = self.is_carried(middle, &mut points)?;
            *(if is_carried { &mut low } else { &mut high }) = middle;
        }
        Ok(points)
    }

    /// Whether a load is carried in one of a few tries: what the machine does besides must not be
    /// taken for the forwarder's limit.
    fn is_carried(&self, rate: f64, points: &mut Vec<Point>) -> Result<bool> {
        for _ in 0..TRIES {
            let point = self.point(Rate::Paced(rate), self.plan.probe_seconds)?;
            points.push(point);
            if point.is_carried() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn point(&self, rate: Rate, seconds: f64) -> Result<Point> {
        self.interrupt.check()?;
        let load = self.load(rate, seconds);
        let before = self.rig.delivered()?;
        let (sent, window) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| load.run(self.rig.client_ns()));
            let window = self.watch(load.duration);
            (sending.join(), window)
        });
        let sent = sent.map_err(|_panic| anyhow!("the generator panicked"))??;
        let delivered = self.settled()?.saturating_sub(before);
        Ok(point(rate, &sent, delivered, window?))
    }

    /// The gateway's CPU seconds per million packets in the middle of a load: without what it
    /// spends while the generator starts and ends.
    fn watch(&self, duration: Duration) -> Result<f64> {
        std::thread::sleep(duration.mul_f64(WATCH_FROM));
        let read = || -> Result<_> {
            let clock = CpuClock::read(self.plan.generator_cpu, self.plan.forwarder_cpu)?;
            Ok((clock, self.rig.delivered()?))
        };
        let (clock, before) = read()?;
        std::thread::sleep(duration.mul_f64(WATCH_UNTIL - WATCH_FROM));
        let (later, after) = read()?;
        let millions = float(after.saturating_sub(before)) / 1e6;
        Ok(later.gateway_since(&clock).as_secs_f64() / millions)
    }

    fn load(&self, rate: Rate, seconds: f64) -> Load {
        let kind = match rate {
            Rate::Paced(_) => self.plan.paced,
            Rate::Full => self.plan.flood,
        };
        Load {
            kind,
            route: self.rig.route(self.forwarder.destination()),
            name: self.rig.client.name.into(),
            index: self.rig.client.index,
            flows: self.flows,
            rate,
            duration: Duration::from_secs_f64(seconds),
            cpu: self.plan.generator_cpu,
        }
    }

    /// The count of delivered packets once it stands still.
    fn settled(&self) -> Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut last = self.rig.delivered()?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.rig.delivered()?;
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

/// Tries for each load before it counts as not carried.
const TRIES: usize = 5;

/// The limit is found to within this share of itself ...
const GAP: f64 = 0.03;

/// ... or after so many halvings.
const HALVINGS_MAX: usize = 6;

/// The part of a load's time in which CPU time is measured.
const WATCH_FROM: f64 = 0.2;
const WATCH_UNTIL: f64 = 0.9;

fn point(rate: Rate, sent: &Sent, delivered: u64, cpu_seconds_per_million: f64) -> Point {
    let asked_pps = match rate {
        Rate::Paced(pps) => Some(pps),
        Rate::Full => None,
    };
    let lost = sent.packets.saturating_sub(delivered);
    Point {
        asked_pps,
        sent_pps: sent.rate_pps(),
        delivered_pps: ratio(delivered, sent.elapsed.as_secs_f64()),
        loss: ratio(lost, float(sent.packets)),
        cpu_seconds_per_million,
        is_generator_bound: asked_pps.is_some_and(|pps| sent.rate_pps() < pps * KEPT_RATE_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(packets: u64) -> Sent {
        Sent { packets, elapsed: Duration::from_secs(2) }
    }

    #[test]
    fn a_load_is_carried_only_if_it_was_offered_and_arrived() {
        let carried = point(Rate::Paced(1000.0), &sent(2000), 1995, 1.0);
        assert!(carried.is_carried());
        assert!((carried.loss - 0.0025).abs() < 1e-9);
        assert!((carried.delivered_pps - 997.5).abs() < 1e-6);
        assert!(!point(Rate::Paced(1000.0), &sent(2000), 1980, 1.0).is_carried());
        assert!(!point(Rate::Paced(2000.0), &sent(2000), 2000, 1.0).is_carried());
    }
}
