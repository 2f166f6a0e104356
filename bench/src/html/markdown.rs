//! The summary for the README, as Markdown.

use super::aims;
use super::data::{Results, RivalRow};
use crate::numbers::Spread;

/// Where it was measured, throughput and cost of each forwarder, and the aims.
pub(crate) fn summary(results: &Results) -> String {
    let mut text = String::new();
    if let Some((_, at)) = results.environments().first() {
        let line = format!(
            "{}, {} CPUs, kernel {}, commit {}, {}, {} build.\n\n",
            at.cpu, at.cpus, at.kernel, at.commit, at.date, at.profile
        );
        text.push_str(&line);
    }
    let rows = results.rivals.iter().flat_map(|file| &file.results.rows);
    let table = table(
        &["forwarder", "flows", "without loss, Mpps", "CPU s/M", "flooded, Mpps"],
        rows.map(rival),
    );
    text.push_str(&table.unwrap_or_else(|| "Throughput is not measured.\n".into()));
    let latency = results.latency.iter().flat_map(|file| &file.results.rows).map(|row| {
        let us = |ns: f64| format!("{:.1}", ns / 1e3);
        vec![format!("`{}`", row.forwarder), us(row.p50_ns), us(row.p99_ns), us(row.p999_ns)]
    });
    text.push('\n');
    let heads = &["forwarder", "p50, µs", "p99, µs", "p99.9, µs"];
    text.push_str(&self::table(heads, latency).unwrap_or("Latency is not measured.\n".into()));
    text.push('\n');
    let aims = aims::all(results);
    let aims = aims.iter().map(|aim| {
        let found = aim.found.clone().unwrap_or_default();
        vec![aim.what.clone(), aim.wanted.clone(), found, aim.verdict().into()]
    });
    text.push_str(&self::table(&["", "aim", "found", ""], aims).unwrap_or_default());
    text
}

fn rival(row: &RivalRow) -> Vec<String> {
    let limit = if row.is_generator_bound { " *" } else { "" };
    vec![
        format!("`{}`", row.forwarder),
        row.flows.to_string(),
        format!("{}{limit}", show(row.paced_mpps)),
        show(row.paced_cpu_seconds_per_million),
        show(row.flood_mpps),
    ]
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

    #[test]
    fn what_is_missing_is_said_to_be() {
        let text = summary(&Results::default());
        assert!(text.contains("Throughput is not measured."), "{text}");
        assert!(text.contains("Latency is not measured."), "{text}");
        assert!(text.contains("| not measured |"), "{text}");
    }

    #[test]
    fn rows_are_of_one_width() {
        let row = RivalRow { forwarder: "bare".into(), flows: 1, ..RivalRow::default() };
        let text = table(&["a", "b", "c", "d", "e"], [rival(&row)].into_iter()).unwrap();
        let widths: Vec<_> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(widths, [6, 6, 6], "{text}");
    }
}
