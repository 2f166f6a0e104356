//! `tidegate run` from start to end, in a network namespace of its own. Needs root.

mod host;

use anyhow::{Context as _, Result, ensure};
use host::{BINARY, Host};
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tidegate_control::admin::report::{DropsReport, InterfaceReport, List, StatusReport};
use tidegate_control::demo::rig::Daemon;

/// How long a change may take to be seen.
const SEEN_MAX: Duration = Duration::from_secs(20);

const CONFIG: &str = "\
apiVersion: tidegate.dev/v1alpha1
kind: LoadBalancerConfiguration
source: {kind: file, file: /etc/tidegate/manifests}
interfaces: [{name: outer, attachMode: native}]
adminSocket: /run/tidegate/admin.sock
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
";

fn host(name: &str) -> Result<Host> {
    Host::new(name, CONFIG, SERVICE)
}

impl Host {
    fn reserved_ports(&self) -> Result<String> {
        Ok(self.netns.run("cat /proc/sys/net/ipv4/ip_local_reserved_ports")?.trim().to_owned())
    }
}

fn outer(daemon: &Daemon) -> Option<InterfaceReport> {
    let list: List<InterfaceReport> = daemon.get_json("/api/v1/interfaces").ok()?;
    list.items.into_iter().find(|interface| interface.name == "outer")
}

fn status(daemon: &Daemon) -> Result<StatusReport> {
    Ok(daemon.get_json("/api/v1/status")?)
}

#[test]
fn the_end_leaves_the_host_as_it_was() -> Result<()> {
    let host = host("end")?;
    host.netns.sysctl("net.ipv4.ip_local_reserved_ports=8080")?;
    let mut daemon = host.start()?;
    let links = host.netns.ip("link show")?;
    ensure!(links.contains("tidegate0") && links.contains("xdp"), "{links}");
    ensure!(host.reserved_ports()? == "8080,15000-29999", "{}", host.reserved_ports()?);

    let ended = daemon.process().stop().context("it had to be killed")?;
    ensure!(ended.success(), "{ended}");
    let links = host.netns.ip("link show")?;
    ensure!(!links.contains("tidegate") && !links.contains("xdp"), "{links}");
    ensure!(host.reserved_ports()? == "8080", "{}", host.reserved_ports()?);
    ensure!(!host.files.socket().exists(), "the socket is left");
    Ok(())
}

#[test]
fn what_it_touched_stays_in_memory() -> Result<()> {
    let host = host("locked")?;
    let mut daemon = host.start()?;
    let process = daemon.process().id();
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (locked, resident) = (kib("VmLck:").unwrap_or(0), kib("VmRSS:").unwrap_or(u64::MAX));
    ensure!(locked >= resident, "{locked} of {resident} KiB are locked");
    let warnings = status(&daemon)?.warnings;
    ensure!(!warnings.iter().any(|w| w.contains("locked")), "{warnings:?}");
    Ok(())
}

#[test]
fn a_second_daemon_leaves_the_first_alone() -> Result<()> {
    let host = host("second")?;
    let daemon = host.start()?;
    let mut second = host.netns.command(BINARY);
    let second = second.arg("run").arg("--config").arg(host.files.config()).output()?;
    ensure!(second.status.code() == Some(69), "{:?}", second.status);
    let words = String::from_utf8_lossy(&second.stderr);
    ensure!(words.contains("another tidegate answers there"), "{words}");
    ensure!(host.netns.ip("link show")?.contains("tidegate0"), "the first one's road is gone");
    ensure!(status(&daemon)?.ready, "the first one is not ready any more");
    Ok(())
}

#[test]
fn an_interface_that_refused_is_told_and_tried_again() -> Result<()> {
    let host = host("retry")?;
    let mut daemon = host.start()?;
    daemon.process().stop().context("it had to be killed")?;
    // The other end's: the kernel refuses native mode for it.
    host.netns.ip("link set inner mtu 9000")?;
    // Not by `start`, which waits until it is ready.
    let mut run = host.netns.command(BINARY);
    let log = fs::File::create(host.files.log())?;
    let mut child = run.arg("run").arg("--config").arg(host.files.config()).stderr(log).spawn()?;
    let seen = refusal_and_cure(&host);
    child.kill()?;
    child.wait()?;
    seen
}

fn refusal_and_cure(host: &Host) -> Result<()> {
    let get = || -> Option<InterfaceReport> {
        let list = Command::new(BINARY)
            .args(["get", "interfaces", "-o", "json", "--socket"])
            .arg(host.files.socket())
            .output()
            .ok()?;
        let list: List<InterfaceReport> = serde_json::from_slice(&list.stdout).ok()?;
        list.items.into_iter().next()
    };
    let refused = |i: InterfaceReport| !i.attached && i.error.is_some_and(|e| e.contains("MTU"));
    wait_until("the refusal is told", || get().is_some_and(refused))?;
    host.netns.ip("link set inner mtu 1500")?;
    wait_until("it is attached", || get().is_some_and(|i| i.attached && i.error.is_none()))
}

