//! The load test: no-drop and partial-drop rate, and latency at shares of the first.

use super::bed::{self, FORWARDER_CPU, LAB_CPU, Local};
use super::files::{self, Curve};
use super::path::Path;
use super::search::{Found, Limits, search};
use super::traffic::{Traffic, defaults};
use super::trial::{Bound, Latency, Trial};
use super::wire::end::End;
use super::wire::frame::Transport;
use crate::report;
use crate::rivals::{Precedence, forwarders};
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, SocketAddr};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::time::Duration;
use tidegate_control::cli::view::table::Table;
use tidegate_control::demo::Interrupt;
use tidegate_dataplane::xdp::affinity;

/// A partial-drop rate loses so much (0.5 %).
pub(super) const PARTIAL_LOSS: f64 = 0.005;

/// Shares of the no-drop rate at which latency is measured; the file shows the second's.
const SHARES: [u32; 3] = [10, 50, 90];
const SHARE_SHOWN: usize = 1;

/// What to send, where to, and how to search.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Without --interface the load goes through --forwarder in namespaces of this machine. With it, it\n\
goes to a gateway of yours; run `tidegate-bench sink --interface ..` on the backend:\n\n  \
backend$ tidegate-bench sink --interface eth1 --echo\n  \
client$  tidegate-bench load --interface eth1 --target 192.0.2.1:30080 \\\n             \
--gateway-mac 02:00:00:00:00:01 --source 192.0.2.10 --echo\n\n\
Give the gateway a route to all source addresses (one per 32,768 flows, from --source on) by one\n\
neighbour. Latency across two machines is told as round trip only (--echo): one way, their clocks\n\
would have to agree. Without --echo give --rate; the sink tells what arrived.")]
pub(crate) struct Args {
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    target: TargetArgs,
    /// The forwarder on this machine's rig, by its name in the table of `rivals`
    #[arg(long, default_value = "tidegate", conflicts_with = "interface")]
    forwarder: String,
    /// Packets per second: one load of this rate instead of a search
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    search: SearchArgs,
    /// Length of each load whose latency is shown
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    curve_duration: Duration,
}

impl Default for Args {
    fn default() -> Self {
        defaults()
    }
}

#[derive(Debug, Clone, clap::Args)]
struct TargetArgs {
    /// Send by this interface of this machine
    #[arg(long, requires_all = ["target", "gateway_mac", "source"])]
    interface: Option<String>,
    /// Its queue
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..64))]
    queue: u32,
    /// Address and port to send to
    #[arg(long, requires = "interface")]
    target: Option<SocketAddr>,
    /// The gateway's Ethernet address
    #[arg(long, requires = "interface")]
    gateway_mac: Option<String>,
    /// The first flow's source address
    #[arg(long, requires = "interface")]
    source: Option<IpAddr>,
}

/// How to search.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SearchArgs {
    /// The first rate, packets per second; it is doubled until it is not carried
    #[arg(long, default_value_t = 50_000.0)]
    rate_first: f64,
    /// The largest rate, packets per second
    #[arg(long, default_value_t = 3_200_000.0)]
    rate_max: f64,
    /// The rates are found to within this share
    #[arg(long, default_value_t = 0.03)]
    resolution: f64,
    /// Loads for each rate; one that is carried is enough
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Length of each load that looks for a rate
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    trial_duration: Duration,
}

impl SearchArgs {
    /// Checked.
    pub(super) fn limits(&self) -> Result<(Limits, Duration)> {
        let Self { rate_first, rate_max, resolution, tries, trial_duration } = self.clone();
        let is_ordered = rate_first >= 1.0 && rate_max >= rate_first;
        ensure!(is_ordered, "rates from {rate_first} to {rate_max}: 1 or more, and in order");
        let is_share = (0.001..=0.5).contains(&resolution);
        ensure!(is_share, "a resolution of {resolution}: 0.001 to 0.5 are possible");
        let limits = Limits { first_pps: rate_first, max_pps: rate_max, resolution, tries };
        Ok((limits, trial_duration))
    }
}

