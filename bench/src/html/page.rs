//! The page. Everything is in it: styles, plots, figures.

use super::data::{File, Latency, LoadPoint, Results};
use super::markdown::{show, us};
use super::{aims, plot};
use crate::lab;
use crate::pktgen::Trial;
use crate::report::{Environment, star};
use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "
  :root { color-scheme: light dark; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
    padding: 0 1rem }
  table { border-collapse: collapse; margin: .8rem 0 }
  th, td { border-bottom: 1px solid #8886; padding: .2rem .7rem; text-align: left }
  td { font-variant-numeric: tabular-nums }
  .met { color: #2a9d4a } .missed { color: #d0402b } .missing { opacity: .7; font-style: italic }
  svg { max-width: 100%; height: auto }";

/// The whole page.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn render(results: &Results) -> Result<String> {
    let growth = plot::growth(results)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "tidegate: load tests" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "tidegate: load tests" }
                h2 { "Where and when" }
                (environments(&results.environments()))
                h2 { "Aims" }
                (aims_table(results))
                h2 { "Throughput" }
                (drawn(plot::throughput(results)?, "rivals"))
                (rivals(results))
                h2 { "Offered and delivered" }
                (drawn(plot::offered(results)?, "rivals"))
                h2 { "Latency" }
                (drawn(plot::latency(results)?, "latency"))
                (latency(results.latency.as_ref(), "latency"))
                h2 { "Requests on TCP connections" }
                (latency(results.requests.as_ref(), "requests"))
                h2 { "Load test" }
                (drawn(plot::load(results)?, "load"))
                (load(results))
                h2 { "The pipeline alone" }
                (memory(results))
                h2 { "Growth" }
                @for svg in &growth { (PreEscaped(svg)) }
                @if growth.is_empty() { (missing("growth")) }
                h2 { "Changes in a large cluster" }
                (scale(results))
                h2 { "The kernel's pktgen: every packet" }
                (pktgen(results))
                h2 { "Other generators" }
                (outside(results))
            }
        }
    };
    Ok(page.into_string())
}

fn missing(file: &str) -> Markup {
    html! { p .missing { "Not measured: there is no " (file) ".json among the results." } }
}

fn drawn(svg: Option<String>, file: &str) -> Markup {
    svg.map_or_else(|| missing(file), PreEscaped)
}

/// A table of texts, in which verdicts have their colours.
fn table(heads: &[&str], rows: &[Vec<String>], file: &str) -> Markup {
    if rows.is_empty() {
        return missing(file);
    }
    html! {
        table {
            tr { @for head in heads { th { (head) } } }
            @for row in rows { tr { @for cell in row { td class=(class(cell)) { (cell) } } } }
        }
    }
}

fn class(cell: &str) -> &'static str {
    match cell {
        "met" | "yes" => "met",
        "missed" | "NO" => "missed",
        "not measured" => "missing",
        _ => "",
    }
}

