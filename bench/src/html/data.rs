//! The files of results as the report reads them. It takes what it knows and leaves the rest, so
//! that a file may hold more; what is missing is said to be missing.

use crate::lab::{Bound, Found, Latency as Percentiles};
use crate::numbers::Spread;
use crate::pktgen::outside;
use crate::report::Environment;
use crate::rivals::Scenario;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Everything that was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rivals: Option<File<Rivals>>,
    pub(crate) memory: Option<File<Memory>>,
    pub(crate) latency: Option<File<Latency>>,
    /// Of requests on TCP connections.
    pub(crate) requests: Option<File<Latency>>,
    /// The newest load test.
    pub(crate) load: Option<File<Load>>,
    pub(crate) scale: Option<File<Scale>>,
    pub(crate) pktgen: Option<File<Pktgen>>,
    pub(crate) growth: Option<File<Growth>>,
    /// Runs of generators on other hosts, by the name of the file with their words.
    pub(crate) outside: Vec<(String, outside::Run)>,
}

/// A file of results, as `report::write` writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct File<T> {
    pub(crate) environment: Environment,
    pub(crate) results: T,
}

/// `rivals.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rivals {
    pub(crate) rows: Vec<RivalRow>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) turns: Vec<Turn>,
}

/// One forwarder under one load.
#[derive(Debug, Deserialize)]
pub(crate) struct RivalRow {
    pub(crate) scenario: Scenario,
    pub(crate) forwarder: String,
    pub(crate) paced_mpps: Option<Spread>,
    pub(crate) paced_cpu_seconds_per_million: Option<Spread>,
    pub(crate) common_cpu_seconds_per_million: Option<Spread>,
    pub(crate) flood_mpps: Option<Spread>,
    pub(crate) flood_cpu_seconds_per_million: Option<Spread>,
    #[serde(default)]
    pub(crate) is_generator_bound: bool,
}

/// One forwarder's rate by another's, of the same rounds.
#[derive(Debug, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) scenario: Scenario,
    pub(crate) dividend: String,
    pub(crate) divisor: String,
    pub(crate) paced: Option<Spread>,
    pub(crate) flood: Option<Spread>,
    pub(crate) aim: Option<f64>,
}

/// The loads of one forwarder in one round.
#[derive(Debug, Deserialize)]
pub(crate) struct Turn {
    pub(crate) forwarder: String,
    pub(crate) scenario: Scenario,
    pub(crate) paced: Vec<Point>,
    pub(crate) flood: Option<Point>,
}

/// One load.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Point {
    pub(crate) sent_pps: f64,
    pub(crate) delivered_pps: f64,
}

/// `memory.json`: the rows alone, or beside others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Memory {
    Rows(Vec<MemoryRow>),
    More { rows: Vec<MemoryRow> },
}

impl Memory {
    pub(crate) fn rows(&self) -> &[MemoryRow] {
        let (Self::Rows(rows) | Self::More { rows }) = self;
        rows
    }
}

/// One figure of the pipeline alone.
#[derive(Debug, Deserialize)]
pub(crate) struct MemoryRow {
    pub(crate) name: String,
    pub(crate) flows: u32,
    pub(crate) ns_per_packet: f64,
    pub(crate) min_max: (f64, f64),
}

/// `latency.json`, `requests.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) rate_pps: f64,
    pub(crate) flows: u32,
    pub(crate) rows: Vec<LatencyRow>,
}

/// One forwarder's latency; of each percentile the spread over the rounds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LatencyRow {
    pub(crate) forwarder: String,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p90_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    pub(crate) p999_us: Option<Spread>,
    pub(crate) max_us: Option<Spread>,
    /// Generator or sink, not the forwarder, was the limit in some round.
    pub(crate) is_bound: bool,
    pub(crate) percentiles: Vec<Quantile>,
}

/// One point of a percentile curve: 0 to 1, and microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Quantile {
    pub(crate) quantile: f64,
    pub(crate) us: f64,
}

/// `result.json` of a folder `load-DATE`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Load {
    pub(crate) tested: String,
    pub(crate) flows: u32,
    pub(crate) size: String,
    pub(crate) round_trip: bool,
    pub(crate) no_drop: Option<Found>,
    pub(crate) partial_drop: Option<Found>,
    pub(crate) curve: Vec<LoadPoint>,
}

/// Latency at one load.
#[derive(Debug, Deserialize)]
pub(crate) struct LoadPoint {
    pub(crate) name: String,
    pub(crate) trial: LoadTrial,
    pub(crate) percentiles: Vec<Quantile>,
}

/// What became of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadTrial {
    pub(crate) rate_pps: f64,
    pub(crate) lost: Option<u64>,
    pub(crate) bound: Option<Bound>,
    pub(crate) latency: Option<Percentiles>,
}

