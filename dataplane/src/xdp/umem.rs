//! The frames of one worker and mode (T7): one UMEM, shared by all sockets of that mode.
//!
//! Every frame is in one place at any time, and the pool knows which: so frames can be counted
//! (they never get lost) and taken back when a queue goes away with frames in its rings.
#![expect(unsafe_code, reason = "xsk-rs leaves it to its user who owns a frame when")]
#![expect(clippy::needless_pass_by_value, reason = "a frame is given away by moving it")]

use crate::engine::EngineError;
use crate::memory;

use crate::xdp::kernel_words::source_refused;
use core::num::NonZeroU32;
use core::ptr::NonNull;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::umem::Umem;
use xsk_rs::umem::frame::FrameDesc;

/// A frame that user space owns. Not `Copy`: who has it may touch it, nobody else.
#[derive(Debug)]
pub struct Frame {
    pub(super) desc: FrameDesc,
}

/// A frame's number within its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameIndex(pub u32);

/// A bound pair's number within its worker; names the rings that hold a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairIndex(pub u16);

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the free list.
    Free,
    /// With the worker.
    Held,
    /// Lent to another worker.
    Handed,
    /// In the fill ring, the kernel or the receive ring of a pair.
    Fill(PairIndex),
    /// In the transmit ring, the kernel or the completion ring of a pair.
    Tx(PairIndex),
}

/// How many frames are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCensus {
    /// On the free list.
    pub free: u32,
    /// With the worker.
    pub held: u32,
    /// Lent to other workers.
    pub handed: u32,
    /// With the kernel to receive into.
    pub fill: u32,
    /// With the kernel to send.
    pub tx: u32,
}

impl FrameCensus {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.free + self.held + self.handed + self.fill + self.tx
    }
}

/// What a pool is made of.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// How many frames, at least 1.
    pub frames: u32,
    /// Bytes per frame: 2048 or 4096.
    pub frame_size_bytes: u32,
    /// Descriptors of each pair's fill and completion ring; a power of two.
    pub ring_size: u32,
}

/// The frames.
#[derive(Debug)]
pub struct FramePool {
    umem: Umem,
    /// xsk-rs makes descriptors once; a frame that comes back gets a copy of its own.
    pristine: Box<[FrameDesc]>,
    places: Box<[Place]>,
    free: Vec<u32>,
    frame_shift: u32,
}

impl FramePool {
    /// Maps and registers the memory.
    ///
    /// # Errors
    /// The memory cannot be locked, or the sizes are refused.
    pub fn try_new(config: PoolConfig) -> Result<Self, EngineError> {
        let what = || {
            let mib = (u64::from(config.frames) * u64::from(config.frame_size_bytes)) >> 20;
            format!("make a UMEM of {} frames ({mib} MiB)", config.frames)
        };
        let invalid = |detail: String| EngineError {
            what: format!("{}: {detail}", what()),
            kernel: "not asked".into(),
            errno: libc::EINVAL,
            fix: Some("memory.frameSize and memory.ringSize are powers of two".into()),
        };
        let ring = QueueSize::new(config.ring_size).map_err(|e| invalid(e.to_string()))?;
        let size = FrameSize::new(config.frame_size_bytes).map_err(|e| invalid(e.to_string()))?;
        let frames = NonZeroU32::new(config.frames).ok_or_else(|| invalid("no frames".into()))?;
        let umem_config = UmemConfig::builder()
            .frame_size(size)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .map_err(|e| invalid(e.to_string()))?;
        let created = Umem::new(umem_config, frames, false);
        let (umem, descs) = created.map_err(|error| source_refused(what(), &error))?;
        Ok(Self {
            umem,
            places: vec![Place::Free; descs.len()].into(),
            free: (0..config.frames).rev().collect(),
            pristine: descs.into(),
            frame_shift: config.frame_size_bytes.trailing_zeros(),
        })
    }

