//! Medians over the rounds, and ratios of turns of the same round.

use super::bed::napi::Placement;
use super::measure::Turn;
use super::point::Point;
use super::scenario::{Scenario, Work};
use crate::generator::Size;
use crate::numbers::Spread;
use crate::report::star;
use serde::Serialize;
use tidegate_control::cli::view::table::Table;

/// One forwarder in one scenario.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) forwarder: &'static str,
    pub(crate) placement: Placement,
    /// Largest paced load with a loss below the limit, million packets per second.
    pub(crate) paced_mpps: Option<Spread>,
    /// At that load.
    pub(crate) paced_cpu_seconds_per_million: Option<Spread>,
    /// At a paced load of 0.2 Mpps.
    pub(crate) common_cpu_seconds_per_million: Option<Spread>,
    /// Delivered of the flood, million packets per second.
    pub(crate) flood_mpps: Option<Spread>,
    /// At the flood.
    pub(crate) flood_cpu_seconds_per_million: Option<Spread>,
    /// What the generator offered as flood, million packets per second.
    pub(crate) flood_offered_mpps: Option<Spread>,
    /// In some round the generator, not the forwarder, was the limit of the paced loads.
    pub(crate) is_generator_bound: bool,
}

/// tidegate's rate by another's.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) scenario: Scenario,
    pub(crate) dividend: &'static str,
    pub(crate) divisor: &'static str,
    pub(crate) paced: Option<Spread>,
    pub(crate) flood: Option<Spread>,
    /// What we want of the paced ratio, at least.
    pub(crate) aim: Option<f64>,
}

/// Dividend and divisor.
type Pair = (&'static str, &'static str);

const PAIRS: &[Pair] = &[
    ("tidegate", "bare"),
    ("tidegate", "testpmd"),
    ("tidegate", "iptables"),
    ("tidegate", "nftables"),
    ("tidegate", "haproxy"),
    ("tidegate", "routing"),
    ("xdp-prototype", "tidegate"),
    ("tidegate-one-cpu", "bare-one-cpu"),
    ("tidegate-one-cpu", "iptables"),
    ("tidegate-one-cpu", "nftables"),
];

/// What we want of a pair's paced ratio, at least.
pub(crate) fn aim((dividend, divisor): (&str, &str), scenario: &Scenario) -> Option<f64> {
    if dividend != "tidegate" || scenario.size != Size::LEAST {
        return None;
    }
    match (divisor, scenario.work) {
        ("bare", Work::Stream(_)) => Some(0.95),
        ("testpmd", Work::Stream(_)) => Some(1.2),
        ("iptables" | "nftables", Work::Stream(1)) => Some(1.5),
        ("iptables" | "nftables", Work::Stream(_)) => Some(2.2),
        ("iptables" | "nftables", Work::NewFlows) => Some(4.0),
        _ => None,
    }
}

/// One row per forwarder and scenario, in the order of the first round.
pub(crate) fn rows(turns: &[Turn]) -> Vec<Row> {
    let first = turns.first().map_or(0, |turn| turn.round);
    turns.iter().filter(|turn| turn.round == first).map(|turn| row(turn, turns)).collect()
}

fn row(like: &Turn, turns: &[Turn]) -> Row {
    let same = |t: &&Turn| t.forwarder == like.forwarder && t.scenario == like.scenario;
    let spread = |value: &dyn Fn(&Turn) -> Option<f64>| {
        Spread::of(turns.iter().filter(same).filter_map(value))
    };
    Row {
        scenario: like.scenario,
        forwarder: like.forwarder,
        placement: like.placement,
        paced_mpps: spread(&paced),
        paced_cpu_seconds_per_million: spread(&|t| t.at_best?.cpu_seconds_per_million),
        common_cpu_seconds_per_million: spread(&|t| t.at_common?.cpu_seconds_per_million),
        flood_mpps: spread(&flood),
        flood_cpu_seconds_per_million: spread(&|t| t.flood?.cpu_seconds_per_million),
        flood_offered_mpps: spread(&|t| Some(t.flood?.sent_pps / 1e6)),
        is_generator_bound: turns.iter().filter(same).any(Turn::is_generator_bound),
    }
}

fn paced(turn: &Turn) -> Option<f64> {
    Some(turn.best()?.delivered_pps / 1e6)
}

fn flood(turn: &Turn) -> Option<f64> {
    Some(turn.flood?.delivered_pps / 1e6)
}

/// The pairs that have turns.
pub(crate) fn ratios(turns: &[Turn]) -> Vec<Ratio> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for turn in turns {
        if !scenarios.contains(&turn.scenario) {
            scenarios.push(turn.scenario);
        }
    }
    let all = scenarios.into_iter().flat_map(|s| PAIRS.iter().map(move |pair| (s, *pair)));
    all.filter_map(|(scenario, pair)| ratio_of(turns, scenario, pair)).collect()
}

fn ratio_of(turns: &[Turn], scenario: Scenario, pair: Pair) -> Option<Ratio> {
    let (dividend, divisor) = pair;
    let find = |name: &str, round| {
        let is_it = |t: &&Turn| t.round == round && t.scenario == scenario && t.forwarder == name;
        turns.iter().find(is_it)
    };
    let of = |value: fn(&Turn) -> Option<f64>| {
        let last = turns.last().map_or(0, |turn| turn.round);
        let in_round = |round| Some(value(find(dividend, round)?)? / value(find(divisor, round)?)?);
        Spread::of((1..=last).filter_map(in_round))
    };
    let (paced, flood) = (of(paced), of(flood));
    let aim = aim(pair, &scenario);
    let is_there = paced.is_some() || flood.is_some();
    is_there.then_some(Ratio { scenario, dividend, divisor, paced, flood, aim })
}

