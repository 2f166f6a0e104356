//! An AF_XDP socket on one queue of an interface: sends the generator's packets, receives ours.

use super::account::Account;
use super::clock::now_ns;
use super::frame::{Stamp, reflect};
use super::schedule::Schedule;
use super::stream::Stream;
use crate::bpf;
use anyhow::{Context as _, Result};
use arrayvec::ArrayVec;
use hdrhistogram::Histogram;
use libbpf_rs::{Link, MapCore as _, MapFlags, Object};
use std::os::fd::AsRawFd as _;
use tidegate_dataplane::engine::CopyMode;
use tidegate_dataplane::pipeline::BURST_FRAMES_MAX;
use tidegate_dataplane::stats::latency::empty_histogram;
use tidegate_dataplane::types::{IfIndex, InterfaceSlot};
use tidegate_dataplane::xdp::socket::{BindRequest, BoundPair, statistics};
use tidegate_dataplane::xdp::umem::{Frame, FramePool, PairIndex, PoolConfig};
use zerocopy::IntoBytes as _;

static SINK: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o")));

/// Descriptors per ring: 8 ms of half a million packets per second.
const RING: u32 = 4_096;

/// Frames: a full fill ring, a full transmit ring, and as many again on their way.
const FRAMES: u32 = RING * 3;

/// Packets per kick: smoother than the receiver's own bursts.
const SEND_BURST: u64 = 32;

/// Frames given to the kernel in one go, at most: what [`BoundPair::refill`] does.
const FILLS: u32 = RING / 64;

/// A packet may go so much later than the end of its load; then the load is over.
const GRACE_NS: u64 = 20_000_000;

/// What opens flows may go later: none of them may be missing.
const OPENING_GRACE_NS: u64 = 5_000_000_000;

/// What was sent of a schedule.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Packets that the kernel took.
    pub(crate) packets: u64,
    /// How long after its time each was handed over.
    pub(crate) lateness: Histogram<u64>,
}

/// A socket, and the program that feeds it.
pub(crate) struct End {
    pool: FramePool,
    pair: BoundPair,
    /// Held: the program goes when they do.
    _receiving: Option<(Object, Link)>,
}

impl End {
    /// Opens it in the namespace of the calling thread; it receives if asked to.
    pub(crate) fn open(name: &str, queue: u32, index: IfIndex, receives: bool) -> Result<Self> {
        let config = PoolConfig { frames: FRAMES, frame_size_bytes: 2048, ring_size: RING };
        let mut pool = FramePool::try_new(config)?;
        let request = BindRequest {
            slot: InterfaceSlot(0),
            name,
            queue,
            mode: Some(CopyMode::Copy),
            ring_size: RING,
        };
        let mut pair = crate::generator::bind(&pool, &request)?;
        pair.index = PairIndex(0);
        let receiving = if receives { Some(receive(&mut pool, &mut pair, index)?) } else { None };
        Ok(Self { pool, pair, _receiving: receiving })
    }

    /// Sends a whole schedule, doing `meanwhile` between bursts.
    pub(crate) fn send(
        &mut self,
        stream: &mut Stream,
        schedule: &Schedule,
        opening: bool,
        meanwhile: &mut dyn FnMut(&mut Self),
    ) -> Sent {
        let mut sent = Sent { packets: 0, lateness: empty_histogram() };
        let last_ns = schedule.end_ns() + if opening { OPENING_GRACE_NS } else { GRACE_NS };
        let mut number = 0;
        while number < schedule.total {
            let now = now_ns();
            if now > last_ns {
                break;
            }
            let count = schedule.owed(now).saturating_sub(number).min(SEND_BURST);
            self.pair.complete(&mut self.pool);
            let until = number + count;
            let mut queued = 0;
            while number < until {
                let due_ns = schedule.due_ns(number);
                if !self.queue(|frame| stream.write(frame, due_ns, opening)) {
                    break;
                }
                sent.lateness.saturating_record(now.saturating_sub(due_ns));
                queued += 1;
                number += 1;
            }
            sent.packets += queued - self.flush().min(queued);
            meanwhile(self);
        }
        sent
    }

    /// Puts one packet on the list; false where no frame is free.
    fn queue(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(mut frame) = self.pool.take() else { return false };
        let length = write(self.pool.buffer(&mut frame));
        self.pool.set_len(&mut frame, length);
        self.enqueue(frame)
    }

    fn enqueue(&mut self, frame: Frame) -> bool {
        match self.pair.enqueue(frame) {
            Ok(()) => true,
            Err(frame) => {
                self.pool.put(frame);
                false
            }
        }
    }

    /// Sends what is on the list; returns how many found no room.
    fn flush(&mut self) -> u64 {
        let refused = self.pair.transmit(&mut self.pool) as u64;
        if self.pair.has_unsent() {
            self.pair.kick();
        }
        refused
    }

    /// Asks the kernel to send what it has not.
    pub(crate) fn push(&mut self) {
        self.pair.complete(&mut self.pool);
        if self.pair.has_unsent() {
            self.pair.kick();
        }
    }

    /// Enters a burst of what came, and sends it back if asked to. Returns how many came.
    pub(crate) fn poll(&mut self, account: &mut Account, echoes: bool) -> usize {
        self.pair.complete(&mut self.pool);
        let mut burst: ArrayVec<_, BURST_FRAMES_MAX> = ArrayVec::new();
        self.pair.receive(&mut self.pool, &mut burst);
        self.pair.refill(&mut self.pool);
        let (count, now) = (burst.len(), now_ns());
        for mut frame in burst {
            let bytes = self.pool.buffer(&mut frame);
            // A frame's memory is longer than its packet.
            let stamp = Stamp::read(bytes);
            if let Some(stamp) = &stamp {
                account.enter(stamp, now);
            }
            if echoes && stamp.is_some() && reflect(bytes) {
                self.enqueue(frame);
            } else {
                self.pool.put(frame);
            }
        }
        if echoes {
            self.flush();
        }
        count
    }

    /// Packets that came and found no room since the socket was opened.
    pub(crate) fn dropped(&self) -> u64 {
        let kernel = statistics(self.pair.fd(), self.pair.slot, self.pair.queue);
        kernel.rx_dropped + kernel.rx_ring_full + kernel.rx_fill_ring_empty_descs
    }

    /// The mode in force, as the kernel tells it.
    pub(crate) fn mode(&self) -> CopyMode {
        self.pair.mode
    }
}

fn receive(pool: &mut FramePool, pair: &mut BoundPair, index: IfIndex) -> Result<(Object, Link)> {
    let object = bpf::load(SINK, None)?;
    let program = bpf::program(&object, "sink")?;
    pair.set_fill_target(RING);
    for _ in 0..FILLS {
        pair.refill(pool);
    }
    let sockets = object.maps().find(|map| map.name() == "sockets").context("find the sockets")?;
    let socket = pair.fd().as_raw_fd();
    sockets.update(pair.queue.as_bytes(), socket.as_bytes(), MapFlags::ANY)?;
    let link = program.attach_xdp(index.0.cast_signed()).context("attach the sink's program")?;
    Ok((object, link))
}
