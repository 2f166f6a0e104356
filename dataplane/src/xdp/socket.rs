//! One bound (interface, queue) pair: its four rings, and the frames that travel through them.
#![expect(unsafe_code, reason = "xsk-rs leaves it to its user who owns a frame when")]
#![expect(clippy::needless_pass_by_value, reason = "a frame is given away by moving it")]

use crate::engine::{CopyMode, EngineError, QueueStatistics};
use crate::stats::QueueCounters;
use crate::types::BURST_FRAMES_MAX;
use crate::types::InterfaceSlot;
use crate::xdp::kernel_words::{last_refused, source_refused};
use crate::xdp::umem::{Frame, FramePool, PairIndex, Place};
use arrayvec::ArrayVec;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::umem::{CompQueue, FillQueue, Umem};
use xsk_rs::{RxQueue, Socket, TxQueue};

/// Frames that may wait for one kick: a burst of our own and one from other workers.
pub const PENDING_TX_MAX: usize = BURST_FRAMES_MAX * 2;

/// Packets that one `sendto` may move in copy mode (Linux 6.17+; older kernels move 32 and the
/// next kick moves the rest).
const TX_BUDGET: u32 = count_u32(PENDING_TX_MAX);

/// What to bind.
#[derive(Debug, Clone, Copy)]
pub struct BindRequest<'a> {
    /// The interface's slot; 0 for the kernel road.
    pub slot: InterfaceSlot,
    /// The interface's name.
    pub name: &'a str,
    /// Its queue.
    pub queue: u32,
    /// The mode to ask for; `None` joins the UMEM's first socket, whose mode rules (T7).
    pub mode: Option<CopyMode>,
    /// Descriptors of receive and transmit ring.
    pub ring_size: u32,
}

/// A bound pair. The worker that owns it drives all four rings.
#[derive(Debug)]
pub struct BoundPair {
    /// The interface's slot.
    pub slot: InterfaceSlot,
    /// The queue's number.
    pub queue: u32,
    /// ZeroCopy or Copy, as the kernel reports it back.
    pub mode: CopyMode,
    /// Its number within the worker.
    pub index: PairIndex,
    /// What its worker counts.
    pub counters: Arc<QueueCounters>,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    pending: ArrayVec<FrameDesc, PENDING_TX_MAX>,
    /// Where xsk-rs writes what it reads from a ring. Kept, since to clear it for each look at a
    /// ring costs more than the look.
    read: Box<[FrameDesc; BURST_FRAMES_MAX]>,
    /// Frames in the fill ring, the kernel and the receive ring.
    fill_count: u32,
    /// Frames in the transmit ring, the kernel and the completion ring.
    tx_count: u32,
    /// The kernel has refused the last kick, and will refuse others while the link is down.
    is_refused: bool,
    /// Frames to keep with the kernel for receiving.
    fill_target: u32,
    ring_size: u32,
}

impl BoundPair {
    /// Opens a socket on the UMEM and binds it. It receives nothing before it stands in the XDP
    /// program's map and has frames.
    ///
    /// # Errors
    /// The kernel refused the queue or the mode.
    pub fn bind(umem: &Umem, request: &BindRequest<'_>) -> Result<Self, EngineError> {
        let what = || format!("bind queue {} of {}", request.queue, request.name);
        let config = socket_config(request).map_err(|error| source_refused(what(), &error))?;
        let name = CString::new(request.name).unwrap_or_default();
        // SAFETY: libxdp's own program is inhibited, as the contract asks of shared UMEMs.
        let socket = unsafe { Socket::new(config, umem, &Interface::new(name), request.queue) };
        let (tx, rx, rings) = socket.map_err(|error| source_refused(what(), &error))?;
        let (fill, completion) = rings.ok_or_else(|| EngineError {
            what: what(),
            kernel: "the pair is bound already".into(),
            errno: libc::EBUSY,
            fix: None,
        })?;
        allow_whole_bursts(&tx);
        Ok(Self {
            slot: request.slot,
            queue: request.queue,
            mode: granted_mode(&rx)?,
            index: PairIndex(0),
            counters: Arc::default(),
            rx,
            tx,
            fill,
            completion,
            pending: ArrayVec::new(),
            read: Box::new([FrameDesc::default(); BURST_FRAMES_MAX]),
            fill_count: 0,
            tx_count: 0,
            is_refused: false,
            fill_target: 0,
            ring_size: request.ring_size,
        })
    }

