//! `/metrics` of the running daemon, read by Prometheus' own tools. Needs root.

mod host;

use anyhow::{Context as _, Result, ensure};
use host::Host;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a scraper may take to show what it scraped.
const SEEN_MAX: Duration = Duration::from_secs(30);

const CONFIG: &str = "\
apiVersion: tidegate.dev/v1alpha1
kind: LoadBalancerConfiguration
source: {kind: file, file: /etc/tidegate/manifests}
interfaces: [{name: outer, attachMode: native}]
adminSocket: /run/tidegate/admin.sock
metrics: {perBackend: true}
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [192.0.2.9], conditions: {ready: true}}]
";

fn host(name: &str) -> Result<Host> {
    Host::new(name, CONFIG, SERVICE)
}

impl Host {
    /// A file beside the daemon's.
    fn file(&self, name: &str) -> PathBuf {
        self.files.log().with_file_name(name)
    }

    fn scrape(&self, accept: &str) -> Result<String> {
        let curl = format!("curl -sS -m 5 -H Accept:{accept} http://127.0.0.1:10271/metrics");
        Ok(self.netns.run(&curl)?)
    }
}

/// The names in `# TYPE` lines.
fn names(scrape: &str) -> BTreeSet<&str> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|rest| rest.split(' ').next()).collect()
}

/// What `promtool check metrics` complains of.
fn complaints(scrape: &str) -> Result<Vec<String>> {
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(scrape.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}

#[test]
fn promtool_accepts_every_name_and_help_but_kube_proxys_own() -> Result<()> {
    let host = host("promtool")?;
    let _daemon = host.start()?;
    let scrape = host.scrape("text/plain")?;
    let complaints = complaints(&scrape)?;
    let (kube_proxys, ours): (Vec<_>, Vec<_>) =
        complaints.into_iter().partition(|line| line.starts_with("kubeproxy_"));
    ensure!(ours.is_empty(), "{ours:#?}");
    ensure!(kube_proxys.len() <= 1, "{kube_proxys:#?}");
    Ok(())
}

#[test]
fn the_documentation_lists_what_is_told_and_nothing_else() -> Result<()> {
    let host = host("names")?;
    let _daemon = host.start()?;
    let scrape = host.scrape("text/plain")?;
    let told = names(&scrape);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = fs::read_to_string(docs)?;
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<_> = rows.collect();
    ensure!(!listed.is_empty(), "no table");
    let unlisted: Vec<_> = told.difference(&listed).collect();
    ensure!(unlisted.is_empty(), "not in docs/metrics.md: {unlisted:?}");
    // Reasons are told once they occurred, and lost Events where there is an API server.
    let is_rare = |name: &&&str| name.contains("ed_packets") || name.contains("events_lost");
    let untold: Vec<_> = listed.difference(&told).filter(|name| !is_rare(name)).collect();
    ensure!(untold.is_empty(), "in docs/metrics.md, but not told: {untold:?}");
    Ok(())
}

#[test]
fn a_deleted_services_series_are_gone_with_it() -> Result<()> {
    let host = host("deleted")?;
    let mut daemon = host.start()?;
    let series = "tidegate_service_backends{namespace=\"shop\",service=\"web\",port=\"http\",";
    ensure!(host.scrape("text/plain")?.contains(series), "{}", host.scrape("text/plain")?);
    ensure!(host.scrape("text/plain")?.contains("backend=\"192.0.2.9:8080\""));
    host.files.remove_manifest("web")?;
    daemon.wait_until("its series are gone", SEEN_MAX, |_| {
        host.scrape("text/plain").is_ok_and(|text| !text.contains("service=\"web\""))
    })?;
    Ok(())
}

/// A process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_real_prometheus_reads_native_histograms() -> Result<()> {
    let query = "histogram_count(tidegate_sync_duration_seconds)>0";
    scraped("native", "--enable-feature=native-histograms", query)
}

/// Without the feature it asks for OpenMetrics text, and is strict about its form.
#[test]
fn a_real_prometheus_reads_openmetrics() -> Result<()> {
    let query = "tidegate_sync_duration_seconds_count>0";
    scraped("text", "--log.level=info", query)
}

/// Waits until a Prometheus that runs with `flag` answers `query` with a series of ours.
fn scraped(name: &str, flag: &str, query: &str) -> Result<()> {
    let host = host(name)?;
    let _daemon = host.start()?;
    let config = host.file("prometheus.yml");
    fs::write(
        &config,
        "scrape_configs: [{job_name: tidegate, scrape_interval: 1s, static_configs: [{targets: \
         ['127.0.0.1:10271']}]}]\n",
    )?;
    let mut prometheus = host.netns.command("prometheus");
    let prometheus = prometheus
        .arg(flag)
        .arg("--web.listen-address=127.0.0.1:9090")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", host.file("data").display()));
    let log = fs::File::create(host.file("prometheus.log"))?;
    let _server = Server(prometheus.stderr(log).stdout(Stdio::null()).spawn()?);
    let deadline = Instant::now() + SEEN_MAX;
    let mut answer = String::new();
    while Instant::now() < deadline {
        let curl = format!("curl -sS -m 5 http://127.0.0.1:9090/api/v1/query?query={query}");
        answer = host.netns.run(&curl).unwrap_or_default();
        if answer.contains("\"instance\":\"127.0.0.1:10271\"") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = fs::read_to_string(host.file("prometheus.log"))?;
    anyhow::bail!("nothing was scraped: {answer}\n{log}")
}
