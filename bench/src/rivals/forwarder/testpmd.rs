//! DPDK's testpmd over its AF_XDP driver, in mode `mac`: it sets both MAC addresses and sends by
//! the other interface, as the bare forwarder does.

use super::{FRAMES, Forwarder, RING, Session};
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::programs;
use crate::rivals::bed::rig::Rig;
use crate::rivals::scenario::{Scenario, Work};
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, PipeReader, Write as _, pipe};
use std::process::{Child, Command, Stdio};
use tidegate_dataplane::pipeline::BURST_FRAMES_MAX;
use tidegate_dataplane::types::MacAddress;

const PROGRAM: &str = "usr/bin/dpdk-testpmd";

/// Of DPDK's libraries those that it opens by itself: the driver, and what its pools are made of.
const PLUGINS: [&str; 3] =
    ["librte_bus_vdev.so.23", "librte_mempool_ring.so.23", "librte_net_af_xdp.so.23"];

/// testpmd says so once it forwards.
const READY: &str = "Press enter to exit";

/// testpmd with one forwarding core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Testpmd {
    /// Its main thread only waits, and may do so on any.
    pub(crate) cpu: usize,
}

impl Forwarder for Testpmd {
    fn name(&self) -> &'static str {
        "testpmd"
    }

    fn placement(&self) -> Placement {
        Placement::Sender
    }

    fn can(&self, scenario: &Scenario) -> bool {
        matches!(scenario.work, Work::Stream(_))
    }

    fn keeps_flows(&self) -> bool {
        false
    }

    fn serve(&self, rig: &Rig, _scenario: &Scenario, session: &Session) -> Result<()> {
        let (output, writer) = pipe().context("read testpmd's output")?;
        let mut command = self.command(rig)?;
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().context("start testpmd")?;
        // Its ends of the pipe: who holds one open never sees the end of the output.
        drop(command);
        let forwarded = forward(&mut child, output, session);
        if forwarded.is_err() {
            child.kill().context("end testpmd")?;
        }
        child.wait().context("wait for testpmd's end")?;
        forwarded
    }
}

impl Testpmd {
    fn command(self, rig: &Rig) -> Result<Command> {
        let [libraries, _] = programs::libraries()?;
        // By lines, or its words stay in its buffer.
        let mut command = programs::command_by(rig.gateway(), &["stdbuf", "-oL"], PROGRAM)?;
        command.env("LIBXDP_OBJECT_PATH", libraries.join("bpf"));
        for plugin in PLUGINS {
            command.arg("-d").arg(libraries.join("dpdk/pmds-23.0").join(plugin));
        }
        let lcores = format!("0@(0-{cpu}),1@{cpu}", cpu = self.cpu);
        command.args(["--lcores", &lcores, "--no-huge", "-m", "512", "--no-pci"]);
        command.args(["--no-telemetry", "--no-shconf"]);
        for (number, name) in [(0, rig.outer.name), (1, rig.inner.name)] {
            // No busy polling: who receives is the same as for the others.
            let device = format!("net_af_xdp{number},iface={name},start_queue=0,queue_count=1");
            command.arg("--vdev").arg(device + ",busy_budget=0");
        }
        command.args(["--", "--auto-start", "--forward-mode=mac", "--nb-cores=1"]);
        command.arg(format!("--eth-peer=1,{}", words(rig.backend.mac)));
        command.arg(format!("--total-num-mbufs={FRAMES}"));
        command.args([format!("--rxd={RING}"), format!("--txd={RING}")]);
        command.arg(format!("--burst={BURST_FRAMES_MAX}"));
        Ok(command)
    }
}

fn forward(child: &mut Child, output: PipeReader, session: &Session) -> Result<()> {
    let mut input = child.stdin.take().context("write to testpmd")?;
    let output = await_ready(output)?;
    session.ready();
    // Whoever writes to a closed pipe ends.
    let drain = std::thread::spawn(move || output.lines().map_while(Result::ok).count());
    session.wait(|| ());
    input.write_all(b"\n").context("tell testpmd to end")?;
    drop(input);
    drain.join().map_err(|_panic| anyhow::anyhow!("reading testpmd's output panicked"))?;
    Ok(())
}

fn await_ready(output: PipeReader) -> Result<BufReader<PipeReader>> {
    let mut output = BufReader::new(output);
    let mut all = String::new();
    loop {
        let start = all.len();
        let count = output.read_line(&mut all).context("read testpmd's output")?;
        ensure!(count > 0, "testpmd ended before it forwarded; it said:\n{all}");
        if all[start..].contains(READY) {
            return Ok(output);
        }
    }
}

fn words(mac: MacAddress) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}
