//! `tidegate explain` and the live packet path agree: real packets for every verdict and policy, in
//! both families, by TCP and UDP; what the daemon and the manifests alone say of them; and what the
//! daemon counted.

mod rows;

use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use rows::{ALL, DRAINING, From, Meets, PROTOCOLS, ROWS, Row, outsider};
use tidegate_control::admin::report::DropsReport;
use tidegate_control::demo::rig::{Process, client_of};
use tidegate_control::explain::{Answer, Outcome};
use tidegate_dataplane::types::Protocol;
use tidegate_tests::lab::{FAMILIES, Family, Lab, NEAR, front, packets_of};
use tidegate_tests::load::Session;
use tidegate_tests::oracle::{self, Question};
use tidegate_tests::probe::{Probe, Seen, ensure_port_unreachable};
use tidegate_tests::setting::{POD_HTTP, POD_UDP, binary, wait_until};
use tidegate_tests::spread::in_each_spread;

const SERVICES: &str = include_str!("../../testdata/agreement.yaml");
const GONE: &str = include_str!("../../testdata/gone.yaml");
const GONE_PORT: u16 = 30_118;

/// The servers of the gateway's own stack listen here: whoever reaches them was left to the kernel.
const KERNEL_PORTS: [u16; 5] = [30_110, 30_117, GONE_PORT, 30_119, 30_999];
const KERNEL: &str = "kernel";

/// Flows of each kind that chance could get right: that three pods agree each time with a wrong
/// prediction has a chance below 1e-5, over both protocols and families.
const FLOWS: usize = 6;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one packet met.
struct Observation {
    row: &'static Row,
    family: Family,
    question: Question,
    seen: Seen,
}

impl Observation {
    /// The pod of a flow with affinity.
    fn sticky(&self) -> Option<&str> {
        match (self.row.meets, &self.seen) {
            (Meets::Sticky(_), Seen::Answer { who, .. }) => Some(who),
            _ => None,
        }
    }

    /// The pod of a masqueraded flow, and the address that it saw.
    fn masqueraded(&self) -> Option<(&str, Question, IpAddr)> {
        match (self.row.meets, &self.seen) {
            (Meets::Masqueraded(_), Seen::Answer { who, peer }) => {
                Some((who, self.question, peer.ip()))
            }
            _ => None,
        }
    }
}

#[test]
fn real_packets_meet_what_explain_says() -> Result<()> {
    in_each_spread(&[], |lab| {
        let _servers = prepare(lab)?;
        wait_until("the Services are published", PATIENCE, || is_published(lab).unwrap_or(false))?;
        let mut observations = Vec::new();
        for row in ROWS {
            let told = || format!("{} at {}", row.what, row.port);
            observations.extend(observe(lab, row).with_context(told)?);
        }
        let questions: Vec<Question> = observations.iter().map(|o| o.question).collect();
        let (live, offline) = (oracle::live(lab, &questions)?, oracle::offline(lab, &questions)?);
        for ((observation, live), offline) in observations.iter().zip(live).zip(offline) {
            let Observation { row, question, seen, .. } = observation;
            let told =
                || format!("{}: {question:?} met {seen:?}; the daemon says {live:?}", row.what);
            ensure!(live == offline, "{}, the manifests {offline:?}", told());
            check(lab, observation, &live).with_context(told)?;
        }
        check_sticky(&observations)?;
        check_sources(lab, &observations)?;
        draining(lab)?;
        Ok(())
    })
}

/// The manifests, a client outside of the ranges, and servers of the gateway's own.
fn prepare(lab: &Lab) -> Result<Vec<Process>> {
    let (client, gateway) = (lab.rig().client(), lab.rig().gateway());
    for family in FAMILIES {
        let (outsider, via) = (outsider(family), client_of(family));
        client.ip(&format!("addr add {outsider} dev eth0"))?;
        gateway.ip(&format!("route add {outsider} via {via}"))?;
    }
    let files = lab.site().files();
    files.write_manifest("nodes", "")?;
    files.write_manifest("agreement", SERVICES)?;
    files.write_manifest("gone", GONE)?;
    let server = |port: u16| {
        let mut command = gateway.command(binary()?);
        let port = port.to_string();
        command.args(["demo-pod", "--name", KERNEL, "--http", &port, "--udp", &port]);
        Ok(Process::start_and_await_line(command, "ready")?)
    };
    KERNEL_PORTS.into_iter().map(server).collect()
}

