//! Latency of all forwarders at one absolute rate, in turn, round after round: of packets one way,
//! or of requests and their answers.

use super::bed;
use super::files;
use super::requests::Requests;
use super::run::{PARTIAL_LOSS, SearchArgs};
use super::search::{Limits, search};
use super::traffic::{Traffic, defaults};
use super::trial::{Latency, Trial};
use super::wire::frame::Transport;
use crate::numbers::Spread;
use crate::report;
use crate::rivals::{Forwarder, Precedence, Scenario, forwarders, is_variant};
use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;
use tidegate_control::cli::view::table::Table;
use tidegate_control::demo::Interrupt;
use tidegate_dataplane::stats::latency::empty_histogram;

/// Tries of a load that lost packets.
const TRIES: u32 = 3;

/// Whom to compare, and how.
#[derive(Debug, Clone, clap::Args)]
struct Contest {
    /// Rounds; in each, every forwarder has a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these forwarders, by their names in the table of `rivals`; without it, all but variants
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Packets or requests per second, the same for all; without it, half of what the slowest one
    /// carries without loss
    #[arg(long)]
    rate: Option<f64>,
    /// Length of each turn's load
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    duration: Duration,
    #[command(flatten)]
    search: SearchArgs,
}

/// Packets, one way.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    contest: Contest,
    #[command(flatten)]
    traffic: Traffic,
}

impl Default for Args {
    fn default() -> Self {
        defaults()
    }
}

/// Requests and answers on TCP connections.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RequestsArgs {
    #[command(flatten)]
    contest: Contest,
    /// Connections, which stay; requests go by them in turn
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// 99th percentile of the client's own lateness beyond which it is the limit itself
    #[arg(long, default_value = "500us", value_parser = humantime::parse_duration)]
    lateness_max: Duration,
}

impl Default for RequestsArgs {
    fn default() -> Self {
        defaults()
    }
}

/// What is sent through a forwarder.
trait Load: Sync {
    /// The file of results.
    const FILE: &'static str;

    /// What the packets ask of a forwarder.
    fn scenario(&self) -> Scenario;

    /// Flows, or connections.
    fn flows(&self) -> u32;

    /// The first rate of a search.
    fn first_pps(&self, asked: f64) -> f64;

    /// Has `forwarder` serve, and `work` offer loads of a rate and a length.
    fn around<T: Send>(
        &self,
        forwarder: &dyn Forwarder,
        work: impl FnOnce(&mut Offer<'_>) -> Result<T> + Send,
    ) -> Result<T>;
}

type Offer<'a> = dyn FnMut(f64, Duration) -> Result<Trial> + 'a;

impl Load for Traffic {
    const FILE: &'static str = "latency";

    fn scenario(&self) -> Scenario {
        Self::scenario(self)
    }

    fn flows(&self) -> u32 {
        self.flows
    }

    fn first_pps(&self, asked: f64) -> f64 {
        asked
    }

    fn around<T: Send>(
        &self,
        forwarder: &dyn Forwarder,
        work: impl FnOnce(&mut Offer<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        bed::around(forwarder, self, |path| work(&mut |rate, time| Ok(path.trial(rate, time))))
    }
}

impl Load for RequestsArgs {
    const FILE: &'static str = "requests";

    fn scenario(&self) -> Scenario {
        Scenario::connections()
    }

    fn flows(&self) -> u32 {
        self.connections
    }

    /// A request is eight packets or more, and the work of two sockets.
    fn first_pps(&self, asked: f64) -> f64 {
        asked / 8.0
    }