/// What is written to the file of results.
#[derive(Debug, Default, Serialize)]
struct Results {
    /// What was tested: a forwarder on the rig, or a target.
    tested: String,
    flows: u32,
    /// With the frame check sequence.
    size: String,
    transport: Option<Transport>,
    syn_share: f64,
    round_trip: bool,
    generator_cpu: usize,
    /// On the generator's thread, in turn with it; `None` where it is another machine's.
    sink_cpu: Option<usize>,
    forwarder_cpu: Option<usize>,
    no_drop: Option<Found>,
    partial_drop: Option<Found>,
    /// At shares of the no-drop rate, or at the one rate that was asked for.
    curve: Vec<CurvePoint>,
    trials: Vec<Trial>,
}

#[derive(Debug, Serialize)]
struct CurvePoint {
    name: String,
    trial: Trial,
    percentiles: Vec<files::Quantile>,
}

/// Runs the test, prints the table and writes the results.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    let noise = report::background_load()?;
    let precedence = Precedence::take()?;
    let measured = match &args.target.interface {
        Some(interface) => outside(args, interface, interrupt),
        None => on_rig(args, interrupt),
    };
    drop(precedence);
    let results = measured?;
    report::print(&render(&results))?;
    let folder = report::dated("load");
    report::write(&format!("{folder}/result"), noise, &results)?;
    let curves: Vec<Curve> = results.curve.iter().map(curve).collect();
    let shown = if curves.len() > SHARE_SHOWN { SHARE_SHOWN } else { 0 };
    files::write(&report::path(&folder), &curves, shown)
}

fn curve(point: &CurvePoint) -> Curve {
    let (name, histogram) = (point.name.clone(), point.trial.histogram.clone());
    Curve { name, histogram, seconds: point.trial.seconds }
}

fn on_rig(args: &Args, interrupt: &Interrupt) -> Result<Results> {
    let forwarders = forwarders(std::slice::from_ref(&args.forwarder))?;
    let forwarder = forwarders.first().context("choose a forwarder")?;
    let tested = forwarder.name().to_owned();
    let measured =
        bed::around(forwarder.as_ref(), &args.traffic, |path| measure(args, path, interrupt))?;
    Ok(Results { tested, forwarder_cpu: Some(FORWARDER_CPU), sink_cpu: Some(LAB_CPU), ..measured })
}

fn outside(args: &Args, interface: &str, interrupt: &Interrupt) -> Result<Results> {
    let target = args.target.target.context("give --target")?;
    let source = args.target.source.context("give --source")?;
    let gateway = bed::mac(args.target.gateway_mac.as_deref().unwrap_or_default())?;
    let is_heard = args.traffic.echo || args.rate.is_some();
    ensure!(is_heard, "nobody here hears what arrives: give --echo on both sides, or --rate");
    let local = Local::read(interface)?;
    affinity::pin(LAB_CPU)?;
    let client = End::open(interface, args.target.queue, local.index, args.traffic.echo)?;
    let ends = args.traffic.ends((local.mac, gateway), (source, target));
    let mut path = args.traffic.path((client, None), &ends)?;
    path.open_flows()?;
    Ok(Results { tested: target.to_string(), ..measure(args, &mut path, interrupt)? })
}

fn measure(args: &Args, path: &mut Path, interrupt: &Interrupt) -> Result<Results> {
    let mut results = Results {
        flows: args.traffic.flows,
        size: args.traffic.size.map_or_else(|| path.size_first().to_string(), String::from),
        transport: Some(args.traffic.transport),
        syn_share: args.traffic.syn_share,
        round_trip: args.traffic.echo,
        generator_cpu: LAB_CPU,
        ..Results::default()
    };
    let mut rates: Vec<(String, f64)> = Vec::new();
    if let Some(rate_pps) = args.rate {
        ensure!(rate_pps >= 1.0, "a rate of {rate_pps}: 1 packet per second or more");
        rates.push(("rate".into(), rate_pps));
    } else {
        let (limits, duration) = args.search.limits()?;
        let trials = &mut results.trials;
        let (no_drop, partial) = both_rates(path, &limits, duration, interrupt, trials)?;
        (results.no_drop, results.partial_drop) = (Some(no_drop), Some(partial));
        let share =
            |percent: u32, rate| (format!("load{percent}"), f64::from(percent) / 100.0 * rate);
        let found = no_drop.rate_pps.iter();
        rates.extend(found.flat_map(|rate| SHARES.map(|percent| share(percent, *rate))));
    }
    for (name, rate_pps) in rates {
        interrupt.check()?;
        let trial = path.trial(rate_pps, args.curve_duration);
        let percentiles = files::quantiles(&trial.histogram);
        results.curve.push(CurvePoint { name, trial, percentiles });
    }
    Ok(results)
}

