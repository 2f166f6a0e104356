//! Latency as it leaves, read by others: HdrHistogram's Python implementation, and scrapers.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tidegate_control::admin::report::{LatencyReport, StageReport};
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::{HTTP_CLUSTER, UDP_CLUSTER};
use tidegate_tests::lab::{FAMILIES, Lab, configure, front};
use tidegate_tests::setting::{binary, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Flows of each family and protocol.
const FLOWS: u32 = 200;

/// What the Python reader found.
#[derive(Debug, Deserialize)]
struct Figures {
    count: u64,
    max: u64,
    values: [u64; 5],
}

/// Reads an interval log with the Python implementation; by tag, and all together as `all`.
fn read(hlog: &[u8]) -> Result<BTreeMap<String, Figures>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/python/bin/python");
    ensure!(python.exists(), "there is no {}: make setup installs it", python.display());
    let script = root.join("tests/netns_latency/read.py");
    let mut command = Command::new(python);
    let command = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("no stdin")?.write_all(hlog)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the reader refused:\n{}", String::from_utf8_lossy(hlog));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A running gateway that writes every interval to a file.
struct Bed {
    lab: Lab,
    log: PathBuf,
    // Removed last.
    _folder: tempfile::TempDir,
}

impl Bed {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("latency.hlog");
        let line = format!("  sample: 1/1\n  histogramLog: {}\n", log.display());
        let config = configure(&[("  sample: 1/1 ", &format!("{line}  interval: 1s #"))])?;
        let lab = Lab::start_with(&RigPlan::new("test"), |_| Ok(config))?;
        Ok(Self { lab, log, _folder: folder })
    }

    fn load(&self) -> Result<()> {
        for family in FAMILIES {
            self.lab.http(front(family, HTTP_CLUSTER), FLOWS)?;
            self.lab.udp(front(family, UDP_CLUSTER), FLOWS)?;
        }
        Ok(())
    }

    fn report(&self) -> Result<LatencyReport> {
        self.lab.report("/api/v1/latency")
    }

    /// The row of a stage and kind.
    fn row(&self, stage: &str, kind: &str) -> Result<StageReport> {
        let mut rows = self.report()?.stages.into_iter();
        rows.find(|row| row.stage == stage && row.kind == kind).context("no such row")
    }

    /// Waits until every measured packet is in the file; says else how many are missing, or why
    /// nobody can tell.
    fn wait_for_file(&self) -> Result<()> {
        let difference = || -> Result<()> {
            let total = self.row("total", "all")?.count;
            let file = read(&fs::read(&self.log)?)?.get("all").map_or(0, |all| all.count);
            ensure!(file == total, "{file} of {total} packets are in it");
            Ok(())
        };
        let mut last = Ok(());
        let waited = wait_until("the file holds what was measured", PATIENCE, || {
            last = difference();
            last.is_ok()
        });
        last.and(waited).context("the file does not hold what was measured")
    }

    /// What the read-only listener answers on the gateway's loopback.
    fn download(&self, path: &str) -> Result<String> {
        let curl = format!("curl -sS -m 5 --fail http://127.0.0.1:10270/api/v1/latency{path}");
        Ok(self.lab.rig().gateway().run(&curl)?)
    }
}

/// The same histogram, however it came here: rounding happens once, when it is recorded.
fn ensure_same(found: &Figures, told: &StageReport, what: &str) -> Result<()> {
    let values = [told.p50_ns, told.p90_ns, told.p99_ns, told.p999_ns, told.p9999_ns];
    let is_same = (found.count, found.values) == (told.count, values);
    ensure!(is_same, "{what}: {found:?} is not {told:?}");
    ensure!(found.max == told.max_ns, "{what}: {found:?} has another maximum than {told:?}");
    Ok(())
}