    fn around<T: Send>(
        &self,
        forwarder: &dyn Forwarder,
        work: impl FnOnce(&mut Offer<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        bed::around_sockets(forwarder, &self.scenario(), |rig| {
            let target = forwarder.destination(rig);
            let mut requests = Requests::open(rig, target, self.connections, self.lateness_max)?;
            work(&mut |rate, time| requests.trial(rate, time))
        })
    }
}

/// One forwarder's turn.
#[derive(Debug, Serialize)]
struct Turn {
    round: u32,
    forwarder: &'static str,
    trial: Trial,
}

/// One forwarder over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    forwarder: &'static str,
    p50_us: Option<Spread>,
    p90_us: Option<Spread>,
    p99_us: Option<Spread>,
    p999_us: Option<Spread>,
    max_us: Option<Spread>,
    /// Packets lost in all rounds.
    lost: u64,
    /// In some round something else than the forwarder was the limit.
    is_bound: bool,
    /// Of all rounds together.
    percentiles: Vec<files::Quantile>,
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    rate_pps: f64,
    flows: u32,
    /// What each carried when the rate was chosen: packets per second without loss.
    no_drop: Vec<(&'static str, Option<f64>)>,
    rows: &'a [Row],
    turns: &'a [Turn],
}

/// Finds the rate for packets, measures everybody at it, prints the table, writes the results.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    ensure!(
        args.traffic.transport == Transport::Udp,
        "neither the kernel's NAT nor a proxy forwards TCP that nobody answers: all are compared \
         by UDP; type: load --transport tcp, or requests"
    );
    compare(&args.contest, &args.traffic, interrupt)
}

/// As [`run`], for requests.
pub(crate) fn run_requests(args: &RequestsArgs, interrupt: &Interrupt) -> Result<()> {
    compare(&args.contest, args, interrupt)
}

fn compare<L: Load>(contest: &Contest, load: &L, interrupt: &Interrupt) -> Result<()> {
    let noise = report::background_load()?;
    let precedence = Precedence::take()?;
    let forwarders = contestants(contest, load)?;
    let mut no_drop = Vec::new();
    let rate_pps = if let Some(rate) = contest.rate {
        rate
    } else {
        for forwarder in &forwarders {
            let found = no_drop_rate(contest, load, forwarder.as_ref(), interrupt)?;
            let mpps = found.map_or("none".into(), |rate| format!("{:.3} M/s", rate / 1e6));
            report::progress(&format!("{:<18} no-drop rate {mpps}", forwarder.name()));
            no_drop.push((forwarder.name(), found));
        }
        half_of_slowest(&no_drop)?
    };
    let turns = turns(contest, load, &forwarders, (rate_pps, interrupt))?;
    drop(precedence);
    let rows: Vec<Row> = forwarders.iter().map(|f| row(f.name(), &turns)).collect();
    report::print(&render(&rows, rate_pps))?;
    let flows = load.flows();
    report::write(L::FILE, noise, &Results { rate_pps, flows, no_drop, rows: &rows, turns: &turns })
}

/// A proxy has no datagrams, and what is not for connections no segments.
fn contestants(contest: &Contest, load: &impl Load) -> Result<Vec<Box<dyn Forwarder>>> {
    let mut forwarders = forwarders(&contest.only)?;
    let is_in = |forwarder: &dyn Forwarder| {
        let is_wanted = !contest.only.is_empty() || !is_variant(forwarder.name());
        is_wanted && forwarder.can(&load.scenario())
    };
    forwarders.retain(|forwarder| is_in(forwarder.as_ref()));
    Ok(forwarders)
}

/// This forwarder's latencies at a rate, on a rig of its own; once more if something was lost,
/// since what the machine does besides must not be taken for the forwarder's.
fn latency_at(
    load: &impl Load,
    forwarder: &dyn Forwarder,
    rate_pps: f64,
    duration: Duration,
) -> Result<Trial> {
    load.around(forwarder, |offer| {
        let mut best = offer(rate_pps, duration)?;
        for _ in 1..TRIES {
            if best.is_carried(0.0) {
                break;
            }
            let trial = offer(rate_pps, duration)?;
            if trial.loss < best.loss || best.bound.is_some() {
                best = trial;
            }
        }
        Ok(best)
    })
}

fn no_drop_rate(
    contest: &Contest,
    load: &impl Load,
    forwarder: &dyn Forwarder,
    interrupt: &Interrupt,
) -> Result<Option<f64>> {
    let (limits, duration) = contest.search.limits()?;
    let limits = Limits { first_pps: load.first_pps(limits.first_pps), ..limits };
    load.around(forwarder, |offer| {
        let mut at = |rate_pps| {
            interrupt.check()?;
            offer(rate_pps, duration)
        };
        Ok(search(&limits, 0.0, None, &mut at)?.rate_pps)
    })
}

fn half_of_slowest(no_drop: &[(&str, Option<f64>)]) -> Result<f64> {
    let rate = |(name, rate): &(&str, Option<f64>)| {
        rate.with_context(|| format!("{name} lost packets at every rate: give --rate"))
    };
    let rates: Vec<f64> = no_drop.iter().map(rate).collect::<Result<_>>()?;
    let slowest = rates.into_iter().min_by(f64::total_cmp);
    Ok(slowest.context("choose a forwarder")? / 2.0)
}

fn turns(
    contest: &Contest,
    load: &impl Load,
    forwarders: &[Box<dyn Forwarder>],
    (rate_pps, interrupt): (f64, &Interrupt),
) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for round in 1..=contest.rounds {
        for forwarder in forwarders {
            interrupt.check()?;
            let trial = latency_at(load, forwarder.as_ref(), rate_pps, contest.duration)?;
            let forwarder = forwarder.name();
            let Latency { p50_us, p99_us, .. } = trial.latency.unwrap_or_default();
            report::progress(&format!(
                "round {round} {forwarder:<18} p50 {p50_us:.1} us, p99 {p99_us:.1} us, {} lost",
                trial.lost.unwrap_or(0)
            ));
            turns.push(Turn { round, forwarder, trial });
        }
    }
    Ok(turns)
}

