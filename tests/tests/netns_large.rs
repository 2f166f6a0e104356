//! Packets that do not fit, and what ICMP tells of them: datagrams in fragments, narrow links, used
//! up TTLs, roads that are closed (semantics G10). Real stacks on both sides.

use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;
use tidegate_control::admin::report::DropsReport;
use tidegate_control::demo::rig::NetNs;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL};
use tidegate_control::model::Family;
use tidegate_tests::lab::{FAMILIES, FAR, Lab, NEAR, V4, V6, front, packets_of};
use tidegate_tests::load::{any_like, download};
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::in_each_spread;

const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client waits before it asks again.
const TRY_MAX: Duration = Duration::from_millis(500);

/// More than any link takes at once.
const LARGE: usize = 8192;

/// Less than an MTU of 1500, more than [`NARROW_MTU`].
const MEDIUM: usize = 1400;

const NARROW_MTU: u32 = 1300;

/// Narrower than IPv6 allows.
const CUTTING_MTU: u32 = 600;

/// Asks the pods' echo from a new socket, `tries` times at most. Returns the pod that answered.
fn ask(lab: &Lab, to: SocketAddr, bytes: usize, tries: u32) -> Result<String> {
    let payload: Vec<u8> = (0..bytes).map(|n| b'a' + u8::try_from(n % 23).unwrap_or(0)).collect();
    let answer = lab.rig().client().enter(|| echo(to, &payload, tries))??;
    let text = String::from_utf8(answer)?;
    ensure!(text.as_bytes().ends_with(&payload), "{to} answered something else");
    Ok(text.split(' ').next().context("a name")?.to_owned())
}

fn echo(to: SocketAddr, payload: &[u8], tries: u32) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((any_like(to), 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(TRY_MAX))?;
    let mut buffer = vec![0; payload.len() + 200];
    let mut last = Err(ErrorKind::TimedOut.into());
    for _ in 0..tries {
        socket.send(payload)?;
        last = socket.recv(&mut buffer);
        // It did not fit, and the next try will be cut; or it was lost.
        let may_retry = |error: &std::io::Error| {
            error.raw_os_error() == Some(libc::EMSGSIZE) || error.kind() == ErrorKind::WouldBlock
        };
        if !last.as_ref().is_err_and(may_retry) {
            break;
        }
    }
    let length = last?;
    buffer.truncate(length);
    Ok(buffer)
}

fn rejected(lab: &Lab, reason: &str) -> Result<u64> {
    Ok(packets_of(&lab.report::<DropsReport>("/api/v1/drops")?.rejected, reason))
}

#[test]
fn g10_datagrams_in_fragments_reach_every_pod_and_return() -> Result<()> {
    in_each_spread(&[], |lab| {
        for family in FAMILIES {
            for port in [UDP_CLUSTER, UDP_LOCAL] {
                // Not one is lost: nothing is asked twice.
                for n in 0..30 {
                    let pod = ask(lab, front(family, port), LARGE, 1);
                    let pod = pod.with_context(|| format!("{family} {port}, datagram {n}"))?;
                    ensure!(port == UDP_CLUSTER || pod == NEAR, "{pod} answered");
                }
            }
        }
        let drops: DropsReport = lab.report("/api/v1/drops")?;
        let lost = packets_of(&drops.dropped, "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND");
        ensure!(lost == 0, "{lost} fragments found no first one");
        Ok(())
    })
}

/// Makes a pod's link narrower, at both ends.
fn narrow(lab: &Lab, name: &str, host: &NetNs) -> Result<()> {
    let pod = lab.site().pod(name).context("a pod of that name")?;
    host.ip(&format!("link set {} mtu {NARROW_MTU}", pod.host_interface()))?;
    pod.netns().ip(&format!("link set eth0 mtu {NARROW_MTU}"))?;
    Ok(())
}

/// Waits until tidegate knows the MTU of one of its interfaces.
fn wait_for_mtu(lab: &Lab, name: &str, mtu: u32) -> Result<()> {
    let is_narrow = || {
        let interfaces = lab.interfaces().unwrap_or_default();
        interfaces.iter().any(|i| i.name == name && i.mtu == mtu)
    };
    wait_until("tidegate knows the MTU", PATIENCE, is_narrow)
}

/// Lets the stack of a namespace send packets without DF that its link takes.
fn let_be_cut(host: &NetNs, route: &str) -> Result<()> {
    host.ip(&format!("-4 route replace {} mtu lock 1500", route.trim()))?;
    Ok(())
}

