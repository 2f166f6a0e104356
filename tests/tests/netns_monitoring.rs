//! `configs/monitoring` with a real Prometheus: every alert and every panel finds its data.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER};
use tidegate_dataplane::verdict::{DropReason, Kind};
use tidegate_tests::lab::{FAMILIES, Lab, NEAR, V4, configure, front};
use tidegate_tests::load::any_like;
use tidegate_tests::setting::wait_until;

const PATIENCE: Duration = Duration::from_mins(1);

/// More UDP flows than there are source ports towards three pods: the rest is dropped at a limit.
const FLOWS: usize = 4_000;

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/monitoring")
}

fn promtool(arguments: &[&str]) -> Result<()> {
    let output = Command::new("promtool").args(arguments).current_dir(monitoring()).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}

/// Name and expression of every alert.
fn alerts() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(monitoring().join("rules.yaml"))?;
    let rules: Value = serde_saphyr::from_str(&text)?;
    let rules = rules["groups"][0]["rules"].as_array().context("no rules")?.clone();
    let pair = |rule: &Value| Some((rule["alert"].as_str()?.into(), rule["expr"].as_str()?.into()));
    rules.iter().map(|rule| pair(rule).context("a rule without name or expression")).collect()
}

/// Title and expression of every panel's queries, with the variables filled in.
fn panels() -> Result<Vec<(String, String)>> {
    let board: Value =
        serde_json::from_str(&fs::read_to_string(monitoring().join("dashboard.json"))?)?;
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("no title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("no expression")?;
            let filled = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            queries.push((title.to_owned(), filled));
        }
    }
    Ok(queries)
}

