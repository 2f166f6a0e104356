//! What every contestant has in common.

mod bare;
mod kernel;
mod prototype;
mod proxy;
mod rules;
mod testpmd;
mod tidegate;

pub(crate) use bare::Bare;
pub(crate) use kernel::Kernel;
pub(crate) use prototype::Prototype;
pub(crate) use proxy::Proxy;
pub(crate) use testpmd::Testpmd;
pub(crate) use tidegate::{LATENCY_SAMPLE, Tidegate};

use super::bed::napi::{Placement, receive_on};
use super::bed::rig::{NODE_PORT, Rig};
use super::scenario::{Scenario, Work};
use anyhow::{Context as _, Result, anyhow};
use core::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tidegate_control::demo::rig::GATEWAY;

/// Descriptors per ring, of tidegate and of the bare forwarder.
const RING: u32 = 1_024;

/// Frames of a forwarder, of tidegate and of the bare one.
const FRAMES: u32 = 16_384;

/// A way to forward packets from the client to the backends.
pub(crate) trait Forwarder: Sync {
    /// A short name, unique among the contestants.
    fn name(&self) -> &'static str;

    /// On whose CPU the gateway receives.
    fn placement(&self) -> Placement;

    /// Whether it can do what a scenario asks.
    fn can(&self, scenario: &Scenario) -> bool;

    /// Whether flows must have come by once before they are measured as established.
    fn keeps_flows(&self) -> bool {
        true
    }

    /// What the packets are sent to.
    fn destination(&self, _rig: &Rig) -> SocketAddrV4 {
        SocketAddrV4::new(GATEWAY, NODE_PORT)
    }

    /// Forwards until the session is over. Called on a thread inside the gateway's namespace; says
    /// [`Session::ready`] once packets may come.
    fn serve(&self, rig: &Rig, scenario: &Scenario, session: &Session) -> Result<()>;
}

/// Has the gateway receive by NAPI where no XDP program of its own brings it: by GRO. The inner
/// interface needs it for what the servers' XDP program sends.
fn give_napi(rig: &Rig, scenario: &Scenario) -> Result<()> {
    rig.gateway().run("ethtool -K eth0 gro on")?;
    if scenario.work == Work::Connections {
        rig.gateway().run("ethtool -K eth1 gro on")?;
    }
    Ok(())
}

/// Has a forwarder serve on a rig while `work` is done, which begins once packets may come.
pub(crate) fn serving<T>(
    forwarder: &dyn Forwarder,
    (rig, scenario): (&Rig, &Scenario),
    forwarder_cpu: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (sender, ready) = channel();
    let session = Session::new(sender);
    let serve = || {
        let result = rig.gateway().enter(|| forwarder.serve(rig, scenario, &session));
        // Whoever waits for readiness must not wait for ever.
        session.ready();
        result
    };
    let when_ready = || {
        ready.recv_timeout(READY_MAX).context("wait for the forwarder")?;
        if forwarder.placement() == Placement::Forwarder {
            receive_on(rig, forwarder_cpu)?;
        }
        work()
    };
    std::thread::scope(|scope| {
        let service = scope.spawn(serve);
        let worked = when_ready();
        session.end();
        let served = service.join().map_err(|_panic| anyhow!("the forwarder panicked"))?;
        served.map_err(anyhow::Error::from).flatten().context("forward packets")?;
        worked
    })
}

/// A forwarder that is not ready by then never is.
const READY_MAX: Duration = Duration::from_secs(20);

/// The time during which a forwarder serves.
#[derive(Debug)]
pub(crate) struct Session {
    is_over: AtomicBool,
    ready: Sender<()>,
}

impl Session {
    /// A session whose beginning is told to `ready`.
    pub(crate) fn new(ready: Sender<()>) -> Self {
        Self { is_over: AtomicBool::new(false), ready }
    }

    /// Packets may come.
    pub(crate) fn ready(&self) {
        // Nobody listens any more where the measurement has failed; its end comes anyway.
        self.ready.send(()).ok();
    }

    /// Whether to stop.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits for the end, doing `chore` ten times a second.
    pub(crate) fn wait(&self, mut chore: impl FnMut()) {
        while !self.is_over() {
            chore();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