/// Packets that tidegate has cut.
fn fragmented(lab: &Lab) -> Result<u64> {
    let text = lab.site().daemon().context("tidegate")?.get("/metrics")?;
    let name = "tidegate_fragmented_packets_total{";
    let values = text.lines().filter(|line| line.starts_with(name)).map(|line| {
        let value = line.rsplit(' ').next().context("a value")?;
        Ok(value.parse::<u64>()?)
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(values.iter().sum())
}

/// Makes a link of the gateway narrow, at both ends, and waits until tidegate knows.
fn squeeze(lab: &Lab, device: &str, far_end: &NetNs, mtu: u32) -> Result<()> {
    lab.rig().gateway().ip(&format!("link set {device} mtu {mtu}"))?;
    far_end.ip(&format!("link set eth0 mtu {mtu}"))?;
    wait_for_mtu(lab, device, mtu)
}

/// Asks under each policy. Every datagram to or from a pod of `cut_pods` is cut, and none is asked
/// twice.
fn ask_where_it_is_cut(lab: &Lab, cut_pods: &[&str]) -> Result<()> {
    // The workers know the MTU a moment later.
    wait_until("the first one is cut", PATIENCE, || {
        let answer = ask(lab, front(V4, UDP_LOCAL), MEDIUM, 1);
        answer.is_ok() && fragmented(lab).is_ok_and(|cut| cut > 0)
    })?;
    for port in [UDP_CLUSTER, UDP_LOCAL] {
        let before = fragmented(lab)?;
        let expected: u64 = (0..30).try_fold(0, |sum, n| {
            let pod = ask(lab, front(V4, port), MEDIUM, 1);
            let pod = pod.with_context(|| format!("{port}, datagram {n}"))?;
            anyhow::Ok(sum + u64::from(cut_pods.contains(&&*pod)))
        })?;
        let cut = fragmented(lab)? - before;
        ensure!(expected > 0 && cut >= expected, "{cut} were cut, and {expected} had to be");
    }
    ensure!(rejected(lab, "PKT_TOO_BIG")? == 0, "somebody was told");
    Ok(())
}

#[test]
fn g10_datagrams_without_df_reach_a_pod_behind_a_narrow_link_whole() -> Result<()> {
    in_each_spread(&[], |lab| {
        let_be_cut(lab.rig().client(), &format!("{} dev eth0", front(V4, 1).ip()))?;
        let pod = lab.site().pod(NEAR).context("a pod of that name")?;
        squeeze(lab, pod.host_interface(), pod.netns(), CUTTING_MTU)?;
        ask_where_it_is_cut(lab, &[NEAR])
    })
}

#[test]
fn g10_answers_without_df_reach_a_client_behind_a_narrow_link_whole() -> Result<()> {
    in_each_spread(&[], |lab| {
        let pods = [NEAR, FAR[0], FAR[1]];
        for name in pods {
            let pod = lab.site().pod(name).context("a pod of that name")?.netns();
            let routes = pod.ip("-4 route show")?;
            routes.lines().try_for_each(|route| let_be_cut(pod, route))?;
        }
        // IPv6 needs as much, and others use it.
        squeeze(lab, "eth0", lab.rig().client(), NARROW_MTU)?;
        ask_where_it_is_cut(lab, &pods)
    })
}

/// What the client has learnt of the way to the front, and forgets.
fn learnt(lab: &Lab, family: Family) -> Result<bool> {
    let client = lab.rig().client();
    let route = client.ip(&format!("route get {}", front(family, 1).ip()))?;
    let flag = if family == V4 { "-4" } else { "-6" };
    client.ip(&format!("{flag} route flush cache"))?;
    Ok(route.contains(&format!("mtu {NARROW_MTU}")))
}

#[test]
fn g10_clients_learn_of_a_narrow_link_behind_the_gateway() -> Result<()> {
    in_each_spread(&[], |lab| {
        FAR.iter().try_for_each(|name| narrow(lab, name, lab.rig().node2()))?;
        for family in FAMILIES {
            for n in 0..30 {
                let pod = ask(lab, front(family, UDP_CLUSTER), MEDIUM, 4);
                pod.with_context(|| format!("{family}, flow {n}"))?;
            }
            // node2 told the gateway; the gateway told the client.
            ensure!(learnt(lab, family)?, "{family}: the client knows no MTU");
        }
        ensure!(rejected(lab, "PKT_TOO_BIG")? == 0, "the gateway has no narrow link");
        Ok(())
    })
}

#[test]
fn g10_clients_learn_of_a_narrow_link_of_the_gateway() -> Result<()> {
    in_each_spread(&[], |lab| {
        narrow(lab, NEAR, lab.rig().gateway())?;
        wait_for_mtu(lab, lab.site().pod(NEAR).context("near")?.host_interface(), NARROW_MTU)?;
        for family in FAMILIES {
            let before = rejected(lab, "PKT_TOO_BIG")?;
            ask(lab, front(family, UDP_LOCAL), MEDIUM, 4).with_context(|| family.to_string())?;
            ensure!(learnt(lab, family)?, "{family}: the client knows no MTU");
            ensure!(rejected(lab, "PKT_TOO_BIG")? > before, "{family}: not told by the gateway");
        }
        Ok(())
    })
}

/// The client's own link is wide, so pods learn of the gateway's from it alone.
#[test]
fn g10_pods_learn_of_a_narrow_link_towards_clients() -> Result<()> {
    in_each_spread(&[], |lab| {
        lab.rig().gateway().ip(&format!("link set eth0 mtu {NARROW_MTU}"))?;
        wait_for_mtu(lab, "eth0", NARROW_MTU)?;
        for family in FAMILIES {
            for port in [HTTP_CLUSTER, HTTP_LOCAL] {
                for _ in 0..4 {
                    let from = front(family, port);
                    let (length, _) = download(lab.rig().client(), from, "/bytes/300000")
                        .with_context(|| format!("{family} {port}"))?;
                    ensure!(length == 300_000);
                }
            }
        }
        ensure!(rejected(lab, "PKT_TOO_BIG")? > 0, "nobody was told");
        Ok(())
    })
}

/// A number of the client's stack.
fn client_counter(lab: &Lab, family: Family) -> Result<u64> {
    let (file, name) = match family {
        V4 => ("snmp", "InTimeExcds"),
        V6 => ("snmp6", "Icmp6InTimeExcds"),
    };
    let text = lab.rig().client().run(&format!("cat /proc/net/{file}"))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if family == V6 {
        let line = text.lines().find(|line| line.starts_with(name)).context("the line")?;
        return Ok(words(line)[1].parse()?);
    }
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("Icmp:")).map(words).collect();
    let [names, values] = &lines[..] else { anyhow::bail!("{text}") };
    let at = names.iter().position(|n| n == name).context("the name")?;
    Ok(values[at].parse()?)
}

#[test]
fn g10_a_used_up_ttl_is_told_to_the_client() -> Result<()> {
    in_each_spread(&[], |lab| {
        let client = lab.rig().client();
        client.sysctl("net.ipv4.ip_default_ttl=1")?;
        client.sysctl("net.ipv6.conf.eth0.hop_limit=1")?;
        for family in FAMILIES {
            let before = (client_counter(lab, family)?, rejected(lab, "TTL_EXCEEDED")?);
            ensure!(ask(lab, front(family, UDP_CLUSTER), 10, 1).is_err(), "{family}: answered");
            let is_told = || client_counter(lab, family).is_ok_and(|now| now > before.0);
            wait_until("the client is told", PATIENCE, is_told)?;
            ensure!(rejected(lab, "TTL_EXCEEDED")? > before.1, "{family}: by whom?");
        }
        client.sysctl("net.ipv4.ip_default_ttl=64")?;
        client.sysctl("net.ipv6.conf.eth0.hop_limit=64")?;
        ask(lab, front(V4, UDP_CLUSTER), 10, 1)?;
        Ok(())
    })
}

/// node2 refuses to forward to its pods and says so to the gateway, which it takes for the client.
#[test]
fn g10_a_refusal_on_the_way_to_a_pod_reaches_the_client() -> Result<()> {
    in_each_spread(&[], |lab| {
        lab.rig().node2().sysctl("net.ipv4.icmp_ratelimit=0")?;
        lab.rig().node2().sysctl("net.ipv6.icmp.ratelimit=0")?;
        for family in FAMILIES {
            for name in FAR {
                let address = lab.site().pod(name).context("a pod")?.address_of(family);
                let flag = if family == V4 { "-4" } else { "-6" };
                lab.rig().node2().ip(&format!("{flag} route replace prohibit {address}"))?;
            }
            // Three: routes that prohibit have a limit of their own, five in a row.
            let mut refused = 0;
            while refused < 3 {
                match ask(lab, front(family, UDP_CLUSTER), 10, 1) {
                    Ok(pod) if pod == NEAR => {}
                    Ok(pod) => anyhow::bail!("{family}: {pod} answered"),
                    Err(error) => {
                        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                        let expected = [ErrorKind::HostUnreachable, ErrorKind::PermissionDenied];
                        let is_told = kind.is_some_and(|kind| expected.contains(&kind));
                        ensure!(is_told, "{family}: {error:#}");
                        refused += 1;
                    }
                }
            }
        }
        Ok(())
    })
}
