//! Medians over the rounds, and ratios of turns of the same round.

use super::measure::{Point, Turn};
use super::napi::Placement;
use crate::numbers::Spread;
use serde::Serialize;
use tidegate_control::cli::view::table::Table;

/// One forwarder at one number of flows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) flows: u32,
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
    pub(crate) flows: u32,
    pub(crate) dividend: &'static str,
    pub(crate) divisor: &'static str,
    pub(crate) paced: Option<Spread>,
    pub(crate) flood: Option<Spread>,
    /// What we want of the paced ratio, at least.
    pub(crate) aim: Option<f64>,
}

/// Dividend, divisor, aim at one flow and at many.
type Pair = (&'static str, &'static str, Option<(f64, f64)>);

const PAIRS: &[Pair] = &[
    ("tidegate", "bare", Some((0.9, 0.9))),
    ("tidegate", "iptables", Some((1.4, 2.0))),
    ("tidegate", "nftables", Some((1.4, 2.0))),
    ("tidegate", "routing", None),
    ("tidegate-one-cpu", "bare-one-cpu", None),
    ("tidegate-one-cpu", "iptables", None),
    ("tidegate-one-cpu", "nftables", None),
];

/// One row per forwarder and number of flows, in the order of the first round.
pub(crate) fn rows(turns: &[Turn]) -> Vec<Row> {
    let first = turns.first().map_or(0, |turn| turn.round);
    turns.iter().filter(|turn| turn.round == first).map(|turn| row(turn, turns)).collect()
}

fn row(like: &Turn, turns: &[Turn]) -> Row {
    let same = |t: &&Turn| t.forwarder == like.forwarder && t.flows == like.flows;
    let spread = |value: &dyn Fn(&Turn) -> Option<f64>| {
        Spread::of(turns.iter().filter(same).filter_map(value))
    };
    Row {
        flows: like.flows,
        forwarder: like.forwarder,
        placement: like.placement,
        paced_mpps: spread(&paced),
        paced_cpu_seconds_per_million: spread(&|t| Some(t.at_best?.cpu_seconds_per_million)),
        common_cpu_seconds_per_million: spread(&|t| Some(t.at_common.cpu_seconds_per_million)),
        flood_mpps: spread(&flood),
        flood_cpu_seconds_per_million: spread(&|t| Some(t.flood.cpu_seconds_per_million)),
        flood_offered_mpps: spread(&|t| Some(t.flood.sent_pps / 1e6)),
        is_generator_bound: turns.iter().filter(same).any(Turn::is_generator_bound),
    }
}

fn paced(turn: &Turn) -> Option<f64> {
    Some(turn.best()?.delivered_pps / 1e6)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of `paced`")]
fn flood(turn: &Turn) -> Option<f64> {
    Some(turn.flood.delivered_pps / 1e6)
}

/// The pairs that have turns.
pub(crate) fn ratios(turns: &[Turn]) -> Vec<Ratio> {
    let mut flows: Vec<u32> = turns.iter().map(|turn| turn.flows).collect();
    flows.sort_unstable();
    flows.dedup();
    let all = flows.into_iter().flat_map(|flows| PAIRS.iter().map(move |pair| (flows, pair)));
    all.filter_map(|(flows, pair)| ratio_of(turns, flows, pair)).collect()
}

fn ratio_of(turns: &[Turn], flows: u32, pair: &Pair) -> Option<Ratio> {
    let &(dividend, divisor, aims) = pair;
    let find = |name: &str, round| {
        let is_it = |t: &&Turn| t.round == round && t.flows == flows && t.forwarder == name;
        turns.iter().find(is_it)
    };
    let of = |value: fn(&Turn) -> Option<f64>| {
        let last = turns.last().map_or(0, |turn| turn.round);
        let in_round = |round| Some(value(find(dividend, round)?)? / value(find(divisor, round)?)?);
        Spread::of((1..=last).filter_map(in_round))
    };
    let (paced, flood) = (of(paced), of(flood));
    let aim = aims.map(|(one, many)| if flows == 1 { one } else { many });
    let is_there = paced.is_some() || flood.is_some();
    is_there.then_some(Ratio { flows, dividend, divisor, paced, flood, aim })
}

/// One turn, for the watcher.
pub(crate) fn line(turn: &Turn) -> String {
    let show = |point: Option<&Point>| {
        point.map_or("none".into(), |p| {
            let (mpps, cpu) = (p.delivered_pps / 1e6, p.cpu_seconds_per_million);
            format!("{mpps:.3} Mpps, {cpu:.2} CPU s/M")
        })
    };
    let limit = if turn.is_generator_bound() { " (generator-bound)" } else { "" };
    format!(
        "round {} {:>6} flows {:<18} paced {}{limit}; flood {} of {:.2}",
        turn.round,
        turn.flows,
        turn.forwarder,
        show(turn.at_best.as_ref()),
        show(Some(&turn.flood)),
        turn.flood.sent_pps / 1e6,
    )
}

/// Both tables as text.
pub(crate) fn render(rows: &[Row], ratios: &[Ratio]) -> String {
    format!(
        "{}\nPACED: the largest load with less than 0.5 % lost; * the generator was the limit in \
         some round.\nCPU-S/M: CPU seconds of the whole gateway per million delivered packets; \
         AT-0.2: with a load of 0.2 Mpps.\n\n{}\n",
        render_rows(rows),
        render_ratios(ratios),
    )
}

fn render_rows(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "FLOWS",
        "FORWARDER",
        "RECEIVES-ON",
        "PACED-MPPS",
        "CPU-S/M",
        "AT-0.2",
        "FLOOD-MPPS",
        "CPU-S/M",
        "OFFERED",
    ]);
    for row in rows {
        let limit = if row.is_generator_bound { " *" } else { "" };
        table.row([
            row.flows.to_string(),
            row.forwarder.into(),
            match row.placement {
                Placement::Sender => "sender's CPU".into(),
                Placement::Forwarder => "forwarder's CPU".into(),
            },
            format!("{}{limit}", text(row.paced_mpps.as_ref())),
            text(row.paced_cpu_seconds_per_million.as_ref()),
            text(row.common_cpu_seconds_per_million.as_ref()),
            text(row.flood_mpps.as_ref()),
            text(row.flood_cpu_seconds_per_million.as_ref()),
            text(row.flood_offered_mpps.as_ref()),
        ]);
    }
    table.render(true)
}

fn render_ratios(ratios: &[Ratio]) -> String {
    let mut table = Table::new(&["FLOWS", "RATIO", "PACED", "FLOOD", "AIM (PACED)"]);
    for ratio in ratios {
        table.row([
            ratio.flows.to_string(),
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
    format!("{aim:.1} {}", if is_met { "met" } else { "missed" })
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
            cpu_seconds_per_million: 1.0,
            is_generator_bound: false,
        };
        Turn {
            round,
            forwarder,
            placement: Placement::Sender,
            flows: 1,
            paced: vec![point(paced_pps / 2.0), point(paced_pps)],
            at_best: Some(point(paced_pps)),
            at_common: point(paced_pps),
            flood: point(flood_pps),
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
        assert!(render(&rows, &ratios).contains("0.9 met"));
    }
}