/// One turn, for the watcher.
pub(crate) fn line(turn: &Turn) -> String {
    let show = |point: Option<&Point>| {
        point.map_or("none".into(), |p| {
            let mpps = p.delivered_pps / 1e6;
            let cpu = p.cpu_seconds_per_million.map_or("-".into(), |cpu| format!("{cpu:.2}"));
            format!("{mpps:.3} M/s, {cpu} CPU s/M")
        })
    };
    let limit = if turn.is_generator_bound() { " (generator-bound)" } else { "" };
    format!(
        "round {} {:<18} {:<17} paced {}{limit}; flood {} of {:.2}",
        turn.round,
        turn.scenario.to_string(),
        turn.forwarder,
        show(turn.at_best.as_ref()),
        show(turn.flood.as_ref()),
        turn.flood.map_or(0.0, |point| point.sent_pps / 1e6),
    )
}

/// Both tables as text.
pub(crate) fn render(rows: &[Row], ratios: &[Ratio]) -> String {
    format!(
        "{}\nPACED: million packets, new flows or connections per second; the largest load with \
         less than 0.5 % lost; * the generator was the limit in some round.\n\
         CPU-S/M: CPU seconds of the whole gateway per million of them; AT-0.2: with a load of \
         0.2 Mpps.\n\n{}\n",
        render_rows(rows),
        render_ratios(ratios),
    )
}

fn render_rows(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "LOAD",
        "FORWARDER",
        "RECEIVES-ON",
        "PACED-M/S",
        "CPU-S/M",
        "AT-0.2",
        "FLOOD-M/S",
        "CPU-S/M",
        "OFFERED",
    ]);
    for row in rows {
        let limit = star(row.is_generator_bound);
        let digits = row.scenario.digits();
        let rate = |spread: Option<&Spread>| spread.map_or("-".into(), |s| format!("{s:.digits$}"));
        table.row([
            row.scenario.to_string(),
            row.forwarder.into(),
            match row.placement {
                Placement::Sender => "sender's CPU".into(),
                Placement::Forwarder => "forwarder's CPU".into(),
            },
            format!("{}{limit}", rate(row.paced_mpps.as_ref())),
            text(row.paced_cpu_seconds_per_million.as_ref()),
            text(row.common_cpu_seconds_per_million.as_ref()),
            rate(row.flood_mpps.as_ref()),
            text(row.flood_cpu_seconds_per_million.as_ref()),
            text(row.flood_offered_mpps.as_ref()),
        ]);
    }
    table.render(true)
}

fn render_ratios(ratios: &[Ratio]) -> String {
    let mut table = Table::new(&["LOAD", "RATIO", "PACED", "FLOOD", "AIM (PACED)"]);
    for ratio in ratios {
        table.row([
            ratio.scenario.to_string(),
            format!("{} / {}", ratio.dividend, ratio.divisor),
            text(ratio.paced.as_ref()),
            text(ratio.flood.as_ref()),
            ratio.aim.map_or(String::new(), |aim| verdict(aim, ratio.paced.as_ref())),
        ]);
    }
    table.render(true)
}

fn verdict(aim: f64, ratio: Option<&Spread>) -> String {
    let is_met = ratio.is_some_and(|ratio| ratio.median >= aim);
    format!("{aim} {}", if is_met { "met" } else { "missed" })
}

fn text(spread: Option<&Spread>) -> String {
    spread.map_or("-".into(), |spread| format!("{spread:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(round: u32, forwarder: &'static str, paced_pps: f64, flood_pps: f64) -> Turn {
        let point = |pps| Point {
            asked_pps: Some(pps),
            sent_pps: pps,
            delivered_pps: pps,
            loss: 0.0,
            cpu_seconds_per_million: Some(1.0),
            is_generator_bound: false,
        };
        Turn {
            round,
            forwarder,
            placement: Placement::Sender,
            scenario: Scenario::stream(1),
            paced: vec![point(paced_pps / 2.0), point(paced_pps)],
            at_best: Some(point(paced_pps)),
            at_common: Some(point(paced_pps)),
            flood: Some(point(flood_pps)),
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was half as fast in round 2; the ratio does not care.
        let turns = [
            turn(1, "bare", 1e6, 1e6),
            turn(1, "tidegate", 0.95e6, 0.8e6),
            turn(2, "bare", 0.5e6, 0.5e6),
            turn(2, "tidegate", 0.475e6, 0.4e6),
        ];
        let ratios = ratios(&turns);
        assert_eq!(ratios.len(), 1);
        let (paced, flood) = (ratios[0].paced.unwrap(), ratios[0].flood.unwrap());
        assert!((paced.min - 0.95).abs() < 1e-9 && (paced.max - 0.95).abs() < 1e-9);
        assert!((flood.median - 0.8).abs() < 1e-9);
        let rows = rows(&turns);
        assert_eq!(rows.len(), 2);
        assert!((rows[0].paced_mpps.unwrap().median - 0.75).abs() < 1e-9);
        assert!(render(&rows, &ratios).contains("0.95 met"));
    }
}