#[test]
fn every_form_of_latency_says_the_same_to_an_independent_reader() -> Result<()> {
    let bed = Bed::start()?;
    bed.load()?;
    bed.wait_for_file()?;

    let total = bed.row("total", "all")?;
    ensure!(total.count >= u64::from(FLOWS) * 4 * 2, "{total:?}");
    let file = read(&fs::read(&bed.log)?)?;
    ensure_same(&file["all"], &total, "the file")?;
    let by_worker: u64 = file.iter().filter(|(tag, _)| *tag != "all").map(|(_, f)| f.count).sum();
    ensure!(by_worker == total.count && file.contains_key("worker0"), "{file:?}");

    for (stage, kind) in [("queue wait", "reply"), ("forwarding", "new flow"), ("total", "all")] {
        let (told, dashes) = (bed.row(stage, kind)?, |words: &str| words.replace(' ', "-"));
        let query = format!("?stage={}&kind={}", dashes(stage), dashes(kind));
        let log = read(bed.download(&format!(".hlog{query}"))?.as_bytes())?;
        ensure_same(&log["all"], &told, &query)?;
        let hgrm = bed.download(&format!(".hgrm{query}"))?;
        let footer = format!("Total count    = {:>12}]", told.count);
        ensure!(hgrm.contains(&footer), "{footer} is missing in:\n{hgrm}");
    }
    let new_flows = bed.row("total", "new flow")?.count;
    // A client may use a UDP port again while its flow lives.
    ensure!(new_flows >= u64::from(FLOWS) * 3, "{new_flows} of new flows");
    let metrics = bed.lab.rig().gateway().run("curl -sS -m 5 http://127.0.0.1:10271/metrics")?;
    let line = format!("tidegate_total_duration_seconds_count{{kind=\"new_flow\"}} {new_flows}");
    ensure!(metrics.lines().any(|l| l == line), "{line} is missing in:\n{metrics}");
    ensure!(sum_of(&metrics, "tidegate_transmitted_packets_total")? >= total.count);
    for what in ["packets", "bytes"] {
        let of_queues = sum_of(&metrics, &format!("tidegate_queue_transmitted_{what}_total"))?;
        let of_all = sum_of(&metrics, &format!("tidegate_transmitted_{what}_total"))?;
        ensure!(of_queues == of_all, "{what}: {of_queues} of queues, {of_all} of interfaces");
    }
    let bursts = sum_of(&metrics, "tidegate_batch_packets_sum")?;
    let received = sum_of(&metrics, "tidegate_queue_received_packets_total")?;
    ensure!(bursts == received && received > 0, "{bursts} in bursts, {received} of queues");
    bed.lab.finish()
}

/// The sum of all series of a name.
fn sum_of(metrics: &str, name: &str) -> Result<u64> {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let values = series.filter_map(|rest| rest.strip_prefix('{')?.rsplit(' ').next());
    values.map(|value| Ok(value.trim_end_matches(".0").parse::<u64>()?)).sum()
}

#[test]
fn a_reset_begins_anew_and_a_follower_gets_every_interval() -> Result<()> {
    let bed = Bed::start()?;
    let folder = tempfile::tempdir()?;
    let followed = folder.path().join("followed.json");
    let socket = bed.lab.site().files().socket();
    let mut command = Command::new(binary()?);
    command.arg("--socket").arg(&socket).args(["latency", "--follow", "-o", "json"]);
    let mut follower = command.stdout(File::create(&followed)?).spawn()?;
    let reports = || -> Vec<LatencyReport> {
        let text = fs::read_to_string(&followed).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    wait_until("the follower begins", PATIENCE, || !reports().is_empty())?;
    let before = reports()[0].stages[0].count;
    bed.load()?;
    let counted = || reports().iter().skip(1).map(|report| report.stages[0].count).sum::<u64>();
    let measured = || bed.row("queue wait", "all").is_ok_and(|row| row.count == before + counted());
    let followed =
        wait_until("the follower has seen all", PATIENCE, || counted() > 0 && measured());
    follower.kill()?;
    follower.wait()?;
    followed?;

    let mut command = Command::new(binary()?);
    let reset = command.arg("--socket").arg(&socket).args(["latency", "--reset"]).status()?;
    ensure!(reset.success());
    let count = bed.row("total", "all")?.count;
    ensure!(count < u64::from(FLOWS), "{count} packets since the reset");
    bed.lab.finish()
}
