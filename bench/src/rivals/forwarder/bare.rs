//! The ceiling: an AF_XDP forwarder that sets the MAC addresses and does nothing else, on the same
//! sockets, frames and bursts as tidegate's.

use super::{Forwarder, Session};
use crate::bpf;
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::rig::{Link, Rig};
use crate::rivals::scenario::{Scenario, Work};
use anyhow::{Context as _, Result};
use arrayvec::ArrayVec;
use libbpf_rs::{MapCore as _, MapFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};
use tidegate_dataplane::engine::CopyMode;
use tidegate_dataplane::pipeline::BURST_FRAMES_MAX;
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::xdp::affinity;
use tidegate_dataplane::xdp::socket::{BindRequest, BoundPair};
use tidegate_dataplane::xdp::umem::{FramePool, PairIndex, PoolConfig};
use zerocopy::IntoBytes as _;

static BARE: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/bare.bpf.o")));

/// The bare forwarder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bare {
    pub(crate) name: &'static str,
    pub(crate) cpu: usize,
    pub(crate) placement: Placement,
    /// Sleep in `poll` after this long without a packet; `None` spins for ever.
    pub(crate) idle_spin: Option<Duration>,
}

impl Forwarder for Bare {
    fn name(&self) -> &'static str {
        self.name
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn can(&self, scenario: &Scenario) -> bool {
        matches!(scenario.work, Work::Stream(_))
    }

    fn keeps_flows(&self) -> bool {
        false
    }

    fn serve(&self, rig: &Rig, _scenario: &Scenario, session: &Session) -> Result<()> {
        affinity::pin(self.cpu)?;
        let object = bpf::load(BARE, None)?;
        let program = bpf::program(&object, "bare")?;
        let index = rig.outer.index.0.cast_signed();
        let _link = program.attach_xdp(index).context("attach the bare program")?;
        let mut path = Path::open(rig)?;
        let sockets = object.maps().find(|m| m.name() == "sockets").context("find the sockets")?;
        let socket = path.outer.fd().as_raw_fd();
        sockets.update(0u32.as_bytes(), socket.as_bytes(), MapFlags::ANY)?;
        session.ready();
        path.forward(session, self.idle_spin)
    }
}

struct Path {
    pool: FramePool,
    outer: BoundPair,
    inner: BoundPair,
    /// Destination and source of what leaves.
    macs: [u8; 12],
}

impl Path {
    fn open(rig: &Rig) -> Result<Self> {
        let ring_size = super::RING;
        let frames = super::FRAMES;
        let mut pool =
            FramePool::try_new(PoolConfig { frames, frame_size_bytes: 2048, ring_size })?;
        let mut outer = bind(&pool, &rig.outer, 0)?;
        let inner = bind(&pool, &rig.inner, 1)?;
        outer.set_fill_target(ring_size / 2);
        while !outer.is_filled() {
            outer.refill(&mut pool);
        }
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&rig.backend.mac.0);
        macs[6..].copy_from_slice(&rig.inner.mac.0);
        Ok(Self { pool, outer, inner, macs })
    }

    fn forward(&mut self, session: &Session, idle_spin: Option<Duration>) -> Result<()> {
        let mut idle_since = Instant::now();
        while !session.is_over() {
            if self.forward_burst() > 0 {
                idle_since = Instant::now();
            } else if idle_spin.is_some_and(|limit| idle_since.elapsed() > limit) {
                self.sleep()?;
            }
        }
        Ok(())
    }

    fn forward_burst(&mut self) -> usize {
        self.inner.complete(&mut self.pool);
        if self.inner.has_unsent() {
            self.inner.kick();
        }
        let mut burst: ArrayVec<_, BURST_FRAMES_MAX> = ArrayVec::new();
        self.outer.receive(&mut self.pool, &mut burst);
        self.outer.refill(&mut self.pool);
        let count = burst.len();
        for mut frame in burst {
            self.pool.buffer(&mut frame)[..12].copy_from_slice(&self.macs);
            if let Err(frame) = self.inner.enqueue(frame) {
                self.pool.put(frame);
            }
        }
        if count > 0 {
            self.inner.transmit(&mut self.pool);
            self.inner.kick();
        }
        count
    }

    fn sleep(&self) -> Result<()> {
        let limit = Timespec::try_from(Duration::from_millis(100))?;
        let mut sockets = [PollFd::from_borrowed_fd(self.outer.fd(), PollFlags::IN)];
        poll(&mut sockets, Some(&limit)).context("wait for packets")?;
        Ok(())
    }
}

fn bind(pool: &FramePool, link: &Link, index: u16) -> Result<BoundPair> {
    let request = BindRequest {
        slot: InterfaceSlot(0),
        name: link.name,
        queue: 0,
        mode: Some(CopyMode::Copy),
        ring_size: super::RING,
    };
    let mut pair = BoundPair::bind(pool.umem(), &request)?;
    pair.index = PairIndex(index);
    Ok(pair)
}
