//! `HAProxy` in mode `tcp`: it ends each client's connection and makes one of its own to a backend.

use super::{Forwarder, Session};
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::programs;
use crate::rivals::bed::rig::{BACKEND_PORT, NODE_PORT, Rig};
use crate::rivals::scenario::{Scenario, Work};
use anyhow::{Context as _, Result, ensure};
use core::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tidegate_control::demo::rig::GATEWAY;

const PROGRAM: &str = "usr/sbin/haproxy";

/// How long it may take until it listens.
const READY_MAX: Duration = Duration::from_secs(10);

/// `HAProxy` with one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxy {
    pub(crate) cpu: usize,
}

impl Forwarder for Proxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn placement(&self) -> Placement {
        Placement::Forwarder
    }

    fn can(&self, scenario: &Scenario) -> bool {
        scenario.work == Work::Connections
    }

    fn serve(&self, rig: &Rig, scenario: &Scenario, session: &Session) -> Result<()> {
        super::give_napi(rig, scenario)?;
        // As many connections as it can open to a backend, and none waits to be accepted in vain.
        rig.gateway().sysctl("net.ipv4.ip_local_port_range=1024 65535")?;
        rig.gateway().sysctl("net.core.somaxconn=65535")?;
        let config = Config::write(&self.config(rig)?)?;
        let mut command = programs::command(rig.gateway(), PROGRAM)?;
        command.arg("-db").arg("-f").arg(&config.path).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).spawn().context("start HAProxy")?;
        let served = await_listener(&mut child);
        if served.is_ok() {
            session.ready();
            session.wait(|| ());
        }
        child.kill().context("end HAProxy")?;
        child.wait().context("wait for HAProxy's end")?;
        served
    }
}

impl Proxy {
    fn config(self, rig: &Rig) -> Result<String> {
        let mut text = format!(
            "global\n nbthread 1\n cpu-map 1/1 {}\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
             listen front\n bind {GATEWAY}:{NODE_PORT} backlog 65535\n balance roundrobin\n",
            self.cpu
        );
        for (number, backend) in rig.backends.iter().enumerate() {
            writeln!(text, " server backend{number} {backend}:{BACKEND_PORT}")?;
        }
        Ok(text)
    }
}

/// A file that is removed when its turn ends.
#[derive(Debug)]
struct Config {
    path: PathBuf,
}

impl Config {
    fn write(text: &str) -> Result<Self> {
        let name = format!("tidegate-bench-{}-haproxy.cfg", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// Called inside the gateway's namespace.
fn await_listener(child: &mut Child) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    while TcpStream::connect((GATEWAY, NODE_PORT)).is_err() {
        let ended = child.try_wait().context("ask whether HAProxy lives")?;
        ensure!(ended.is_none(), "HAProxy ended before it listened; its own words are above");
        ensure!(Instant::now() < deadline, "HAProxy did not listen within {READY_MAX:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