/// No-drop and partial-drop rate; every load is added to `trials`.
fn both_rates(
    path: &mut Path,
    limits: &Limits,
    duration: Duration,
    interrupt: &Interrupt,
    trials: &mut Vec<Trial>,
) -> Result<(Found, Found)> {
    let bar = bar(limits);
    let mut load = |rate_pps: f64| {
        interrupt.check()?;
        bar.set_message(format!("{:.3} Mpps", rate_pps / 1e6));
        let trial = path.trial(rate_pps, duration);
        bar.inc(1);
        trials.push(trial.clone());
        Ok(trial)
    };
    let no_drop = search(limits, 0.0, None, &mut load)?;
    let partial_drop = search(limits, PARTIAL_LOSS, no_drop.rate_pps, &mut load)?;
    bar.finish_and_clear();
    Ok((no_drop, partial_drop))
}

/// As long as a search may take; one that ends sooner leaves the rest.
fn bar(limits: &Limits) -> ProgressBar {
    let doublings = (limits.max_pps / limits.first_pps).log2();
    let halvings = -limits.resolution.log2();
    let bar = ProgressBar::new(whole(doublings + halvings * 2.0) * u64::from(limits.tries));
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} loads at most, {elapsed}: {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[expect(clippy::cast_possible_truncation, reason = "tens of loads")]
#[expect(clippy::cast_sign_loss, reason = "not negative")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

/// A rate in words; a star where something else than the tested was the limit.
pub(crate) fn rate(found: Option<Found>) -> String {
    match found {
        None => "-".into(),
        Some(Found { rate_pps: None, .. }) => "none".into(),
        Some(Found { rate_pps: Some(rate), bound, is_at_max }) => {
            let mark = report::star(bound.is_some());
            format!("{}{:.3} Mpps{mark}", if is_at_max { ">= " } else { "" }, rate / 1e6)
        }
    }
}

fn render(results: &Results) -> String {
    let mut rates = Table::new(&["TESTED", "FRAME", "FLOWS", "NDR (0 loss)", "PDR (0.5 %)"]);
    rates.row([
        results.tested.clone(),
        results.size.clone(),
        results.flows.to_string(),
        rate(results.no_drop),
        rate(results.partial_drop),
    ]);
    let bounds = [results.no_drop, results.partial_drop].into_iter().flatten();
    let bounds: Vec<_> = bounds.filter_map(|found| found.bound).map(Bound::words).collect();
    let note = bounds.first().map_or(String::new(), |words| format!("* {words}\n"));
    let what = if results.round_trip { "round trip" } else { "one way" };
    let who = results.sink_cpu.map_or("The generator has", |_| "Generator and sink share");
    format!(
        "{}\n{note}\n{}\nLatency: {what}, from the intended send time. {who} CPU {LAB_CPU}.\n",
        rates.render(true),
        render_curve(&results.curve)
    )
}

fn render_curve(curve: &[CurvePoint]) -> String {
    type Times = Option<Latency>;
    let mut table =
        Table::new(&["LOAD", "RATE", "LOST", "REORDERED", "P50", "P90", "P99", "P99.9", "MAX", ""]);
    let mut row =
        |names: [String; 2], lost: Option<u64>, reordered: u64, latency: Times, note: &str| {
            let count = |count: Option<u64>| count.map_or(String::new(), |count| count.to_string());
            let counts = [lost, lost.and(Some(reordered))].map(count);
            let us = |latency: Latency| latency.all_us().map(|us| format!("{us:.1}us"));
            let times = latency.map_or_else(Default::default, us);
            table.row(names.into_iter().chain(counts).chain(times).chain([note.to_owned()]));
        };
    for CurvePoint { name, trial, .. } in curve {
        let names = [name.clone(), format!("{:.3} Mpps", trial.rate_pps / 1e6)];
        let note = trial.bound.map_or("", Bound::words);
        row(names, trial.lost, trial.arrivals.reordered, trial.latency, note);
        if let Some(there) = trial.there {
            let names = ["  way there".into(), String::new()];
            row(names, Some(there.lost), there.arrivals.reordered, there.latency, "");
        }
    }
    table.render(true)
}
