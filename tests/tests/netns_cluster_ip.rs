//! Cluster IPs served for the gateway's own pods, and for nobody else (`clusterIP: serve`).

use anyhow::{Context as _, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;
use tidegate_control::admin::report::DropsReport;
use tidegate_control::demo::rig::{RigPlan, gateway_of};
use tidegate_control::demo::site::{CONFIG, Site};
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, V4, V6, packets_of};
use tidegate_tests::load;
use tidegate_tests::spread::SPREADS;

/// The gateway's Node as the demo has it, and its pods' networks.
const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: gateway}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
status:
  addresses:
    - {type: InternalIP, address: 192.0.2.1}
    - {type: InternalIP, address: '2001:db8:1::1'}
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: inside}
spec:
  type: ClusterIP
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd00:96::10']
  selector: {app: frontend}
  ports:
    - {name: http, port: 80, targetPort: 5000}
    - {name: echo, port: 7, protocol: UDP, targetPort: 5001}
";

const FLOWS: u32 = 100;

fn cluster(family: Family, port: u16) -> SocketAddr {
    let address: IpAddr = match family {
        V4 => Ipv4Addr::new(10, 96, 0, 10).into(),
        V6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10).into(),
    };
    SocketAddr::new(address, port)
}

fn prepare(site: &Site) -> Result<String> {
    site.files().write_manifest("nodes", NODE)?;
    site.files().write_manifest("inside", SERVICE)?;
    Ok(format!("{CONFIG}\nclusterIP: serve\n"))
}

#[test]
fn d7_a_pod_of_the_gateway_reaches_a_cluster_ip_and_a_client_outside_does_not() -> Result<()> {
    SPREADS.into_iter().try_for_each(|spread| {
        let lab = Lab::spread_with(spread, &RigPlan::new("test"), prepare)?;
        check_inside(&lab).and_then(|()| lab.finish()).with_context(|| format!("{spread:?}"))
    })
}

fn check_inside(lab: &Lab) -> Result<()> {
    // No backend is behind its veth any more: it is attached for what it dials.
    lab.site().withdraw_pod(NEAR)?;
    lab.wait_for(NEAR, false)?;
    for family in FAMILIES {
        let pod = lab.site().pod(NEAR).context("the local pod")?;
        for answers in [
            load::http(pod.netns(), cluster(family, 80), FLOWS, 8)?,
            load::udp(pod.netns(), cluster(family, 7), FLOWS, 8)?,
        ] {
            answers.ensure_all(FLOWS)?;
            ensure!(answers.by_pod.keys().eq(FAR.iter()), "from {:?}", answers.by_pod);
            ensure!(answers.peers.iter().eq([&pod.address_of(family)]), "{:?}", answers.peers);
        }
        check_outside(lab, family)?;
    }
    Ok(())
}

/// A client that sends packets to the cluster IP by us gets nothing of ours: they pass.
fn check_outside(lab: &Lab, family: Family) -> Result<()> {
    let to = cluster(family, 80);
    let client = lab.rig().client();
    client.ip(&format!("route replace {} via {}", to.ip(), gateway_of(family)))?;
    let passed = || -> Result<u64> {
        let report: DropsReport = lab.report("/api/v1/drops")?;
        Ok(packets_of(&report.passed, "NO_SERVICE"))
    };
    let before = passed()?;
    let dialled = client.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)))?;
    ensure!(dialled.is_err(), "the client reached {to}");
    ensure!(passed()? > before, "its packets met something else");
    Ok(())
}
