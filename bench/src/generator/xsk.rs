//! A transmit loop on an AF_XDP socket.

use super::frame::{FRAME_BYTES, Template};
use super::{Load, Rate, Sent, pace};
use anyhow::Result;
use std::time::{Duration, Instant};
use tidegate_dataplane::engine::CopyMode;
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::xdp::socket::{BindRequest, BoundPair};
use tidegate_dataplane::xdp::umem::{FramePool, PairIndex, PoolConfig};

const RING: u32 = 1_024;

/// Packets per kick where the rate is given: smoother than the receiver's own bursts.
const PACED_BURST: u32 = 32;

/// Packets per kick at full speed.
const FULL_BURST: u32 = 64;

struct Sender {
    pool: FramePool,
    pair: BoundPair,
    template: Template,
    flows: u32,
    next_flow: u32,
}

pub(super) fn send(load: &Load) -> Result<Sent> {
    let pool = FramePool::try_new(PoolConfig {
        frames: RING * 2,
        frame_size_bytes: 2048,
        ring_size: RING,
    })?;
    let request = BindRequest {
        slot: InterfaceSlot(0),
        name: &load.name,
        queue: 0,
        mode: Some(CopyMode::Copy),
        ring_size: RING,
    };
    let mut pair = bind(&pool, &request)?;
    pair.index = PairIndex(0);
    let template = Template::new(&load.route);
    let mut sender = Sender { pool, pair, template, flows: load.flows, next_flow: 0 };
    let burst = match load.rate {
        Rate::Paced(_) => PACED_BURST,
        Rate::Full => FULL_BURST,
    };
    pace::run(load, || Ok(sender.send_burst(burst)))
}

/// Binds a queue. The kernel lets go of the socket before ours some time after it was closed.
pub(crate) fn bind(pool: &FramePool, request: &BindRequest<'_>) -> Result<BoundPair> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match BoundPair::bind(pool.umem(), request) {
            Err(busy) if busy.errno == libc::EBUSY && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return Ok(other?),
        }
    }
}

impl Sender {
    fn send_burst(&mut self, count: u32) -> u64 {
        self.pair.complete(&mut self.pool);
        let mut queued = 0;
        for _ in 0..count {
            let Some(mut frame) = self.pool.take() else { break };
            self.template.write(self.next_flow, self.pool.buffer(&mut frame));
            self.pool.set_len(&mut frame, FRAME_BYTES);
            self.next_flow = if self.next_flow + 1 < self.flows { self.next_flow + 1 } else { 0 };
            if let Err(frame) = self.pair.enqueue(frame) {
                self.pool.put(frame);
                break;
            }
            queued += 1;
        }
        let refused = self.pair.transmit(&mut self.pool) as u64;
        self.pair.kick();
        queued - refused
    }
}