fn row(forwarder: &'static str, turns: &[Turn]) -> Row {
    let own = || turns.iter().filter(|turn| turn.forwarder == forwarder).map(|turn| &turn.trial);
    let spread = |value: fn(&Latency) -> f64| {
        Spread::of(own().filter_map(|trial| trial.latency.as_ref().map(value)))
    };
    let mut all: Histogram<u64> = empty_histogram();
    for trial in own() {
        // The same bounds: adding cannot fail.
        all.add(&trial.histogram).ok();
    }
    Row {
        forwarder,
        p50_us: spread(|latency| latency.p50_us),
        p90_us: spread(|latency| latency.p90_us),
        p99_us: spread(|latency| latency.p99_us),
        p999_us: spread(|latency| latency.p999_us),
        max_us: spread(|latency| latency.max_us),
        lost: own().filter_map(|trial| trial.lost).sum(),
        is_bound: own().any(|trial| trial.bound.is_some()),
        percentiles: files::quantiles(&all),
    }
}

fn render(rows: &[Row], rate_pps: f64) -> String {
    let mut table = Table::new(&["FORWARDER", "P50", "P90", "P99", "P99.9", "MAX", "LOST", ""]);
    let text = |spread: &Option<Spread>| spread.map_or("-".into(), |s| format!("{s:.1}"));
    for row in rows {
        table.row([
            row.forwarder.into(),
            text(&row.p50_us),
            text(&row.p90_us),
            text(&row.p99_us),
            text(&row.p999_us),
            text(&row.max_us),
            row.lost.to_string(),
            if row.is_bound { "*".into() } else { String::new() },
        ]);
    }
    format!(
        "{}\nMicroseconds at {:.3} M/s for all, from the intended send time; median [least-most] \
         over the rounds.\n* generator or sink was the limit in some round. A load that lost more \
         than {} % is no comparison.\n",
        table.render(true),
        rate_pps / 1e6,
        PARTIAL_LOSS * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::trial::Counts;
    use crate::lab::wire::account::Arrivals;

    fn turn(round: u32, forwarder: &'static str, ns: u64) -> Turn {
        let mut histogram = empty_histogram();
        histogram.record_n(ns, 1_000).unwrap();
        let counts = Counts { intended: 1_000, sent: 1_000, ..Counts::default() };
        let arrivals = Arrivals { packets: 999, ..Arrivals::default() };
        Turn { round, forwarder, trial: Trial::new(&counts, arrivals, histogram) }
    }

    #[test]
    fn a_row_has_the_median_over_its_own_rounds() {
        let turns = [
            turn(1, "bare", 1_000),
            turn(1, "tidegate", 2_000),
            turn(2, "bare", 3_000),
            turn(2, "tidegate", 8_000),
            turn(3, "bare", 100_000),
        ];
        let row = row("bare", &turns);
        let p50 = row.p50_us.unwrap();
        assert!((2.98..3.05).contains(&p50.median), "{p50}");
        assert_eq!((row.lost, row.is_bound), (3, false));
        assert!((row.percentiles.last().unwrap().us - 100.0).abs() < 2.0);
        assert!(render(&[row], 1e5).contains("at 0.100 M/s"));
    }

    #[test]
    fn the_common_rate_is_half_of_the_slowest_no_drop_rate() {
        let rate = half_of_slowest(&[("a", Some(9e5)), ("b", Some(4e5))]).unwrap();
        assert!((rate - 2e5).abs() < 1e-6);
        let words = half_of_slowest(&[("a", Some(1.0)), ("b", None)]).unwrap_err().to_string();
        assert!(words.starts_with("b lost packets"), "{words}");
    }
}