fn environments(found: &[(&'static str, &Environment)]) -> Markup {
    let rows: Vec<_> = found.iter().map(|(name, at)| environment(name, at)).collect();
    let heads =
        ["results", "date", "commit", "build", "machine", "kernel", "other work", "command"];
    table(&heads, &rows, "rivals")
}

fn environment(name: &str, at: &Environment) -> Vec<String> {
    vec![
        name.into(),
        at.date.clone(),
        at.commit.clone(),
        at.profile.clone(),
        format!("{}, {} CPUs", at.cpu, at.cpus),
        at.kernel.clone(),
        format!("{:.2} CPUs", at.background_cpus),
        at.command.clone(),
    ]
}

fn aims_table(results: &Results) -> Markup {
    let aims = aims::all(results);
    let row = |aim: &aims::Aim| {
        let found = aim.found.clone().unwrap_or_default();
        vec![aim.what.clone(), aim.wanted.clone(), found, aim.verdict().into()]
    };
    table(&["what", "aim", "found", ""], &aims.iter().map(row).collect::<Vec<_>>(), "rivals")
}

fn rivals(results: &Results) -> Markup {
    let Some(file) = &results.rivals else { return html! {} };
    let row = |row: &super::data::RivalRow| {
        vec![
            row.scenario.to_string(),
            row.forwarder.clone(),
            show(row.paced_mpps) + star(row.is_generator_bound),
            show(row.paced_cpu_seconds_per_million),
            show(row.common_cpu_seconds_per_million),
            show(row.flood_mpps),
            show(row.flood_cpu_seconds_per_million),
        ]
    };
    let heads = [
        "load",
        "forwarder",
        "without loss, M/s",
        "CPU s/M",
        "CPU s/M at 0.2 Mpps",
        "flooded, M/s",
        "CPU s/M",
    ];
    let ratio = |ratio: &super::data::Ratio| {
        let aim = ratio.aim.map_or(String::new(), |aim| format!("at least {aim}"));
        let name = format!("{} / {}", ratio.dividend, ratio.divisor);
        vec![ratio.scenario.to_string(), name, show(ratio.paced), show(ratio.flood), aim]
    };
    let ratios: Vec<_> = file.results.ratios.iter().map(ratio).collect();
    html! {
        (table(&heads, &file.results.rows.iter().map(row).collect::<Vec<_>>(), "rivals"))
        p { "Median [least-most] over the rounds. * The generator was the limit in some round." }
        (table(&["load", "ratio", "without loss", "flooded", "aim"], &ratios, "rivals"))
    }
}

fn latency(file: Option<&File<Latency>>, name: &str) -> Markup {
    let Some(file) = file else { return missing(name) };
    let row = |row: &super::data::LatencyRow| {
        let values = [row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us];
        let limit = star(row.is_bound);
        let name = std::iter::once(format!("{}{limit}", row.forwarder));
        name.chain(values.into_iter().map(us)).collect()
    };
    let rows: Vec<_> = file.results.rows.iter().map(row).collect();
    let heads = ["forwarder", "p50, µs", "p90, µs", "p99, µs", "p99.9, µs", "most, µs"];
    html! {
        p { "At " (format!("{:.3}", file.results.rate_pps / 1e6)) " million per second for all." }
        (table(&heads, &rows, name))
        p {
            "Median [least-most] over the rounds. * Generator or sink was the limit in some round."
        }
    }
}

fn load(results: &Results) -> Markup {
    let Some(File { results: load, .. }) = &results.load else { return html! {} };
    let points: Vec<_> = load.curve.iter().map(load_point).collect();
    let heads = ["load", "Mpps", "lost, packets", "p50, µs", "p90", "p99", "p99.9", "most"];
    let way = if load.round_trip { "round trip" } else { "one way" };
    html! {
        p {
            (load.tested) ", " (load.flows) " flows, frames of " (load.size) ". No-drop rate "
            (lab::rate(load.no_drop)) ", partial-drop rate (0.5 %) " (lab::rate(load.partial_drop))
            ". Latency " (way) ". * Generator or sink was the limit."
        }
        (table(&heads, &points, "load"))
    }
}

fn load_point(point: &LoadPoint) -> Vec<String> {
    let LoadPoint { name, trial, .. } = point;
    let mark = star(trial.bound.is_some());
    let rate = format!("{:.3}{mark}", trial.rate_pps / 1e6);
    let us = |latency: lab::Latency| latency.all_us().map(|us| format!("{us:.1}"));
    let times = trial.latency.map_or_else(Default::default, us);
    let lost = trial.lost.map_or("not told".into(), |lost| lost.to_string());
    [name.clone(), rate, lost].into_iter().chain(times).collect()
}

fn memory(results: &Results) -> Markup {
    let rows = results.memory.iter().flat_map(|file| file.results.rows());
    let row = |row: &super::data::MemoryRow| {
        let (min, max) = row.min_max;
        let ns = format!("{:.1} [{min:.1}-{max:.1}]", row.ns_per_packet);
        vec![row.name.clone(), row.flows.to_string(), ns]
    };
    table(&["what", "flows", "ns per packet"], &rows.map(row).collect::<Vec<_>>(), "memory")
}

fn scale(results: &Results) -> Markup {
    let rows = results.scale.iter().flat_map(|file| &file.results.rows);
    let row = |row: &super::data::ScaleRow| {
        let ms = |value: f64| format!("{value:.2}");
        vec![row.case.clone(), row.count.to_string(), ms(row.median_ms), ms(row.p99_ms)]
    };
    let heads = ["from event to last worker", "times", "median, ms", "p99, ms"];
    table(&heads, &rows.map(row).collect::<Vec<_>>(), "scale")
}

fn pktgen(results: &Results) -> Markup {
    let Some(file) = &results.pktgen else { return missing("pktgen") };
    let rows: Vec<_> = file.results.trials.iter().map(trial).collect();
    let heads =
        ["node", "policy", "flows", "mode", "sent", "forwarded", "dropped", "arrived", "closes"];
    html! {
        p { "In a guest with kernel " (file.results.guest_kernel) "; its rates mean nothing." }
        (table(&heads, &rows, "pktgen"))
    }
}

fn trial(trial: &Trial) -> Vec<String> {
    vec![
        format!("{} port {}", trial.node, trial.node_port),
        trial.policy.clone(),
        trial.flows.to_string(),
        format!("{}, {} queues", trial.copy_mode, trial.queues),
        trial.sent.to_string(),
        trial.forwarded.to_string(),
        trial.dropped_words(),
        trial.arrived.to_string(),
        if trial.is_closed() { "yes".into() } else { "NO".into() },
    ]
}

fn outside(results: &Results) -> Markup {
    if results.outside.is_empty() {
        return html! { p .missing { "None: no text of pktgen, Pktgen-DPDK or TRex is here." } };
    }
    let rows: Vec<_> = results
        .outside
        .iter()
        .map(|(name, run)| {
            let received = run.received.map_or("not told".into(), |count| count.to_string());
            vec![name.clone(), run.generator.into(), run.sent.to_string(), received]
        })
        .collect();
    table(&["file", "generator", "sent", "received back"], &rows, "outside")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_are_escaped_and_nothing_is_fetched() {
        let mut results = Results::default();
        let run = crate::pktgen::outside::Run { generator: "TRex", sent: 1, received: None };
        results.outside.push(("<b>.txt".into(), run));
        let page = render(&results).unwrap();
        assert!(page.contains("&lt;b&gt;.txt") && !page.contains("<b>"), "{page}");
        assert!(page.contains("there is no rivals.json"));
        for word in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