/// Whether the daemon says of each kind of packet what the manifests do.
fn is_published(lab: &Lab) -> Result<bool> {
    let mut questions = Vec::new();
    for row in ROWS {
        for family in row.families {
            let source = SocketAddr::new(row.from.address(lab, *family)?, 1);
            let to = SocketAddr::new(row.to.address(lab, *family), row.port);
            questions.push(Question { protocol: Protocol::Udp, source, to });
        }
    }
    Ok(oracle::live(lab, &questions)? == oracle::offline(lab, &questions)?)
}

/// Sends the packets of a row.
fn observe(lab: &Lab, row: &'static Row) -> Result<Vec<Observation>> {
    let count = match row.meets {
        Meets::Masqueraded(_) | Meets::Kept(_) | Meets::Sticky(_) => FLOWS,
        Meets::Reject | Meets::Drop(_) | Meets::Pass(_) => 1,
    };
    let before = counted(lab, row)?;
    let mut observations = Vec::new();
    for family in row.families {
        for protocol in row.protocols {
            for _ in 0..count {
                observations.push(send(lab, row, *family, *protocol)?);
            }
        }
    }
    let least = before + u64::try_from(observations.len())?;
    let is_counted = || counted(lab, row).is_ok_and(|now| now >= least);
    // The node's own packets pass no interface.
    if row.from != From::Gateway {
        wait_until("the packets are counted by their reason", PATIENCE, is_counted)?;
    }
    Ok(observations)
}

fn send(lab: &Lab, row: &'static Row, family: Family, protocol: Protocol) -> Result<Observation> {
    let source = row.from.address(lab, family)?;
    let to = SocketAddr::new(row.to.address(lab, family), row.port);
    let is_answer_expected = !matches!(row.meets, Meets::Drop(_));
    let probe = Probe { protocol, source, to, is_answer_expected };
    let (source, seen) = probe.send(row.from.netns(lab)?).with_context(|| format!("{probe:?}"))?;
    Ok(Observation { row, family, question: Question { protocol, source, to }, seen })
}

/// Packets so far that met what those of the row shall meet.
fn counted(lab: &Lab, row: &Row) -> Result<u64> {
    let report: DropsReport = lab.report("/api/v1/drops")?;
    let (list, reason) = match row.meets {
        Meets::Masqueraded(_) | Meets::Kept(_) | Meets::Sticky(_) => {
            return Ok(report.sum.forwarded);
        }
        Meets::Reject => (&report.rejected, "NO_ENDPOINTS"),
        Meets::Drop(reason) => (&report.dropped, reason),
        // The XDP program knows fronts alone, and not why there is none.
        Meets::Pass("LOCAL_BACKEND" | "NOT_NODEPORT_ADDRESS") => (&report.passed, "NO_SERVICE"),
        Meets::Pass(reason) => (&report.passed, reason),
    };
    Ok(packets_of(list, reason))
}

/// Whether what was seen is what the row says, and the answer too.
fn check(lab: &Lab, observation: &Observation, answer: &Answer) -> Result<()> {
    let Observation { row, question, seen, .. } = observation;
    let told = (answer.verdict, answer.reason.as_str());
    match row.meets {
        Meets::Masqueraded(pods) | Meets::Sticky(pods) => {
            check_forwarded(lab, observation, answer, (pods, true))
        }
        Meets::Kept(pods) => check_forwarded(lab, observation, answer, (pods, false)),
        Meets::Reject => {
            ensure!(told == (Outcome::Reject, "NO_ENDPOINTS"), "a reject was expected");
            ensure_port_unreachable(seen, question.to.ip())
        }
        Meets::Drop(reason) => {
            ensure!(told == (Outcome::Drop, reason), "{reason} was expected");
            ensure!(*seen == Seen::Silence, "silence was expected");
            Ok(())
        }
        Meets::Pass(reason) => {
            ensure!(told == (Outcome::Pass, reason), "{reason} was expected");
            let expected = Seen::Answer { who: KERNEL.to_owned(), peer: question.source };
            ensure!(*seen == expected, "the gateway's own server was expected");
            Ok(())
        }
    }
}

