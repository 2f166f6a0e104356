//! What is lost where something is full: by name, and with the books closed.

use anyhow::{Context as _, Result, ensure};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;
use tidegate_control::admin::report::{DropsReport, FlowReport, List};
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::UDP_CLUSTER;
use tidegate_tests::lab::{Lab, V4, front, packets_of};
use tidegate_tests::load::any_like;
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::Spread;

const PATIENCE: Duration = Duration::from_secs(30);

/// More than a queue has frames, and more than twice what is under way between two workers.
const BURST: usize = 8_192;

/// Sockets until one has its flow at the second worker: each does in one of two cases.
const SOCKETS_MAX: usize = 64;

/// The smallest table that the configuration takes is a few times as large; the map is as large.
const FLOWS: (&str, &str) = ("adminSocket:", "conntrack: {maxFlows: 4096}\nadminSocket:");

#[test]
fn what_comes_while_no_worker_reads_is_lost_by_name() -> Result<()> {
    let mut lab = Lab::start(&RigPlan::new("test"), &[])?;
    let to = front(V4, UDP_CLUSTER);
    lab.udp(to, 10)?;
    let daemon = daemon(&mut lab)?;
    kill(daemon, Signal::SIGSTOP)?;
    let sent = lab.rig().client().enter(|| socket(to).and_then(|socket| send_burst(&socket)));
    kill(daemon, Signal::SIGCONT)?;
    sent??;
    ensure_lost(&lab, "XSK_RX_DROPPED")?;
    finish(lab)
}

#[test]
fn what_a_worker_does_not_take_from_another_is_lost_by_name() -> Result<()> {
    let mut lab = Lab::spread(Spread::Shuffled, &RigPlan::new("test"), &[])?;
    let worker = thread(daemon(&mut lab)?, "tidegate-w1")?;
    let socket = socket_at_worker(&lab, 1)?;
    // One thread alone stands still; the tracer is this thread.
    ptrace::seize(worker, ptrace::Options::empty())?;
    ptrace::interrupt(worker)?;
    waitpid(worker, None)?;
    let sent = send_burst(&socket);
    ptrace::detach(worker, None)?;
    sent?;
    ensure_lost(&lab, "HAND_OFF_FULL")?;
    finish(lab)
}

#[test]
fn a_new_flow_that_the_kernels_map_has_no_room_for_is_lost_by_name() -> Result<()> {
    let mut lab = Lab::start(&RigPlan::new("test"), &[FLOWS])?;
    let to = front(V4, UDP_CLUSTER);
    lab.udp(to, 10)?;
    let map = FlowMap::find(daemon(&mut lab)?)?;
    map.batch("update", " value hex 00 00 00 00")?;
    lab.rig().client().enter(|| socket(to).and_then(|socket| socket.send(&[0]).map(drop)))??;
    ensure_lost(&lab, "FLOW_MAP_FULL")?;
    map.batch("delete", "")?;
    finish(lab)
}

fn daemon(lab: &mut Lab) -> Result<Pid> {
    let id = lab.site_mut().daemon_mut().context("tidegate")?.process().id();
    Ok(Pid::from_raw(id.try_into()?))
}

fn thread(process: Pid, name: &str) -> Result<Pid> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("comm"))?.trim() == name {
            let id = entry.file_name().into_string().ok().context("a thread's number")?;
            return Ok(Pid::from_raw(id.parse()?));
        }
    }
    anyhow::bail!("no thread is called {name}")
}

/// A socket in the client's namespace.
fn socket(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any_like(to), 0))?;
    socket.connect(to)?;
    Ok(socket)
}

fn send_burst(socket: &UdpSocket) -> std::io::Result<()> {
    (0..BURST).try_for_each(|_| socket.send(&[0]).map(drop))
}

/// A socket whose flow belongs to this worker.
fn socket_at_worker(lab: &Lab, worker: u8) -> Result<UdpSocket> {
    let to = front(V4, UDP_CLUSTER);
    for _ in 0..SOCKETS_MAX {
        let socket = lab.rig().client().enter(|| socket(to))??;
        socket.send(&[0])?;
        let client = socket.local_addr()?.to_string();
        let flow = || -> Option<FlowReport> {
            let list: List<FlowReport> = lab.report("/api/v1/flows").ok()?;
            list.items.into_iter().find(|flow| flow.client == client)
        };
        wait_until("the flow is there", PATIENCE, || flow().is_some())?;
        if flow().is_some_and(|flow| flow.worker == worker) {
            return Ok(socket);
        }
    }
    anyhow::bail!("none of {SOCKETS_MAX} flows came to worker {worker}")
}

fn ensure_lost(lab: &Lab, reason: &str) -> Result<()> {
    let lost = |drops: DropsReport| packets_of(&drops.dropped, reason);
    let is_told = || lab.report("/api/v1/drops").is_ok_and(|drops| lost(drops) > 0);
    wait_until(&format!("{reason} is told"), PATIENCE, is_told)
}

/// It serves on, once pods have seen to what did arrive.
fn finish(lab: Lab) -> Result<()> {
    let is_served = || lab.udp(front(V4, UDP_CLUSTER), 10).is_ok();
    wait_until("it serves on", PATIENCE, is_served)?;
    lab.finish()
}

/// The kernel's map of flows.
struct FlowMap {
    id: u64,
    key_bytes: usize,
    entries_max: u64,
}

impl FlowMap {
    /// The one that a process holds.
    fn find(process: Pid) -> Result<Self> {
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
            let Some(id) = id.map(str::trim) else { continue };
            let json = bpftool(&["-j", "map", "show", "id", id])?;
            let map: serde_json::Value = serde_json::from_str(&json)?;
            if map["name"] == "flows" {
                let number = |name: &str| map[name].as_u64().with_context(|| format!("its {name}"));
                let key_bytes = number("bytes_key")?.try_into()?;
                return Ok(Self {
                    id: id.parse()?,
                    key_bytes,
                    entries_max: number("max_entries")?,
                });
            }
        }
        anyhow::bail!("the process holds no map of flows")
    }

    /// Does so with as many keys as the map has room for, which no packet has. What does not fit,
    /// or is not there because it did not fit, ends it.
    fn batch(&self, verb: &str, value: &str) -> Result<()> {
        let mut text = String::new();
        for number in 0..self.entries_max {
            write!(text, "map {verb} id {} key hex", self.id)?;
            let key = number.to_be_bytes().into_iter().chain(std::iter::repeat(0));
            for byte in key.take(self.key_bytes) {
                write!(text, " {byte:02x}")?;
            }
            writeln!(text, "{value}")?;
        }
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), text)?;
        bpftool(&["batch", "file", &file.path().display().to_string()]).ok();
        Ok(())
    }
}

fn bpftool(args: &[&str]) -> Result<String> {
    let output = Command::new("bpftool").args(args).output().context("start bpftool")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bpftool {args:?}: {words}");
    Ok(String::from_utf8(output.stdout)?)
}
