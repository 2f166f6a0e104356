//! The host's own flows beside ours: towards the same pod, with ports of our range. Neither may
//! notice the other.

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use tidegate_control::demo::rig::{RigPlan, gateway_of};
use tidegate_control::demo::site::HTTP_CLUSTER;
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, V4, V6, front};
use tidegate_tests::load::Session;
use tidegate_tests::setting::POD_HTTP;

/// As few as the configuration takes, so that ports meet: with as many sessions of each kind to
/// one pod, in each family six of either kind would collide.
const PORTS: &str = "15000-16023";
const SESSIONS: u16 = 80;

/// Where the host's sockets are bound.
const BOUND_FROM: u16 = 15_300;
const LISTENER: u16 = 15_200;

/// A held back packet is sent again after a second: enough are on their way side by side.
const LANES: u16 = 8;

/// The whole path to the pod that all share.
fn pod(lab: &Lab, family: Family) -> Result<SocketAddr> {
    let pod = lab.site().pod(FAR[0]).context("the pod")?;
    Ok(SocketAddr::new(pod.address_of(family), POD_HTTP))
}

fn open_all(open: impl Fn(u16) -> Result<Session> + Sync) -> Result<Vec<Session>> {
    thread::scope(|scope| {
        let lane = |first: u16| {
            let numbers = (first..SESSIONS).step_by(LANES.into());
            let open = &open;
            scope.spawn(move || numbers.map(open).collect::<Result<Vec<_>>>())
        };
        let lanes: Vec<_> = (0..LANES).map(lane).collect();
        let joined = lanes.into_iter().map(|lane| lane.join().expect("a lane"));
        Ok(joined.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// Sockets of the gateway itself, each bound to a port of our range.
fn bound(lab: &Lab, family: Family) -> Result<Vec<Session>> {
    let plan = lab.rig().plan();
    let from: IpAddr = match family {
        V4 => plan.gateway_inside().into(),
        V6 => plan.gateway_inside_v6().into(),
    };
    let to = pod(lab, family)?;
    open_all(|number| {
        let from = SocketAddr::new(from, BOUND_FROM + number);
        Session::open_from(lab.rig().gateway(), from, to).with_context(|| from.to_string())
    })
}

/// The other pod's connections, behind the gateway's own NAT with random ports of our range, as
/// kube-proxy's rules have it.
fn masquerade(lab: &Lab) -> Result<()> {
    let near = lab.site().pod(NEAR).context("the other pod")?;
    let gateway = lab.rig().gateway();
    gateway.run("nft add table inet beside")?;
    gateway.run("nft add chain inet beside post { type nat hook postrouting priority 100 ; }")?;
    for (word, family) in [("ip", V4), ("ip6", V6)] {
        let source = near.address_of(family);
        let rule = format!("{word} saddr {source} meta l4proto tcp masquerade to :{PORTS} random");
        gateway.run(&format!("nft add rule inet beside post {rule}"))?;
    }
    Ok(())
}

fn masqueraded(lab: &Lab, family: Family) -> Result<Vec<Session>> {
    let near = lab.site().pod(NEAR).context("the other pod")?;
    let to = pod(lab, family)?;
    open_all(|_| Session::open(near.netns(), to).context("masqueraded"))
}

fn through_a_front(lab: &Lab, family: Family) -> Result<Vec<Session>> {
    open_all(|_| Session::open(lab.rig().client(), front(family, HTTP_CLUSTER)).context("front"))
}

/// A server of the gateway itself on a port of our range, and a client of each family.
fn listener(lab: &Lab) -> Result<Vec<TcpStream>> {
    let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, LISTENER));
    let listener = lab.rig().gateway().enter(listen)??;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let dial = |family| {
        let to = SocketAddr::new(gateway_of(family), LISTENER);
        let dial = || TcpStream::connect_timeout(&to, Duration::from_secs(15));
        Ok(lab.rig().client().enter(dial)??)
    };
    FAMILIES.into_iter().map(dial).collect()
}

fn echo(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(b"line\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).context("the listener's answer")?;
    Ok(())
}

fn held_back(lab: &Lab) -> Result<u64> {
    let text = lab.site().daemon().context("tidegate")?.get("/metrics")?;
    let name = "tidegate_host_packets_held_back_total ";
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| format!("{name} in {text}"))?.trim().parse()?)
}

fn check(workers: &str) -> Result<()> {
    let ports = format!("algorithm: maglev\n  sourcePortRange: {PORTS}");
    let changes = [("cpus: auto", workers), ("algorithm: maglev", &*ports)];
    let lab = Lab::start(&RigPlan::new("test").queues(2), &changes)?;
    for name in [NEAR, FAR[1]] {
        lab.site().withdraw_pod(name)?;
        lab.wait_for(name, false)?;
    }
    masquerade(&lab)?;
    let mut echoes = listener(&lab)?;
    let mut sessions = Vec::new();
    // Those that begin before ours are passed over, those that begin after take other ports.
    for open in [bound, through_a_front, masqueraded] {
        for family in FAMILIES {
            sessions.extend(open(&lab, family)?);
        }
    }
    for _ in 0..3 {
        for session in &mut sessions {
            ensure!(session.ask()? == FAR[0]);
        }
        echoes.iter_mut().try_for_each(echo)?;
    }
    ensure!(held_back(&lab)? > 0, "no port ever met another");
    drop(sessions);
    lab.finish()
}

#[test]
fn flows_of_the_host_and_ours_to_one_pod_do_not_meet() -> Result<()> {
    check("cpus: [1]")
}

#[test]
fn flows_of_the_host_and_those_of_two_workers_do_not_meet() -> Result<()> {
    check("cpus: [0, 1]")
}