#[test]
fn an_interface_that_went_and_came_back_is_attached_again() -> Result<()> {
    let host = host("back")?;
    let mut daemon = host.start()?;
    let before = outer(&daemon).context("outer is not listed")?;
    host.netns.ip("link del outer")?;
    daemon.wait_until("it is gone", SEEN_MAX, |d| outer(d).is_none())?;
    ensure!(!status(&daemon)?.ready, "ready without its interface");
    host.add_interface()?;
    daemon.wait_until("it is back", SEEN_MAX, |d| outer(d).is_some_and(|i| i.attached))?;
    let after = outer(&daemon).context("outer is not listed")?;
    ensure!(after.index != before.index, "the same interface");
    daemon.wait_until("it is ready", SEEN_MAX, |d| d.get("/readyz").is_ok())?;
    let drops: DropsReport = daemon.get_json("/api/v1/drops")?;
    ensure!(drops.sum.unaccounted == 0, "{:?}", drops.sum);
    Ok(())
}

#[test]
fn sighup_reads_the_configuration_again_and_takes_it_whole_or_not_at_all() -> Result<()> {
    let host = host("reload")?;
    let mut daemon = host.start()?;
    let write = |from: &str, to: &str| host.files.write_config(&CONFIG.replace(from, to));
    host.netns.ip("link add second type veth peer name other")?;
    host.netns.ip("link set second up")?;
    let name = "{name: outer, attachMode: native}";
    let both = "{name: outer, attachMode: native}, {name: second}";

    write(name, &format!("{both}]\nconntrack: {{maxFlows: 4096}}\nworkers: [1"))?;
    hang_up(&mut daemon)?;
    let told = |d: &Daemon, words: &str| {
        status(d).is_ok_and(|s| s.warnings.iter().any(|w| w.contains(words)))
    };
    daemon.wait_until("broken YAML is told", SEEN_MAX, |d| told(d, "configuration refused"))?;

    write(name, &format!("{both}]\nconntrack: {{maxFlows: 4096}}\nmemory: {{}}\n#"))?;
    hang_up(&mut daemon)?;
    let restart = "conntrack.maxFlows while running: restart";
    daemon.wait_until("what needs a restart is told", SEEN_MAX, |d| told(d, restart))?;
    ensure!(host.netns.run(SCRAPE)?.contains("tidegate_config_stale 1"), "not in the metrics");
    let count = |d: &Daemon| status(d).map(|s| s.interfaces.len()).unwrap_or_default();
    ensure!(count(&daemon) == 1, "half of the file was taken");

    write(name, both)?;
    hang_up(&mut daemon)?;
    daemon.wait_until("the interface is attached", SEEN_MAX, |d| {
        count(d) == 2 && status(d).is_ok_and(|s| s.interfaces.iter().all(|i| i.attached))
    })?;
    ensure!(!told(&daemon, "configuration refused"), "still told");
    write("", "")?;
    hang_up(&mut daemon)?;
    daemon.wait_until("it is given up again", SEEN_MAX, |d| count(d) == 1)?;
    ensure!(host.netns.run(SCRAPE)?.contains("tidegate_config_stale 0"), "not in the metrics");
    Ok(())
}

const SCRAPE: &str = "curl -sS -m 5 http://127.0.0.1:10271/metrics";

fn hang_up(daemon: &mut Daemon) -> Result<()> {
    let pid = daemon.process().id().to_string();
    let kill = Command::new("kill").args(["-HUP", &pid]).status()?;
    ensure!(kill.success(), "kill: {kill}");
    Ok(())
}

#[test]
fn bad_manifests_are_told_and_the_good_ones_keep_serving() -> Result<()> {
    let host = host("bad")?;
    let mut daemon = host.start()?;
    ensure!(status(&daemon)?.source.fronts == 1, "{:?}", status(&daemon)?.source);
    host.files.write_manifest("bad", "apiVersion: v1\nkind: Service\nmetadata: []\n")?;
    let is_refused = |d: &Daemon| status(d).is_ok_and(|s| s.source.error.is_some());
    daemon.wait_until("the refusal is told", SEEN_MAX, is_refused)?;
    let refused = status(&daemon)?;
    let words = refused.source.error.unwrap_or_default();
    ensure!(words.contains("bad.yaml:3"), "{words}");
    ensure!(refused.source.fronts == 1 && refused.ready, "the good state is gone");
    host.files.remove_manifest("bad")?;
    daemon.wait_until("it is cured", SEEN_MAX, |d| !is_refused(d))?;
    Ok(())
}

#[test]
fn packet_filters_that_are_bypassed_are_named() -> Result<()> {
    let host = host("filter")?;
    host.netns.run("nft add table inet strict")?;
    let daemon = host.start()?;
    let warnings = status(&daemon)?.warnings;
    ensure!(warnings.iter().any(|w| w.contains("nft inet strict")), "{warnings:?}");
    let log = fs::read_to_string(host.files.log())?;
    ensure!(log.contains("WARN     packet filter tables exist"), "{log}");
    Ok(())
}

