//! The summary for the README, as Markdown.

use super::aims;
use super::data::{File, Latency, Results, RivalRow};
use crate::numbers::Spread;
use crate::report::{Environment, star};
use crate::rivals::Scenario;
use core::fmt::Write as _;

/// Where it was measured, throughput and latency of each forwarder, and the aims.
pub(crate) fn summary(results: &Results) -> String {
    let mut text = String::new();
    for line in origins(&results.environments()) {
        text.push_str(&line);
    }
    text.push_str(&throughput(results).unwrap_or_else(|| "Throughput is not measured.\n".into()));
    let of = |what, file: Option<&File<Latency>>, name| {
        let heading = file.map_or_else(String::new, |File { results, .. }| {
            let (rate, flows) = (results.rate_pps / 1e6, results.flows);
            format!("{what} at {rate:.3} million per second for all, {flows} {name}.\n\n")
        });
        heading + &latency(file).unwrap_or_else(|| format!("{what} is not measured.\n"))
    };
    let packets = of("Latency", results.latency.as_ref(), "flows");
    let requests = of("Latency of TCP requests", results.requests.as_ref(), "connections");
    // Writing to a string cannot fail.
    write!(text, "\n{packets}\n{requests}\n").ok();
    let aims = aims::all(results);
    let aims = aims.iter().map(|aim| {
        let found = aim.found.clone().unwrap_or_default();
        vec![aim.what.clone(), aim.wanted.clone(), found, aim.verdict().into()]
    });
    text.push_str(&table(&["", "aim", "found", ""], aims).unwrap_or_default());
    text
}

/// A row for each forwarder.
fn latency(file: Option<&File<Latency>>) -> Option<String> {
    let rows = file.iter().flat_map(|file| &file.results.rows).map(|row| {
        let limit = star(row.is_bound);
        let values = [row.p50_us, row.p99_us, row.p999_us].map(us);
        [vec![format!("`{}`{limit}", row.forwarder)], values.to_vec()].concat()
    });
    table(&["forwarder", "p50, µs", "p99, µs", "p99.9, µs"], rows)
}

/// Where, when and of what commit: a line for all files that have these in common.
fn origins(found: &[(&str, &Environment)]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, at) in found {
        let day = at.date.split('T').next().unwrap_or_default();
        let Environment { cpu, cpus, kernel, commit, profile, .. } = at;
        let line =
            format!("{cpu}, {cpus} CPUs, kernel {kernel}, commit {commit}, {day}, {profile} build");
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, names)) => names.push(name),
            None => lines.push((line, vec![name])),
        }
    }
    let lines = lines.into_iter();
    lines.map(|(line, names)| format!("{line} ({}).\n\n", names.join(", "))).collect()
}

/// A row for each forwarder, a column for each load: millions per second without loss.
fn throughput(results: &Results) -> Option<String> {
    let rows: Vec<&RivalRow> = results.rivals.iter().flat_map(|file| &file.results.rows).collect();
    let mut loads: Vec<Scenario> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for row in &rows {
        if !loads.contains(&row.scenario) {
            loads.push(row.scenario);
        }
        if !names.contains(&row.forwarder.as_str()) {
            names.push(&row.forwarder);
        }
    }
    let find = |name: &str, load: &Scenario| {
        rows.iter().find(|row| row.forwarder == name && row.scenario == *load).copied()
    };
    let cell = |name: &str, load: &Scenario| {
        find(name, load).map_or_else(String::new, |row| {
            let limit = star(row.is_generator_bound);
            let digits = load.digits();
            row.paced_mpps.map_or("-".into(), |spread| format!("{spread:.digits$}{limit}"))
        })
    };
    let heads: Vec<String> = loads.iter().map(Scenario::to_string).collect();
    let heads: Vec<&str> = std::iter::once("").chain(heads.iter().map(String::as_str)).collect();
    let lines = names.iter().map(|name| {
        let cells = loads.iter().map(|load| cell(name, load));
        std::iter::once(format!("`{name}`")).chain(cells).collect()
    });
    table(&heads, lines)
}

/// Microseconds, or a dash.
pub(crate) fn us(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |spread| format!("{spread:.1}"))
}

/// A spread, or a dash.
pub(crate) fn show(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |spread| spread.to_string())
}

/// `None` without rows.
fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Option<String> {
    let lines: Vec<String> = rows.map(|row| format!("| {} |\n", row.join(" | "))).collect();
    let rule = "---|".repeat(heads.len());
    (!lines.is_empty()).then(|| format!("| {} |\n|{rule}\n{}", heads.join(" | "), lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::data::Rivals;

    #[test]
    fn what_is_missing_is_said_to_be() {
        let text = summary(&Results::default());
        assert!(text.contains("Throughput is not measured."), "{text}");
        assert!(text.contains("Latency is not measured."), "{text}");
        assert!(text.contains("| not measured |"), "{text}");
    }

    #[test]
    fn files_of_another_commit_say_so() {
        let of = |commit: &str, date: &str| Environment {
            commit: commit.into(),
            date: date.into(),
            ..Environment::default()
        };
        let (a, b) = (of("a1", "2026-11-25T10:00:00Z"), of("b2", "2026-11-26T10:00:00Z"));
        let lines = origins(&[("memory", &a), ("rivals", &b), ("scale", &a)]);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("commit a1, 2026-11-25,") && lines[0].contains("(memory, scale)")
        );
        assert!(lines[1].contains("commit b2") && lines[1].contains("(rivals)"));
    }

    #[test]
    fn forwarders_are_rows_and_loads_columns() {
        let row = |forwarder: &str, scenario, median| RivalRow {
            scenario,
            forwarder: forwarder.into(),
            paced_mpps: Some(Spread { median, min: median, max: median }),
            paced_cpu_seconds_per_million: None,
            common_cpu_seconds_per_million: None,
            flood_mpps: None,
            flood_cpu_seconds_per_million: None,
            is_generator_bound: false,
        };
        let one = Scenario::stream(1);
        let rows = vec![
            row("bare", one, 2.0),
            row("tidegate", one, 1.5),
            row("tidegate", Scenario::new_flows(), 1.0),
        ];
        let rivals = Rivals { rows, ..Rivals::default() };
        let file = File { environment: Environment::default(), results: rivals };
        let text = throughput(&Results { rivals: Some(file), ..Results::default() }).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "|  | 1 flow, 64 B | new UDP flows |");
        assert_eq!(lines[2], "| `bare` | 2.00 [2.00-2.00] |  |");
        assert_eq!(lines[3], "| `tidegate` | 1.50 [1.50-1.50] | 1.00 [1.00-1.00] |");
    }
}