    /// The socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the queues of `self` live.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// How many frames to keep with the kernel for receiving.
    pub fn set_fill_target(&mut self, frames: u32) {
        self.fill_target = frames;
    }

    /// Takes up to a burst of received frames.
    #[inline]
    pub fn receive(&mut self, pool: &mut FramePool, burst: &mut ArrayVec<Frame, BURST_FRAMES_MAX>) {
        let room = burst.remaining_capacity();
        // SAFETY: the descriptors are overwritten with frames of this UMEM that are now ours.
        let count = unsafe { self.rx.consume(&mut self.read[..room]) };
        self.fill_count = self.fill_count.saturating_sub(count_u32(count));
        for desc in &self.read[..count] {
            pool.set_place(pool.index_of(desc), Place::Held);
            burst.push(Frame { desc: *desc });
        }
    }

    /// Whether a received frame waits.
    #[inline]
    pub fn has_received(&mut self) -> bool {
        self.rx.nb_avail(1) > 0
    }

    /// Puts a frame on the list for the next [`BoundPair::transmit`]; gives it back if that is
    /// full.
    ///
    /// # Errors
    /// The frame.
    #[inline]
    pub fn enqueue(&mut self, frame: Frame) -> Result<(), Frame> {
        self.pending.try_push(frame.desc).map_err(|full| Frame { desc: full.element() })
    }

    /// Whether the transmit ring holds frames that the kernel has not taken.
    #[inline]
    pub fn has_unsent(&mut self) -> bool {
        self.tx_count > 0 && self.tx.nb_free_exact() < self.ring_size
    }

    /// Moves the list to the transmit ring and kicks. Returns how many of the list's last frames
    /// found no room; they are free again.
    pub fn transmit(&mut self, pool: &mut FramePool) -> usize {
        let room = self.tx.nb_free(count_u32(self.pending.len())) as usize;
        let count = room.min(self.pending.len());
        // SAFETY: the frames are held and belong to this UMEM; they are given away here.
        let sent = unsafe { self.tx.produce(&self.pending[..count]) };
        for desc in self.pending.drain(..sent) {
            pool.set_place(pool.index_of(&desc), Place::Tx(self.index));
        }
        self.tx_count += count_u32(sent);
        let refused = self.pending.len();
        self.pending.drain(..).for_each(|desc| pool.put(Frame { desc }));
        refused
    }

    /// Asks the kernel to send what is in the transmit ring, where it wants to be asked. True if it
    /// was a system call.
    #[inline]
    pub fn kick(&mut self) -> bool {
        let must = self.tx_count > 0 && self.tx.needs_wakeup();
        self.is_refused = must && !wake(&self.tx);
        must
    }

    /// Whether the last kick was in vain because the link is down: what is in the transmit ring
    /// stays there, and it is of no use to kick again at once.
    #[inline]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Frees what the kernel has sent.
    #[inline]
    pub fn complete(&mut self, pool: &mut FramePool) {
        if self.tx_count == 0 {
            return;
        }
        loop {
            // SAFETY: the kernel gives back frames of this UMEM.
            let count = unsafe { self.completion.consume(&mut self.read[..]) };
            self.read[..count].iter().for_each(|desc| pool.put_index(pool.index_of(desc)));
            self.tx_count = self.tx_count.saturating_sub(count_u32(count));
            if count < self.read.len() {
                return;
            }
        }
    }