#[test]
fn h10_h12_while_the_api_server_is_away_from_the_start_the_node_lives_and_takes_no_traffic()
-> Result<()> {
    let host = host("away")?;
    host.files.write_manifest("kubeconfig", KUBECONFIG)?;
    host.files.write_config(
        &CONFIG.replace("source: {kind: file, file: /etc/tidegate/manifests}", AWAY),
    )?;
    // Not by `start`, which waits until it is ready.
    let log = fs::File::create(host.files.log())?;
    let mut run = host.netns.command(BINARY);
    let mut child = run.arg("run").arg("--config").arg(host.files.config()).stderr(log).spawn()?;
    let code = |path: &str| {
        let url = format!("http://127.0.0.1:10271{path}");
        let curl = format!("curl -sS -m 8 -o /dev/null -w %{{http_code}} {url}");
        host.netns.run(&curl).unwrap_or_default()
    };
    let seen = wait_until("it lives", || code("/livez") == "200");
    let seen = seen.and_then(|()| {
        let codes = [code("/healthz"), code("/readyz")];
        ensure!(codes == ["503", "503"], "{codes:?}");
        Ok(())
    });
    child.kill()?;
    child.wait()?;
    seen
}

/// A source whose API server is not there.
const AWAY: &str = "\
source: {kind: kubernetes}
clientConnection: {kubeconfig: /etc/tidegate/manifests/kubeconfig.yaml}
stateDirectory: /etc/tidegate/manifests/state";

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: away
clusters: [{name: away, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: away, user: {}}]
contexts: [{name: away, context: {cluster: away, user: away}}]
";

const LOCAL_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: local, namespace: shop}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  clusterIP: 10.96.0.11
  ports: [{port: 80, nodePort: 30081}]
";

#[test]
fn h8_health_is_answered_to_the_network_and_a_port_that_another_holds_is_taken_later() -> Result<()>
{
    let host = host("health")?;
    let rival = host.netns.enter(|| TcpListener::bind("192.0.2.1:32000"))??;
    let curl = |url: &str| host.netns.run(&format!("curl -sS -m 5 {url}"));
    let mut daemon = host.start()?;
    ensure!(curl("http://192.0.2.1:10271/healthz")?.contains("\"nodeEligible\":true"));
    ensure!(curl("http://127.0.0.1:10271/readyz")? == "ok\n", "not ready");

    host.files.write_manifest("local", LOCAL_SERVICE)?;
    let told =
        |d: &Daemon| status(d).is_ok_and(|s| s.warnings.iter().any(|w| w.contains(":32000")));
    daemon.wait_until("the rival is told", SEEN_MAX, told)?;
    ensure!(status(&daemon)?.ready, "a health check's port makes it unready");
    drop(rival);
    let answered = "\"localEndpoints\": 0";
    wait_until("the port is taken", || {
        curl("http://192.0.2.1:32000/").is_ok_and(|body| body.contains(answered))
    })?;
    host.files.remove_manifest("local")?;
    wait_until("the port is left", || curl("http://192.0.2.1:32000/").is_err())
}

#[test]
fn events_services_and_endpoints_are_listed_as_kubectl_does() -> Result<()> {
    let host = host("lists")?;
    host.files.write_manifest("web", &SERVICE.replace("  selector: {app: web}\n", ""))?;
    host.files.write_manifest("slice", SLICE)?;
    let mut daemon = host.start()?;
    let get = |words: &str| -> Result<String> {
        let socket = host.files.socket();
        let args = ["get"].into_iter().chain(words.split(' ')).map(str::to_owned);
        let args = args.chain(["--socket".to_owned(), socket.display().to_string()]);
        let output = Command::new(BINARY).args(args).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    };
    let services = "NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\n\
                    shop web NodePort 10.96.0.10 <none> 80:30080/TCP <unknown>";
    ensure!(get("services -A")? == services, "{}", get("services -A")?);
    ensure!(get("svc")?.starts_with("NAMESPACE SERVICE PORT NODEPORT"), "{}", get("svc")?);
    let endpoints = "NAME ENDPOINTS AGE\nweb 192.0.2.9:8080 <unknown>";
    ensure!(get("endpoints -n shop")? == endpoints, "{}", get("endpoints -n shop")?);
    ensure!(get("ep -A -o name")? == "endpoints/web", "{}", get("ep -A -o name")?);
    let json: serde_json::Value = serde_json::from_str(&get("svc -A -o json")?)?;
    ensure!(json["items"][0]["spec"]["ports"][0]["nodePort"] == 30_080, "{json}");

    let attached = "Normal XdpAttached node/";
    daemon.wait_until("the attachment is told", SEEN_MAX, |_| {
        get("events").is_ok_and(|text| text.contains(attached))
    })?;
    host.files.remove_manifest("slice")?;
    daemon.wait_until("the loss is told", SEEN_MAX, |_| {
        let lost = "Warning NoReadyBackends service/web no ready endpoint for port 80/TCP";
        get("events -n shop").is_ok_and(|text| text.contains(lost))
    })?;
    Ok(())
}

const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: '', port: 8080}]
endpoints: [{addresses: [192.0.2.9], conditions: {ready: true}}]
";

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + SEEN_MAX;
    while std::time::Instant::now() < deadline {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("not within {} s: {what}", SEEN_MAX.as_secs())
}