/// `scale.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Scale {
    pub(crate) rows: Vec<ScaleRow>,
}

/// How long a change takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ScaleRow {
    pub(crate) case: String,
    pub(crate) count: usize,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
}

/// `pktgen.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Pktgen {
    pub(crate) guest_kernel: String,
    pub(crate) trials: Vec<crate::pktgen::Trial>,
}

/// `growth.json`: `{environment, results: {series: [{name, against, unit, points: [[x, y], ..]}
/// ]}}`, with `against` one of services, backends, flows, queues.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Growth {
    pub(crate) series: Vec<GrowthSeries>,
}

/// A figure as something grows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GrowthSeries {
    pub(crate) name: String,
    pub(crate) against: String,
    pub(crate) unit: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Results {
    /// Reads a folder.
    ///
    /// # Errors
    /// No such folder, a file that cannot be read, or nothing at all in it.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let results = Self {
            rivals: file(folder, "rivals")?,
            memory: file(folder, "memory")?,
            latency: file(folder, "latency")?,
            requests: file(folder, "requests")?,
            load: newest_load(folder)?,
            scale: file(folder, "scale")?,
            pktgen: file(folder, "pktgen")?,
            growth: file(folder, "growth")?,
            outside: outside(folder)?,
        };
        let is_empty = results.environments().is_empty() && results.outside.is_empty();
        ensure!(!is_empty, "there are no results in {}; type: make bench", folder.display());
        Ok(results)
    }

    /// The files that are there, and where each was measured.
    pub(crate) fn environments(&self) -> Vec<(&'static str, &Environment)> {
        fn of<'a, T>(name: &'static str, file: Option<&'a File<T>>) -> Named<'a> {
            file.map(|file| (name, &file.environment))
        }
        let all = [
            of("rivals", self.rivals.as_ref()),
            of("memory", self.memory.as_ref()),
            of("latency", self.latency.as_ref()),
            of("requests", self.requests.as_ref()),
            of("load", self.load.as_ref()),
            of("scale", self.scale.as_ref()),
            of("pktgen", self.pktgen.as_ref()),
            of("growth", self.growth.as_ref()),
        ];
        all.into_iter().flatten().collect()
    }
}

type Named<'a> = Option<(&'static str, &'a Environment)>;

fn file<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    let path = folder.join(format!("{name}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display())).map(Some)
}

/// Folders of load tests are called after the time.
fn newest_load(folder: &Path) -> Result<Option<File<Load>>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("load-")).max();
    newest.map_or(Ok(None), |name| file(folder, &format!("{name}/result")))
}

/// The words of other generators: all text files of the folder that are some.
fn outside(folder: &Path) -> Result<Vec<(String, outside::Run)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = ["rivals", "memory", "latency", "requests", "scale", "pktgen", "growth"]
            .iter()
            .any(|ours| name == format!("{ours}.json"));
        if is_ours || !path.extension().is_some_and(|kind| kind == "txt" || kind == "json") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let run = outside::run(&text).with_context(|| format!("understand {}", path.display()))?;
        runs.extend(run.map(|run| (name, run)));
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_results_is_an_error_that_says_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let error = Results::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("make bench"), "{error}");
        fs::write(folder.path().join("rivals.json"), "{").unwrap();
        let error = Results::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("rivals.json"), "{error}");
    }

    #[test]
    fn what_a_file_holds_besides_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"environment": {"cpu": "x", "new": 1}, "results": {"rows": [{"name": "a",
            "flows": 1, "ns_per_packet": 2.0, "min_max": [1.0, 3.0], "more": []}],
            "callgrind": {}}}"#;
        fs::write(folder.path().join("memory.json"), text).unwrap();
        let trex = include_str!("../../testdata/pktgen/trex.txt");
        fs::write(folder.path().join("uplink.txt"), trex).unwrap();
        let results = Results::read(folder.path()).unwrap();
        assert_eq!(results.memory.unwrap().results.rows()[0].name, "a");
        assert_eq!(results.outside[0].1.sent, 3000);
    }

    #[test]
    fn of_several_load_tests_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        for (name, tested) in [("load-2026-01-02T00-00-00", "b"), ("load-2026-01-01T09-00-00", "a")]
        {
            let load = folder.path().join(name);
            fs::create_dir(&load).unwrap();
            let text = format!(
                r#"{{"environment": {{}}, "results": {{"tested": "{tested}", "no_drop":
                {{"rate_pps": 1e6, "bound": "generator", "is_at_max": false}}}}}}"#
            );
            fs::write(load.join("result.json"), text).unwrap();
        }
        let load = Results::read(folder.path()).unwrap().load.unwrap().results;
        assert_eq!(load.tested, "b");
        assert_eq!(load.no_drop.unwrap().bound, Some(Bound::Generator));
    }
}
