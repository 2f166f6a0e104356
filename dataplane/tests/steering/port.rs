//! An AF_XDP socket with a UMEM of its own: what a worker has, without the worker.
#![expect(unsafe_code, reason = "xsk-rs leaves it to us who owns a frame")]

use crate::net::{PATIENCE, wait_until};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;
use tidegate_dataplane::xdp::layout::Metadata;
use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

const FRAMES: u32 = 128;
const HEADROOM_BYTES: u32 = 64;

pub(crate) struct Port {
    umem: Umem,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    to_send: Vec<FrameDesc>,
}

impl Port {
    pub(crate) fn open(interface: &str, queue: u32) -> Self {
        let umem = UmemConfig::builder().frame_headroom(HEADROOM_BYTES).build().unwrap();
        let (umem, mut to_send) = Umem::new(umem, FRAMES.try_into().unwrap(), false).unwrap();
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface = interface.parse().unwrap();
        let start = Instant::now();
        let (tx, rx, rings) = loop {
            // SAFETY: the UMEM is not shared, and libxdp's program is inhibited.
            match unsafe { Socket::new(config, &umem, &interface, queue) } {
                Ok(socket) => break socket,
                // The kernel frees the queue of a closed socket a little later, in a work queue.
                Err(error) => assert!(start.elapsed() < PATIENCE, "failed to bind: {error}"),
            }
            std::thread::yield_now();
        };
        let (mut fill, completion) = rings.unwrap();
        let to_receive = to_send.split_off(to_send.len() / 2);
        // SAFETY: fresh frames of this UMEM, in no other ring.
        assert_eq!(unsafe { fill.produce(&to_receive) }, to_receive.len());
        Self { umem, tx, rx, fill, completion, to_send }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open for as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// The next frame with its metadata; `None` if none comes within `wait_ms`.
    pub(crate) fn receive_within(&mut self, wait_ms: i32) -> Option<(Metadata, Vec<u8>)> {
        let mut frame = [FrameDesc::default()];
        // SAFETY: the descriptor is only written to.
        if unsafe { self.rx.poll_and_consume(&mut frame, wait_ms) }.unwrap() == 0 {
            return None;
        }
        // SAFETY: just received, so the frame is ours.
        let data = unsafe { self.umem.data(&frame[0]) };
        let bytes = data.contents().to_vec();
        // SAFETY: each frame has more headroom than metadata, in the same UMEM.
        let before = unsafe { data.contents().as_ptr().sub(size_of::<Metadata>()) };
        // SAFETY: 16 bytes of any value are metadata.
        let metadata = unsafe { before.cast::<Metadata>().read_unaligned() };
        // SAFETY: the frame is ours, and used no more.
        assert_eq!(unsafe { self.fill.produce(&frame) }, 1);
        Some((metadata, bytes))
    }

    /// The next frame with its metadata.
    pub(crate) fn receive(&mut self) -> (Metadata, Vec<u8>) {
        let mut frame = None;
        wait_until("a frame comes", || {
            frame = self.receive_within(100);
            frame.is_some()
        });
        frame.unwrap()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut frame = self.to_send.pop().expect("sends less than it has frames");
        // SAFETY: from the free list, so the frame is ours.
        let mut data = unsafe { self.umem.data_mut(&mut frame) };
        data.cursor().write_all(bytes).unwrap();
        // SAFETY: ours until it comes back by the completion ring.
        assert_eq!(unsafe { self.tx.produce_one_and_wakeup(&frame) }.unwrap(), 1);
        let mut done = [FrameDesc::default(); 16];
        // SAFETY: the descriptors are only written to.
        let count = unsafe { self.completion.consume(&mut done) };
        self.to_send.extend(&done[..count]);
    }
}