    /// The memory, to bind sockets to.
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// A free frame.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        let index = self.free.pop()?;
        self.set_place(FrameIndex(index), Place::Held);
        self.pristine_frame(FrameIndex(index))
    }

    /// Gives a frame back.
    #[inline]
    pub fn put(&mut self, frame: Frame) {
        let index = self.index_of(&frame.desc);
        self.put_index(index);
    }

    /// Gives back a frame by its number.
    #[inline]
    pub fn put_index(&mut self, index: FrameIndex) {
        self.set_place(index, Place::Free);
        self.free.push(index.0);
    }

    /// How many frames are free.
    #[inline]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    fn pristine_frame(&self, index: FrameIndex) -> Option<Frame> {
        self.pristine.get(index.0 as usize).map(|desc| Frame { desc: *desc })
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below the frame count, a u32")]
    pub(super) fn index_of(&self, desc: &FrameDesc) -> FrameIndex {
        FrameIndex((desc.addr() >> self.frame_shift) as u32)
    }

    #[inline]
    pub(super) fn set_place(&mut self, index: FrameIndex, place: Place) {
        if let Some(slot) = self.places.get_mut(index.0 as usize) {
            *slot = place;
        }
    }

    /// Lends a frame to another worker; it comes back by [`FramePool::put_index`].
    pub fn lend(&mut self, mut frame: Frame) -> LentFrame {
        let index = self.index_of(&frame.desc);
        self.set_place(index, Place::Handed);
        let bytes = self.buffer(&mut frame);
        LentFrame { index, start: NonNull::from(bytes).cast(), capacity: self.capacity(&frame) }
    }

    fn capacity(&self, frame: &Frame) -> usize {
        let size = 1usize << self.frame_shift;
        size - (frame.desc.addr() & (size - 1))
    }

    /// The frame's memory from its packet's first byte to its end.
    #[inline]
    pub fn buffer<'f>(&self, frame: &'f mut Frame) -> &'f mut [u8] {
        let capacity = self.capacity(frame);
        // SAFETY: the frame belongs to this UMEM and, being held, to nobody else.
        let mut data = unsafe { self.umem.data_mut(&mut frame.desc) };
        let length = data.cursor().pos();
        data.cursor().set_pos(capacity);
        let start = data.contents_mut().as_mut_ptr();
        data.cursor().set_pos(length);
        // SAFETY: `capacity` bytes from `start` lie within the frame; the borrow of `frame` keeps
        // anybody else from making a second one.
        unsafe { core::slice::from_raw_parts_mut(start, capacity) }
    }

    /// Asks the CPU to bring the packet's first line close, and the one before with the metadata.
    #[inline]
    pub fn prefetch(&self, frame: &mut Frame) {
        let start = self.buffer(frame).as_ptr();
        memory::prefetch(start);
        memory::prefetch(start.wrapping_sub(1));
    }

    /// The `N` bytes before the packet's first, where the XDP program leaves its metadata; they are
    /// cleared, so that a frame that comes without cannot show those of an earlier packet.
    #[inline]
    pub fn take_metadata<const N: usize>(&self, frame: &mut Frame) -> Option<[u8; N]> {
        let offset = frame.desc.addr() & ((1 << self.frame_shift) - 1);
        let start = self.buffer(frame).as_mut_ptr();
        if offset < N {
            return None;
        }
        // SAFETY: at least `N` bytes of the same frame lie before `start`.
        let before = unsafe { start.sub(N) };
        // SAFETY: as above, and the frame is held.
        let metadata = unsafe { &mut *before.cast::<[u8; N]>() };
        Some(core::mem::replace(metadata, [0; N]))
    }

    /// Sets how many bytes of the frame are the packet.
    #[inline]
    pub fn set_len(&self, frame: &mut Frame, len: usize) {
        // SAFETY: the frame belongs to this UMEM and is held.
        unsafe { self.umem.data_mut(&mut frame.desc) }.cursor().set_pos(len);
    }

    /// Takes back every frame that a pair's rings held. Only after its socket is closed.
    pub fn reclaim(&mut self, pair: PairIndex) {
        for index in 0..self.places.len() {
            if matches!(self.places[index], Place::Fill(p) | Place::Tx(p) if p == pair) {
                self.put_index(FrameIndex(u32::try_from(index).unwrap_or(u32::MAX)));
            }
        }
    }

    /// Counts all frames by place.
    pub fn census(&self) -> FrameCensus {
        let mut census = FrameCensus::default();
        for place in &self.places {
            *match place {
                Place::Free => &mut census.free,
                Place::Held => &mut census.held,
                Place::Handed => &mut census.handed,
                Place::Fill(_) => &mut census.fill,
                Place::Tx(_) => &mut census.tx,
            } += 1;
        }
        census
    }
}

impl Frame {
    /// The packet's bytes, as the receive ring told.
    #[inline]
    pub fn len(&self) -> usize {
        self.desc.lengths().data()
    }

    /// Whether there is no packet in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A frame that another worker may read until it gives the number back. The memory outlives all
/// workers: the engine holds every UMEM until they are joined.
#[derive(Debug)]
pub struct LentFrame {
    index: FrameIndex,
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the lender does not touch a frame whose place is `Handed`; the borrower only reads it.
unsafe impl Send for LentFrame {}

impl LentFrame {
    /// Copies the first `len` bytes into `target`; fewer if either is smaller. Returns how many,
    /// and the number to give back.
    pub fn copy_into(self, target: &mut [u8], len: usize) -> (usize, FrameIndex) {
        let count = len.min(self.capacity).min(target.len());
        // SAFETY: `count` bytes are within the lent frame, which nobody writes meanwhile.
        let source = unsafe { core::slice::from_raw_parts(self.start.as_ptr(), count) };
        target[..count].copy_from_slice(source);
        (count, self.index)
    }

    /// Gives the frame up unread.
    pub fn into_index(self) -> FrameIndex {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> FramePool {
        let config = PoolConfig { frames: 8, frame_size_bytes: 2048, ring_size: 64 };
        FramePool::try_new(config).unwrap()
    }

    #[test]
    fn frames_are_conserved_wherever_they_go() {
        let mut pool = pool();
        let frames: Vec<_> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!((frames.len(), pool.census().held), (8, 8));
        let mut frames = frames.into_iter();
        let lent = pool.lend(frames.next().unwrap());
        for frame in frames.by_ref().take(3) {
            let index = pool.index_of(&frame.desc);
            pool.set_place(index, Place::Tx(PairIndex(4)));
        }
        frames.for_each(|frame| pool.put(frame));
        let census = FrameCensus { free: 4, handed: 1, tx: 3, ..FrameCensus::default() };
        assert_eq!((pool.census(), pool.census().total()), (census, 8));
        pool.put_index(lent.into_index());
        pool.reclaim(PairIndex(4));
        assert_eq!(pool.census().free, 8);
    }

    #[test]
    fn a_lent_frame_shows_the_lenders_bytes() {
        let mut pool = pool();
        let mut frame = pool.take().unwrap();
        pool.buffer(&mut frame)[..5].copy_from_slice(b"hello");
        let lent = pool.lend(frame);
        let mut copy = [0; 16];
        assert_eq!(lent.copy_into(&mut copy, 5).0, 5);
        assert_eq!(&copy[..5], b"hello");
    }

    #[test]
    fn metadata_is_read_once() {
        let pool_ref = &mut pool();
        let mut frame = pool_ref.take().unwrap();
        assert_eq!(pool_ref.take_metadata::<16>(&mut frame), Some([0; 16]));
        assert_eq!(pool_ref.buffer(&mut frame).len(), 2048 - 256);
    }
}
