//! `tidegate explain` and the live packet path agree: a real packet for every verdict, and what
//! the daemon and the manifests alone say of it.

use anyhow::{Context as _, Result, ensure};
use core::net::{SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use tidegate_control::admin::report::DropsReport;
use tidegate_control::demo::rig::{CLIENT, RigPlan};
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL};
use tidegate_control::explain::{Answer, Outcome};
use tidegate_tests::bystander;
use tidegate_tests::lab::{FAR, Lab, NEAR, V4, front};
use tidegate_tests::load::Session;
use tidegate_tests::setting::{POD_HTTP, POD_UDP, binary, wait_until};

/// Flows of each kind: that a wrong prediction is right each time has a chance below 1e-5.
const FLOWS: u32 = 12;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Service that no pod serves, TCP and UDP.
const NOBODY: u16 = 30_100;
const NOBODY_YAML: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: nobody}\n\
    spec: {type: NodePort, selector: {app: nobody}, ports: [{name: t, port: 1, nodePort: 30100}, \
    {name: u, port: 1, nodePort: 30100, protocol: UDP}]}\n";

/// A Service with policy Local whose only endpoint is on the other node.
const AWAY: u16 = 30_101;
const AWAY_YAML: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: away}\n\
    spec: {type: NodePort, externalTrafficPolicy: Local, ports: [{port: 1, nodePort: 30101, \
    protocol: UDP}]}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: away-1, labels: {kubernetes.io/service-name: away}}\naddressType: IPv4\n\
    ports: [{name: '', port: 5001, protocol: UDP}]\n\
    endpoints: [{addresses: [ADDRESS], nodeName: node2}]\n";

#[test]
fn real_packets_meet_what_explain_says() -> Result<()> {
    let lab = Lab::start(&RigPlan::new("test"), &[])?;
    let far = lab.site().pod(FAR[0]).context("a far pod")?.address();
    let files = lab.site().files();
    files.write_manifest("nobody", NOBODY_YAML)?;
    files.write_manifest("away", &AWAY_YAML.replace("ADDRESS", &far.to_string()))?;
    for (protocol, port) in [("tcp", NOBODY), ("udp", NOBODY), ("udp", AWAY)] {
        let is_known = || {
            let source = SocketAddrV4::new(CLIENT, 1).into();
            explain(&lab, (protocol, source, port), &[]).is_ok_and(|a| a.service.is_some())
        };
        wait_until("the new Service is published", PATIENCE, is_known)?;
    }
    for _ in 0..FLOWS {
        forwarded_udp(&lab, UDP_CLUSTER, true)?;
        forwarded_udp(&lab, UDP_LOCAL, false)?;
        forwarded_tcp(&lab, HTTP_CLUSTER)?;
        forwarded_tcp(&lab, HTTP_LOCAL)?;
    }
    rejected(&lab)?;
    dropped(&lab)?;
    passed(&lab)?;
    lab.finish()
}

/// The answer about a packet from the client: of the daemon, which must be that of the manifests.
fn predicted(lab: &Lab, packet: (&str, SocketAddr, u16)) -> Result<Answer> {
    let (config, manifests) = (lab.site().files().config(), lab.site().files().manifests());
    let (config, manifests) = (config.display().to_string(), manifests.display().to_string());
    let offline = ["--state", &manifests, "--node", "gateway", "--config", &config];
    let (live, offline) = (explain(lab, packet, &[])?, explain(lab, packet, &offline)?);
    ensure!(live == offline, "the daemon says {live:?}, the manifests {offline:?}");
    Ok(live)
}

fn explain(
    lab: &Lab,
    (protocol, source, port): (&str, SocketAddr, u16),
    options: &[&str],
) -> Result<Answer> {
    let mut command = Command::new(binary()?);
    command.arg("--socket").arg(lab.site().files().socket());
    command.args(["explain", "-o", "json"]).args(options);
    command.args([protocol, &source.to_string(), &front(V4, port).to_string()]);
    let output = command.output().context("run tidegate explain")?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Answer = serde_json::from_slice(&output.stdout).with_context(|| words)?;
    let code = match answer.verdict {
        Outcome::Forward => 0,
        Outcome::Drop | Outcome::Reject => 10,
        Outcome::Pass => 11,
    };
    ensure!(output.status.code() == Some(code), "{answer:?} with {}", output.status);
    Ok(answer)
}

/// A datagram to a node port, and the socket that the answer comes to.
fn send(lab: &Lab, port: u16) -> Result<UdpSocket> {
    let bind = || UdpSocket::bind((CLIENT, 0));
    let socket = lab.rig().client().enter(bind)?.context("bind")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(front(V4, port))?;
    socket.send(b"who are you")?;
    Ok(socket)
}