/// An alert's expression without its thresholds: what it looks at.
fn without_thresholds(expression: &str) -> String {
    let mut kept = Vec::new();
    let mut words = expression.split_whitespace();
    while let Some(word) = words.next() {
        if matches!(word, "==" | ">" | "<") {
            let number = words.next().unwrap_or_default();
            // A bracket that the number ended stays.
            kept.push(number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// A Prometheus that ends with its owner.
struct Prometheus<'a> {
    lab: &'a Lab,
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl<'a> Prometheus<'a> {
    /// On the gateway, with our own configuration but for the pace.
    fn start(lab: &'a Lab, flag: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        let config = fs::read_to_string(monitoring().join("prometheus.yml"))?;
        fs::write(file("prometheus.yml"), config.replace("15s", "1s"))?;
        fs::copy(monitoring().join("rules.yaml"), file("rules.yaml"))?;
        let mut command = lab.rig().gateway().command("prometheus");
        command.arg(flag).arg("--web.listen-address=127.0.0.1:9090");
        command.arg(format!("--config.file={}", file("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", file("data").display()));
        let log = fs::File::create(file("log"))?;
        let process = command.stderr(log).stdout(Stdio::null()).spawn()?;
        Ok(Self { lab, process, folder })
    }

    /// How many series an expression has now.
    fn count(&self, expression: &str) -> Result<usize> {
        let mut curl = self.lab.rig().gateway().command("curl");
        curl.args(["-sS", "-m", "10", "http://127.0.0.1:9090/api/v1/query"]);
        let output = curl.arg("--data-urlencode").arg(format!("query={expression}")).output()?;
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"]["result"].as_array().map_or(0, Vec::len))
    }

    /// Waits until every expression has data, with traffic going on.
    fn await_data(&self, wanted: Vec<(String, String)>) -> Result<()> {
        let mut missing = wanted;
        let all_found = wait_until("every expression has data", PATIENCE, || {
            load(self.lab).ok();
            missing.retain(|(_, expression)| self.count(expression).unwrap_or(0) == 0);
            missing.is_empty()
        });
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        all_found.with_context(|| format!("without data: {missing:#?}\n{log}"))
    }
}

/// A little of everything: forwarded, rejected, dropped at a limit, dropped otherwise.
fn load(lab: &Lab) -> Result<()> {
    for family in FAMILIES {
        lab.http(front(family, HTTP_CLUSTER), 20)?;
    }
    let to = |port| front(V4, port);
    lab.rig().client().enter(|| -> std::io::Result<()> {
        for _ in 0..FLOWS {
            let socket = UdpSocket::bind((any_like(to(UDP_CLUSTER)), 0))?;
            socket.send_to(b"a flow", to(UDP_CLUSTER))?;
        }
        for port in [HTTP_LOCAL, LONELY] {
            let dialled =
                std::net::TcpStream::connect_timeout(&to(port), Duration::from_millis(50));
            // Refused or left alone: that is the point.
            dialled.err();
        }
        Ok(())
    })??;
    Ok(())
}

/// The node port of a Service without endpoints.
const LONELY: u16 = 30_999;

const LONELY_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: lonely, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.99.99
  ports: [{name: http, port: 80, nodePort: 30999}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: lonely-1
  namespace: shop
  labels: {kubernetes.io/service-name: lonely}
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: TRIGGER}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.9.9.9], conditions: {ready: false}}]
";

/// Where every series that alerts and panels look at is there, once Prometheus asked twice.
fn lab() -> Result<Lab> {
    let ports = "  algorithm: maglev\n  sourcePortRange: 15000-16023";
    let config = configure(&[("  algorithm: maglev", ports)])?;
    let lab = Lab::start_with(&RigPlan::new("test"), |_| Ok(config))?;
    lab.site().withdraw_pod(NEAR)?;
    lab.wait_for(NEAR, false)?;
    // As the endpoint controller writes it: a change that came after the daemon's start.
    let now = humantime_now()?;
    lab.site().files().write_manifest("lonely", &LONELY_SERVICE.replace("TRIGGER", &now))?;
    Ok(lab)
}

fn humantime_now() -> Result<String> {
    let output =
        Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", "1 second"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn everything_has_data(flag: &str) -> Result<()> {
    let lab = lab()?;
    load(&lab)?;
    let prometheus = Prometheus::start(&lab, flag)?;
    let alerts = alerts()?.into_iter().map(|(name, e)| (name, without_thresholds(&e)));
    prometheus.await_data(alerts.chain(panels()?).collect())?;
    drop(prometheus);
    lab.finish()
}

#[test]
fn every_alert_and_panel_has_data_from_classic_histograms() -> Result<()> {
    everything_has_data("--log.level=info")
}

#[test]
fn every_alert_and_panel_has_data_from_native_histograms() -> Result<()> {
    everything_has_data("--enable-feature=native-histograms")
}

#[test]
fn promtool_accepts_the_rules_and_makes_each_alert_fire() -> Result<()> {
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["check", "rules", "rules.yaml"])?;
    promtool(&["test", "rules", "rules_test.yaml"])?;
    let tests = fs::read_to_string(monitoring().join("rules_test.yaml"))?;
    let docs = fs::read_to_string(monitoring().join("../../docs/alerts.md"))?;
    for (name, _) in alerts()? {
        ensure!(tests.contains(&format!("alertname: {name}\n")), "{name} is not made to fire");
        ensure!(docs.contains(&format!("## {name}\n")), "{name} is not explained");
    }
    Ok(())
}

#[test]
fn the_alert_on_drops_names_every_reason_of_a_limit() -> Result<()> {
    let alerts = alerts()?;
    let (_, expression) =
        alerts.iter().find(|(name, _)| name == "TidegateDropsCapacity").context("no alert")?;
    let list = expression.split("reason=~\"").nth(1).and_then(|rest| rest.split('"').next());
    let mut listed: Vec<_> = list.context("no list of reasons")?.split('|').collect();
    listed.sort_unstable();
    let limits = DropReason::ALL.iter().filter(|reason| reason.kind() == Kind::Capacity);
    let mut limits: Vec<_> = limits.map(|reason| reason.name()).collect();
    limits.sort_unstable();
    ensure!(listed == limits, "listed {listed:?}, reasons of kind capacity {limits:?}");
    Ok(())
}

#[test]
fn thresholds_are_taken_away_and_nothing_else() {
    assert_eq!(without_thresholds("a == 0 and b == 0"), "a  and b ");
    assert_eq!(without_thresholds("(x > 0.5) / y > 5"), "(x ) / y ");
}
