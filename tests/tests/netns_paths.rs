//! Every way that a packet can take: arms, queues, algorithms; in each IPv4 and IPv6, TCP and UDP,
//! Cluster and Local, local and remote pods, and a bystander who must not notice.

use anyhow::{Result, ensure};
use tidegate_control::admin::report::{List, WorkerReport};
use tidegate_control::demo::rig::{Arms, RigPlan, client_of};
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL};
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, front};
use tidegate_tests::load::Answers;
use tidegate_tests::spread::Spread;

/// Flows of each kind. With 3 pods, that one of them gets none has a chance below 1e-50.
const FLOWS: u32 = 300;

const MAGLEV: (&str, &str) = ("algorithm: maglev", "algorithm: maglev");
const RANDOM: (&str, &str) = ("algorithm: maglev", "algorithm: random");
const ONE_WORKER: (&str, &str) = ("cpus: auto", "cpus: [1]");
const TWO_WORKERS: (&str, &str) = ("cpus: auto", "cpus: [0, 1]");

/// The rig's shape and what changes in the config.
type Path = (Arms, u32, [(&'static str, &'static str); 2]);

fn check((arms, queues, changes): Path) -> Result<()> {
    let lab = Lab::start(&RigPlan::new("test").arms(arms).queues(queues), &changes)?;
    check_flows(&lab, queues)?;
    lab.finish()
}

/// The same where each packet comes on a queue by chance.
fn check_shuffled(arms: Arms, algorithm: (&str, &str)) -> Result<()> {
    let plan = RigPlan::new("test").arms(arms);
    let lab = Lab::spread(Spread::Shuffled, &plan, &[algorithm])?;
    check_flows(&lab, 2)?;
    let workers: List<WorkerReport> = lab.report("/api/v1/workers")?;
    for worker in &workers.items {
        // Of some 20 packets of each of 1200 flows and more, about half are the other's.
        let (number, handed) = (worker.worker, worker.handed_packets);
        ensure!(handed > FLOWS.into(), "worker {number} handed over {handed} packets");
    }
    lab.finish()
}

fn check_flows(lab: &Lab, queues: u32) -> Result<()> {
    check_queues(lab, queues)?;
    for family in FAMILIES {
        let to = |port| front(family, port);
        for answers in [lab.http(to(HTTP_CLUSTER), FLOWS)?, lab.udp(to(UDP_CLUSTER), FLOWS)?] {
            check_cluster(lab, &answers)?;
        }
        for answers in [lab.http(to(HTTP_LOCAL), FLOWS)?, lab.udp(to(UDP_LOCAL), FLOWS)?] {
            check_local(family, &answers)?;
        }
    }
    Ok(())
}

fn check_queues(lab: &Lab, queues: u32) -> Result<()> {
    let interfaces = lab.interfaces()?;
    let eth0 = interfaces.iter().find(|interface| interface.name == "eth0");
    let bound = eth0.map(|interface| interface.queues.len());
    ensure!(bound == usize::try_from(queues).ok(), "eth0 has {queues} queues, bound: {bound:?}");
    Ok(())
}

fn check_cluster(lab: &Lab, answers: &Answers) -> Result<()> {
    let pods: Vec<&str> = answers.by_pod.keys().map(String::as_str).collect();
    ensure!(pods == [FAR[0], FAR[1], NEAR], "answers came from {pods:?}");
    let is_masqueraded = answers.peers.iter().all(|peer| lab.rig().is_gateway(*peer));
    ensure!(is_masqueraded, "the pods saw {:?}", answers.peers);
    Ok(())
}

fn check_local(family: Family, answers: &Answers) -> Result<()> {
    ensure!(answers.by_pod.keys().eq([NEAR]), "answers came from {:?}", answers.by_pod);
    ensure!(answers.peers.iter().eq([&client_of(family)]), "the pod saw {:?}", answers.peers);
    Ok(())
}

#[test]
fn two_arms_one_queue_maglev() -> Result<()> {
    check((Arms::Two, 1, [MAGLEV, ONE_WORKER]))
}

#[test]
fn two_arms_two_queues_two_workers_random() -> Result<()> {
    check((Arms::Two, 2, [RANDOM, TWO_WORKERS]))
}

#[test]
fn one_arm_one_queue_random() -> Result<()> {
    check((Arms::One, 1, [RANDOM, ONE_WORKER]))
}

#[test]
fn one_arm_two_queues_two_workers_maglev() -> Result<()> {
    check((Arms::One, 2, [MAGLEV, TWO_WORKERS]))
}

#[test]
fn two_arms_shuffled_over_two_workers() -> Result<()> {
    check_shuffled(Arms::Two, MAGLEV)
}

#[test]
fn one_arm_shuffled_over_two_workers() -> Result<()> {
    check_shuffled(Arms::One, RANDOM)
}

#[test]
fn two_queues_of_one_worker() -> Result<()> {
    check((Arms::Two, 2, [MAGLEV, ONE_WORKER]))
}

#[test]
fn one_queue_each_of_two_workers() -> Result<()> {
    check((Arms::Two, 1, [MAGLEV, TWO_WORKERS]))
}