fn check_forwarded(
    lab: &Lab,
    Observation { row, family, question, seen }: &Observation,
    answer: &Answer,
    (pods, is_masqueraded): (&[&str], bool),
) -> Result<()> {
    let Seen::Answer { who, peer } = seen else { anyhow::bail!("no pod answered") };
    let port = match question.protocol {
        Protocol::Tcp => POD_HTTP,
        Protocol::Udp => POD_UDP,
    };
    let end = |name: &str| -> Result<String> {
        let pod = lab.site().pod(name).with_context(|| format!("a pod {name:?}"))?;
        Ok(SocketAddr::new(pod.address_of(*family), port).to_string())
    };
    let told = (answer.verdict, answer.reason.as_str());
    ensure!(told == (Outcome::Forward, "FORWARD"), "to be forwarded was expected");
    ensure!(answer.backend == Some(end(who)?), "{} answered", end(who)?);
    let mut all = pods.iter().map(|pod| end(pod)).collect::<Result<Vec<_>>>()?;
    all.sort();
    ensure!(answer.candidates == all, "the candidates are {all:?}");
    // A pod that gets itself must not see its own address (semantics F8).
    let is_hairpin = row.from == From::Near && who == NEAR;
    ensure!(answer.masquerade == (is_masqueraded || is_hairpin), "masquerading is wrong");
    ensure!((*peer != question.source) == answer.masquerade, "the pod saw {peer}");
    ensure!(!answer.masquerade || lab.rig().is_gateway(peer.ip()), "the pod saw {peer}");
    Ok(())
}

/// With affinity every flow of a client has the same pod, by each protocol's own memory.
fn check_sticky(observations: &[Observation]) -> Result<()> {
    let kinds =
        FAMILIES.into_iter().flat_map(|family| PROTOCOLS.map(|protocol| (family, protocol)));
    for (family, protocol) in kinds {
        let is_of = |o: &&Observation| o.family == family && o.question.protocol == protocol;
        let mut pods = observations.iter().filter(is_of).filter_map(Observation::sticky);
        let first = pods.next().context("a sticky flow")?;
        ensure!(pods.all(|pod| pod == first), "{family} {protocol}: not always {first}");
    }
    Ok(())
}

/// The address that a masqueraded flow's pod saw is the one that the screen names.
fn check_sources(lab: &Lab, observations: &[Observation]) -> Result<()> {
    let kinds = FAMILIES.into_iter().flat_map(|family| ALL.iter().map(move |pod| (family, *pod)));
    for (family, pod) in kinds {
        let is_of = |o: &&Observation| o.family == family;
        let mut flows = observations.iter().filter(is_of).filter_map(Observation::masqueraded);
        let seen = flows.find(|(who, ..)| *who == pod).map(|(_, question, peer)| (question, peer));
        let (question, peer) = seen.with_context(|| format!("{family}: a flow to {pod}"))?;
        let screen = oracle::screen(lab, &question)?;
        ensure!(screen.contains(&format!("src {peer}, a free port")), "{peer} is not in {screen}");
    }
    Ok(())
}

/// A front that is removed while it has connections: they go on, and new ones are the kernel's.
fn draining(lab: &Lab) -> Result<()> {
    let open = |family| Session::open(lab.rig().client(), front(family, GONE_PORT));
    let mut sessions = FAMILIES.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    let pods = sessions.iter_mut().map(Session::ask).collect::<Result<Vec<_>>>()?;
    lab.site().files().remove_manifest("gone")?;
    let question = |family| Question {
        protocol: Protocol::Tcp,
        source: SocketAddr::new(client_of(family), 1),
        to: front(family, GONE_PORT),
    };
    let questions = FAMILIES.map(question);
    let is_draining = |answer: &Answer| answer.reason == "DRAINING_FRONT";
    let drains = || oracle::live(lab, &questions).is_ok_and(|all| all.iter().all(is_draining));
    wait_until("the removed front drains", PATIENCE, drains)?;
    for observation in observe(lab, &DRAINING)? {
        let questions = [observation.question];
        let (live, offline) = (oracle::live(lab, &questions)?, oracle::offline(lab, &questions)?);
        check(lab, &observation, &live[0])?;
        // Manifests do not tell what was there before.
        let told = (offline[0].verdict, offline[0].reason.as_str());
        ensure!(told == (Outcome::Pass, "NO_SERVICE"), "{offline:?}");
    }
    let after = sessions.iter_mut().map(Session::ask).collect::<Result<Vec<_>>>()?;
    ensure!(after == pods, "established connections moved from {pods:?} to {after:?}");
    Ok(())
}
