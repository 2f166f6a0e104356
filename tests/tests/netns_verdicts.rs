//! What clients meet where nobody serves them, and what a bad manifest does: nothing.

use anyhow::{Context as _, Result, ensure};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use tidegate_control::admin::report::{DropsReport, StatusReport};
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER};
use tidegate_tests::lab::{FAMILIES, FAR, Lab, NEAR, V4, front, packets_of};
use tidegate_tests::load::any_like;
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::in_each_spread;

const PATIENCE: Duration = Duration::from_secs(10);

/// How the client's stack ends a TCP connection attempt.
fn dial(lab: &Lab, to: SocketAddr, max: Duration) -> Result<std::io::Result<()>> {
    let dial = || TcpStream::connect_timeout(&to, max).map(drop);
    Ok(lab.rig().client().enter(dial)?)
}

/// How the client's stack ends a UDP question.
fn ask_udp(lab: &Lab, to: SocketAddr) -> Result<std::io::Result<usize>> {
    let ask = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind((any_like(to), 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"anybody?")?;
        socket.recv(&mut [0; 64])
    };
    Ok(lab.rig().client().enter(ask)?)
}

#[test]
fn without_endpoints_clients_are_refused_and_without_local_ones_left_alone() -> Result<()> {
    in_each_spread(&[], |lab| {
        lab.site().withdraw_pod(NEAR)?;
        lab.wait_for(NEAR, false)?;
        // Endpoints elsewhere only: silence, so that a balancer tries another node (semantics D2).
        for family in FAMILIES {
            let silence = dial(lab, front(family, HTTP_LOCAL), Duration::from_secs(2))?;
            ensure!(
                silence.as_ref().is_err_and(|e| e.kind() == ErrorKind::TimedOut),
                "{silence:?}"
            );
            lab.http(front(family, HTTP_CLUSTER), 50)?;
        }

        FAR.iter().try_for_each(|name| lab.site().withdraw_pod(name))?;
        FAR.iter().try_for_each(|name| lab.wait_for(name, false))?;
        // No endpoint at all: ICMP port unreachable (semantics D1, D4), whatever the policy.
        let is_refused = |e: &std::io::Error| e.kind() == ErrorKind::ConnectionRefused;
        for family in FAMILIES {
            for port in [HTTP_CLUSTER, HTTP_LOCAL] {
                let refused = dial(lab, front(family, port), PATIENCE)?;
                ensure!(refused.as_ref().is_err_and(is_refused), "{family} {port}: {refused:?}");
            }
            let refused = ask_udp(lab, front(family, UDP_CLUSTER))?;
            ensure!(refused.as_ref().is_err_and(is_refused), "{family} UDP: {refused:?}");
        }
        let drops: DropsReport = lab.report("/api/v1/drops")?;
        ensure!(packets_of(&drops.dropped, "NO_LOCAL_ENDPOINTS") >= 2, "{:?}", drops.dropped);
        ensure!(packets_of(&drops.rejected, "NO_ENDPOINTS") >= 6, "{:?}", drops.rejected);
        Ok(())
    })
}

#[test]
fn a_bad_manifest_is_refused_by_line_and_the_last_good_state_serves() -> Result<()> {
    let lab = Lab::start(&RigPlan::new("test"), &[])?;
    let lines = [
        "apiVersion: v1",
        "kind: Service",
        "metadata:",
        "  name: broken",
        "spec:",
        "  type: NodePort",
        "  ports:",
        "    - port: eighty",
    ];
    let bad = lines.join("\n");
    lab.site().files().write_manifest("broken", &bad)?;
    let error = || lab.report::<StatusReport>("/api/v1/status").ok()?.source.error;
    wait_until("the manifest is refused", PATIENCE, || error().is_some())?;
    let text = error().context("an error")?;
    ensure!(text.contains("broken.yaml") && text.contains('8'), "{text}");
    lab.http(front(V4, HTTP_CLUSTER), 100)?;
    lab.site().files().remove_manifest("broken")?;
    wait_until("the error goes", PATIENCE, || error().is_none())?;
    lab.http(front(V4, HTTP_CLUSTER), 100)?;
    lab.finish()
}