    /// Gives the kernel frames to receive into, up to the target.
    #[inline]
    pub fn refill(&mut self, pool: &mut FramePool) {
        let missing = self.fill_target.saturating_sub(self.fill_count);
        if missing < count_u32(BURST_FRAMES_MAX / 2).min(self.fill_target) {
            return;
        }
        let room = self.fill.nb_free(missing).min(missing) as usize;
        let mut descs: ArrayVec<FrameDesc, { BURST_FRAMES_MAX * 4 }> = ArrayVec::new();
        while descs.len() < room.min(descs.capacity()) {
            let Some(frame) = pool.take() else { break };
            pool.set_place(pool.index_of(&frame.desc), Place::Fill(self.index));
            descs.push(frame.desc);
        }
        // SAFETY: the frames were free and belong to this UMEM; they are given away here.
        let given = unsafe { self.fill.produce(&descs) };
        descs.drain(given..).for_each(|desc| pool.put(Frame { desc }));
        self.fill_count += count_u32(given);
        if self.fill.needs_wakeup() {
            self.fill.wakeup(self.rx.fd_mut(), 0).ok();
        }
    }

    /// Whether the kernel has as many frames as it should.
    pub fn is_filled(&self) -> bool {
        self.fill_count >= self.fill_target
    }
}

/// Asks the kernel to send; false where the link is down or gone (`xsk_sendmsg` in net/xdp/xsk.c),
/// which xsk-rs does not tell. Other refusals, as of memory, pass by themselves: the next kick
/// sends what they left in the ring.
fn wake(tx: &TxQueue) -> bool {
    let (nothing, fd) = (core::ptr::null(), tx.fd().as_raw_fd());
    // SAFETY: no bytes and no address are read.
    let sent = unsafe { libc::sendto(fd, nothing, 0, libc::MSG_DONTWAIT, core::ptr::null(), 0) };
    let errno = || std::io::Error::last_os_error().raw_os_error();
    sent >= 0 || !matches!(errno(), Some(libc::ENETDOWN | libc::ENXIO))
}

/// What the kernel counted for a socket (`XDP_STATISTICS`); zeros where it does not say.
pub fn statistics(socket: BorrowedFd<'_>, slot: InterfaceSlot, queue: u32) -> QueueStatistics {
    let mut kernel = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    let mut length = libc::socklen_t::try_from(size_of_val(&kernel)).unwrap_or(0);
    // SAFETY: the option writes at most `length` bytes.
    let _ = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
            (&raw mut kernel).cast(),
            &raw mut length,
        )
    };
    QueueStatistics {
        slot,
        queue,
        rx_dropped: kernel.rx_dropped,
        rx_ring_full: kernel.rx_ring_full,
        rx_invalid_descs: kernel.rx_invalid_descs,
        rx_fill_ring_empty_descs: kernel.rx_fill_ring_empty_descs,
        tx_invalid_descs: kernel.tx_invalid_descs,
        tx_ring_empty_descs: kernel.tx_ring_empty_descs,
        ..QueueStatistics::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "counts of a ring or burst")]
const fn count_u32(count: usize) -> u32 {
    count as u32
}

fn socket_config(
    request: &BindRequest<'_>,
) -> Result<SocketConfig, xsk_rs::config::QueueSizeError> {
    let ring = QueueSize::new(request.ring_size)?;
    let flags = match request.mode {
        Some(CopyMode::ZeroCopy) => BindFlags::XDP_ZEROCOPY | BindFlags::XDP_USE_NEED_WAKEUP,
        Some(CopyMode::Copy | CopyMode::Auto) => {
            BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP
        }
        None => BindFlags::empty(),
    };
    Ok(SocketConfig::builder()
        .rx_queue_size(ring)
        .tx_queue_size(ring)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build())
}

/// Lets one `sendto` move more than 32 packets. Older kernels refuse; then more kicks are needed,
/// and each round of the worker's loop makes one.
fn allow_whole_bursts(tx: &TxQueue) {
    const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
    let budget = TX_BUDGET;
    // SAFETY: the option reads four bytes.
    let _ = unsafe {
        libc::setsockopt(
            tx.fd().as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const budget).cast(),
            4,
        )
    };
}

/// The mode in force, read back from the kernel (`XDP_OPTIONS`).
fn granted_mode(rx: &RxQueue) -> Result<CopyMode, EngineError> {
    let mut flags: u32 = 0;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the option writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            rx.fd().as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_OPTIONS,
            (&raw mut flags).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(last_refused("read a socket's mode back"));
    }
    let is_zero_copy = flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
    Ok(if is_zero_copy { CopyMode::ZeroCopy } else { CopyMode::Copy })
}
