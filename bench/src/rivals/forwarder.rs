//! What every contestant has in common.

mod bare;
mod kernel;
mod tidegate;

pub(crate) use bare::Bare;
pub(crate) use kernel::Kernel;
pub(crate) use tidegate::{LATENCY_SAMPLE, Tidegate};

use super::napi::Placement;
use super::rig::{NODE_PORT, Rig};
use anyhow::Result;
use core::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
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

    /// What the packets are sent to.
    fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(GATEWAY, NODE_PORT)
    }

    /// Forwards until the session is over. Called on a thread inside the gateway's namespace; says
    /// [`Session::ready`] once packets may come.
    fn serve(&self, rig: &Rig, session: &Session) -> Result<()>;
}

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
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