fn forwarded_udp(lab: &Lab, port: u16, is_masqueraded: bool) -> Result<()> {
    let socket = send(lab, port)?;
    let mut buffer = [0; 256];
    let len = socket.recv(&mut buffer).context("an answer")?;
    let heard = String::from_utf8_lossy(&buffer[..len]);
    let mut words = heard.split(' ');
    let (pod, peer) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let answer = predicted(lab, ("udp", socket.local_addr()?, port))?;
    check_forwarded(lab, &answer, pod, POD_UDP)?;
    ensure!(answer.masquerade == is_masqueraded, "{answer:?}");
    let is_kept = peer == socket.local_addr()?.to_string();
    ensure!(is_kept != answer.masquerade, "the pod saw {peer}, but {answer:?}");
    Ok(())
}

fn forwarded_tcp(lab: &Lab, port: u16) -> Result<()> {
    let mut session = Session::open(lab.rig().client(), front(V4, port))?;
    let pod = session.ask()?;
    let answer = predicted(lab, ("tcp", session.local_address()?, port))?;
    check_forwarded(lab, &answer, &pod, POD_HTTP)
}

fn check_forwarded(lab: &Lab, answer: &Answer, pod: &str, port: u16) -> Result<()> {
    let end = |name: &str| -> Result<String> {
        let pod = lab.site().pod(name).with_context(|| format!("a pod {name:?}"))?;
        Ok(format!("{}:{port}", pod.address()))
    };
    ensure!(answer.verdict == Outcome::Forward, "{pod} answered, but {answer:?}");
    ensure!(answer.backend == Some(end(pod)?), "{pod} answered, but {answer:?}");
    let mut all = vec![end(NEAR)?];
    if answer.masquerade {
        all.extend([end(FAR[0])?, end(FAR[1])?]);
    }
    all.sort();
    ensure!(answer.candidates == all, "{answer:?}, but they are {all:?}");
    Ok(())
}

fn rejected(lab: &Lab) -> Result<()> {
    let socket = send(lab, NOBODY)?;
    let refused = socket.recv(&mut [0; 256]).map_err(|error| error.kind());
    ensure!(refused == Err(ErrorKind::ConnectionRefused), "UDP: {refused:?}");
    let dial = || TcpStream::connect_timeout(&front(V4, NOBODY), PATIENCE);
    let refused = lab.rig().client().enter(dial)?.map(drop).map_err(|error| error.kind());
    ensure!(refused == Err(ErrorKind::ConnectionRefused), "TCP: {refused:?}");
    for protocol in ["udp", "tcp"] {
        let answer = predicted(lab, (protocol, socket.local_addr()?, NOBODY))?;
        let told = (answer.verdict, answer.reason.as_str());
        ensure!(told == (Outcome::Reject, "NO_ENDPOINTS"), "{protocol}: {answer:?}");
    }
    Ok(())
}

fn dropped(lab: &Lab) -> Result<()> {
    let before = drops(lab, "NO_LOCAL_ENDPOINTS")?;
    let socket = send(lab, AWAY)?;
    let is_counted = || drops(lab, "NO_LOCAL_ENDPOINTS").is_ok_and(|now| now == before + 1);
    wait_until("the packet is counted as dropped", PATIENCE, is_counted)?;
    socket.set_nonblocking(true)?;
    let silence = socket.recv(&mut [0; 256]).map_err(|error| error.kind());
    ensure!(silence == Err(ErrorKind::WouldBlock), "{silence:?}");
    let answer = predicted(lab, ("udp", socket.local_addr()?, AWAY))?;
    let told = (answer.verdict, answer.reason.as_str());
    ensure!(told == (Outcome::Drop, "NO_LOCAL_ENDPOINTS"), "{answer:?}");
    Ok(())
}

/// Packets dropped for a reason so far.
fn drops(lab: &Lab, reason: &str) -> Result<u64> {
    let daemon = lab.site().daemon().context("a running tidegate")?;
    let report: DropsReport = daemon.get_json("/api/v1/drops")?;
    let counted = report.dropped.iter().filter(|row| row.reason == reason);
    Ok(counted.map(|row| row.packets).sum())
}

/// The gateway's own server answers.
fn passed(lab: &Lab) -> Result<()> {
    let stream = bystander::connect(lab.rig(), V4)?;
    let (source, port) = (stream.local_addr()?, stream.peer_addr()?.port());
    let answer = predicted(lab, ("tcp", source, port))?;
    let told = (answer.verdict, answer.reason.as_str(), answer.service.as_deref());
    ensure!(told == (Outcome::Pass, "NO_SERVICE", None), "{answer:?}");
    Ok(())
}
