//! What we want of the figures, and whether it is so.

use super::data::{File, Latency, LatencyRow, Results};
use crate::numbers::Spread;
use crate::rivals::{self, Scenario};

/// One aim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aim {
    pub(crate) what: String,
    pub(crate) wanted: String,
    /// `None` where the figure is missing.
    pub(crate) found: Option<String>,
    pub(crate) is_met: bool,
}

impl Aim {
    /// `met`, `missed` or `not measured`.
    pub(crate) fn verdict(&self) -> &'static str {
        match (&self.found, self.is_met) {
            (None, _) => "not measured",
            (Some(_), true) => "met",
            (Some(_), false) => "missed",
        }
    }
}

/// The pipeline alone: flows, nanoseconds at most.
const PIPELINE: &[(u32, f64)] = &[(10_000, 45.0), (1_000_000, 80.0)];

/// All aims, also those whose figures are missing.
pub(crate) fn all(results: &Results) -> Vec<Aim> {
    let mut aims = Vec::new();
    for load in [Scenario::stream(1), Scenario::stream(10_000), Scenario::new_flows()] {
        for rival in ["bare", "testpmd", "iptables", "nftables"] {
            let least = rivals::aim(("tidegate", rival), &load);
            aims.extend(least.map(|least| ratio(results, (rival, &load), least)));
        }
    }
    aims.extend(PIPELINE.iter().map(|aim| pipeline(results, *aim)));
    let packets = ("packets, p99 latency", results.latency.as_ref());
    for (rival, factor) in [("bare", 1.1), ("iptables", 1.0), ("nftables", 1.0)] {
        aims.push(latency(packets, rival, factor));
    }
    let requests = ("TCP requests, p99 latency", results.requests.as_ref());
    aims.extend(["iptables", "nftables", "haproxy"].map(|rival| latency(requests, rival, 1.0)));
    aims
}

fn ratio(results: &Results, (rival, load): (&str, &Scenario), least: f64) -> Aim {
    let ratios = results.rivals.iter().flat_map(|file| &file.results.ratios);
    let found: Option<Spread> = ratios
        .filter(|r| r.dividend == "tidegate" && r.divisor == rival && r.scenario == *load)
        .find_map(|r| r.paced);
    Aim {
        what: format!("tidegate / {rival} without loss, {load}"),
        wanted: format!("at least {least}"),
        found: found.map(|spread| spread.to_string()),
        is_met: found.is_some_and(|spread| spread.median >= least),
    }
}

fn pipeline(results: &Results, (flows, most): (u32, f64)) -> Aim {
    let rows = results.memory.iter().flat_map(|file| file.results.rows());
    let found = rows
        .filter(|row| row.name == "established" && row.flows == flows)
        .map(|row| row.ns_per_packet)
        .next();
    Aim {
        what: format!("pipeline alone, established, {flows} flows"),
        wanted: format!("at most {most} ns per packet"),
        found: found.map(|ns| format!("{ns:.1} ns")),
        is_met: found.is_some_and(|ns| ns <= most),
    }
}

fn latency((of, file): (&str, Option<&File<Latency>>), rival: &str, factor: f64) -> Aim {
    let p99 = |name: &str| {
        let mut rows = file.iter().flat_map(|file| &file.results.rows);
        let row = rows.find(|row: &&LatencyRow| row.forwarder == name)?;
        Some(row.p99_us?.median)
    };
    let pair = p99("tidegate").zip(p99(rival));
    Aim {
        what: format!("{of}, tidegate / {rival}"),
        wanted: format!("at most {factor}"),
        found: pair.map(|(ours, theirs)| format!("{:.2}", ours / theirs)),
        is_met: pair.is_some_and(|(ours, theirs)| ours <= theirs * factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::data::{Ratio, Rivals};
    use crate::report::Environment;

    #[test]
    fn an_aim_is_met_missed_or_not_measured() {
        let spread = |median| Some(Spread { median, min: median, max: median });
        let ratio = |divisor: &str, median| Ratio {
            scenario: Scenario::stream(1),
            dividend: "tidegate".into(),
            divisor: divisor.into(),
            paced: spread(median),
            flood: None,
            aim: None,
        };
        let ratios = vec![ratio("bare", 0.9), ratio("iptables", 1.6)];
        let rivals = Rivals { ratios, ..Rivals::default() };
        let file = File { environment: Environment::default(), results: rivals };
        let aims = all(&Results { rivals: Some(file), ..Results::default() });
        let verdict = |what: &str| aims.iter().find(|aim| aim.what == what).unwrap().verdict();
        assert_eq!(verdict("tidegate / bare without loss, 1 flow, 64 B"), "missed");
        assert_eq!(verdict("tidegate / iptables without loss, 1 flow, 64 B"), "met");
        assert_eq!(verdict("tidegate / nftables without loss, 1 flow, 64 B"), "not measured");
    }
}
