//! A live flow whose packets arrive on another queue, and so at another worker.

use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::HTTP_CLUSTER;
use tidegate_tests::lab::{FAMILIES, Family, Lab, front};
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::Spread;

/// Sends all of the client's packets by one transmit queue, which the gateway receives on the
/// queue of the same number (XPS; the kernel's Documentation/networking/scaling.rst).
fn send_by(lab: &Lab, queue: usize) -> Result<()> {
    for number in 0..2 {
        let cpus = if number == queue { "3" } else { "0" };
        let path = format!("/sys/class/net/eth0/queues/tx-{number}/xps_cpus");
        let line = format!("echo {cpus} > {path}");
        let done = lab.rig().client().command("sh").args(["-c", &line]).output()?;
        ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// Packets that the gateway received from clients on a queue.
fn received_on(lab: &Lab, queue: usize) -> Result<u64> {
    let statistics = lab.rig().gateway().run("ethtool -S eth0")?;
    let name = format!("rx_queue_{queue}_xdp_packets:");
    let line = statistics.lines().find_map(|line| line.trim().strip_prefix(&name));
    Ok(line.with_context(|| format!("{name} in {statistics}"))?.trim().parse()?)
}

fn dial(lab: &Lab, family: Family) -> Result<BufReader<TcpStream>> {
    let to = front(family, HTTP_CLUSTER);
    let dial = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
    Ok(BufReader::new(lab.rig().client().enter(dial)??))
}

/// Asks once; the answer names the pod, and the address and port that it saw.
fn ask(stream: &mut BufReader<TcpStream>) -> Result<String> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n")?;
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection was closed");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}

#[test]
fn a_flow_that_moves_to_another_queue_keeps_its_backend_and_port() -> Result<()> {
    let lab = Lab::start(&RigPlan::new("test").queues(2), &[("cpus: auto", "cpus: [0, 1]")])?;
    send_by(&lab, 0)?;
    let dial = |number: usize| dial(&lab, FAMILIES[number % 2]);
    let mut sessions = (0..10).map(dial).collect::<Result<Vec<_>>>()?;
    let before = sessions.iter_mut().map(ask).collect::<Result<Vec<_>>>()?;
    for queue in [1, 0, 1] {
        send_by(&lab, queue)?;
        let seen = received_on(&lab, queue)?;
        let after = sessions.iter_mut().map(ask).collect::<Result<Vec<_>>>()?;
        ensure!(after == before, "by queue {queue}: {after:?}, before: {before:?}");
        let is_moved = || received_on(&lab, queue).is_ok_and(|now| now >= seen + 10);
        wait_until("the packets came by the other queue", Duration::from_secs(5), is_moved)?;
    }
    lab.finish()
}

/// Two packets at least for each; so that one queue has a quarter of them, chance need not be fair.
const ASKED: u64 = 200;

#[test]
fn a_flow_on_both_queues_at_once_keeps_its_backend_and_port() -> Result<()> {
    let lab = Lab::spread(Spread::Shuffled, &RigPlan::new("test"), &[])?;
    for family in FAMILIES {
        let mut session = dial(&lab, family)?;
        let first = ask(&mut session)?;
        let before = [received_on(&lab, 0)?, received_on(&lab, 1)?];
        for _ in 0..ASKED {
            let answer = ask(&mut session)?;
            ensure!(answer == first, "{family}: {answer}, before: {first}");
        }
        for (queue, before) in before.into_iter().enumerate() {
            let packets = received_on(&lab, queue)? - before;
            ensure!(packets >= ASKED / 2, "{family}: {packets} packets on queue {queue}");
        }
    }
    lab.finish()
}
