//! The demo's clients: curl, and a UDP client.

use super::rig::{NetNs, RigError};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

/// Connections that curl holds open at once.
const CURL_PARALLEL: u32 = 4;

/// How long a UDP answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests sent.
    pub(super) sent: u32,
    /// Answers by pod.
    pub(super) by_pod: BTreeMap<String, u32>,
    /// The client addresses that pods saw.
    pub(super) seen: BTreeSet<IpAddr>,
    /// What the clients complained of.
    pub(super) complaints: BTreeSet<String>,
}

impl Tally {
    /// Answers, from all pods.
    pub(super) fn answered(&self) -> u32 {
        self.by_pod.values().sum()
    }

    fn add(&mut self, pod: &str, peer: SocketAddr) {
        *self.by_pod.entry(pod.to_owned()).or_default() += 1;
        self.seen.insert(peer.ip());
    }

    /// Adds what another run brought.
    pub(super) fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        for (pod, count) in other.by_pod {
            *self.by_pod.entry(pod).or_default() += count;
        }
        self.seen.extend(other.seen);
        self.complaints.extend(other.complaints);
    }
}

/// The body of a pod's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    pod: String,
    peer: SocketAddr,
}

/// `count` HTTP requests by curl, each on a connection of its own.
pub(super) fn http(client: &NetNs, to: SocketAddr, count: u32) -> Result<Tally, RigError> {
    let mut command = client.command("curl");
    command.args(["--no-progress-meter", "--fail", "--max-time", "10", "--parallel"]);
    command.args(["--parallel-max", &CURL_PARALLEL.to_string()]);
    // The server closes after its answer, so that each request is a new flow.
    command.args(["--header", "Connection: close"]);
    command.arg(format!("http://{}/?request=[1-{count}]", escape(to)));
    let started = command.stdin(Stdio::null()).output();
    let output = started.map_err(|source| RigError::Start { command: "curl".into(), source })?;
    let mut tally = parse(&output.stdout, count);
    let words = String::from_utf8_lossy(&output.stderr);
    tally.complaints.extend(words.lines().map(str::to_owned));
    Ok(tally)
}

/// Brackets are curl's own words for ranges.
fn escape(to: SocketAddr) -> String {
    to.to_string().replace('[', "\\[").replace(']', "\\]")
}

/// curl writes one JSON object after the other, in the order in which they came.
fn parse(stdout: &[u8], sent: u32) -> Tally {
    let mut tally = Tally { sent, ..Tally::default() };
    for answer in serde_json::Deserializer::from_slice(stdout).into_iter::<Answer>() {
        match answer {
            Ok(answer) => tally.add(&answer.pod, answer.peer),
            Err(error) => drop(tally.complaints.insert(format!("not an answer: {error}"))),
        }
    }
    tally
}

/// `count` datagrams, each from a socket of its own.
pub(super) fn udp(client: &NetNs, to: SocketAddr, count: u32) -> Result<Tally, RigError> {
    let run = || {
        let mut tally = Tally { sent: count, ..Tally::default() };
        for number in 0..count {
            match exchange(to, number) {
                Ok((pod, peer)) => tally.add(&pod, peer),
                Err(error) => drop(tally.complaints.insert(error.to_string())),
            }
        }
        tally
    };
    client.enter(run)
}

fn exchange(to: SocketAddr, number: u32) -> io::Result<(String, SocketAddr)> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.connect(to)?;
    let question = format!("question {number}");
    socket.send(question.as_bytes())?;
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer)?;
    let answer = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
    read_echo(&answer, &question)
        .ok_or_else(|| io::Error::other(format!("not an answer: {answer:?}")))
}

fn read_echo(answer: &str, question: &str) -> Option<(String, SocketAddr)> {
    let (pod, rest) = answer.split_once(' ')?;
    let (peer, payload) = rest.split_once(' ')?;
    (payload == question).then_some((pod.to_owned(), peer.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_pod_and_rubbish_is_not() {
        let text = br#"{"pod":"a","peer":"10.0.0.1:1"}{"pod":"a","peer":"10.0.0.2:1"}oops"#;
        let tally = parse(text, 3);
        assert_eq!((tally.sent, tally.answered(), tally.seen.len()), (3, 2, 2));
        assert_eq!(tally.complaints.len(), 1);
    }

    #[test]
    fn an_echo_must_bring_the_question_back() {
        assert!(read_echo("a 10.0.0.1:9 question 1", "question 1").is_some());
        assert_eq!(read_echo("a 10.0.0.1:9 question 2", "question 1"), None);
        assert_eq!(read_echo("a nobody question 1", "question 1"), None);
    }
}
