//! A worker's frames: one pool per mode, never mixed (T7).

use crate::engine::{CopyMode, EngineError};
use crate::xdp::umem::{Frame, FrameCensus, FrameIndex, FramePool, PoolConfig};

/// The pools. The zero-copy one is made when the first zero-copy pair is bound.
#[derive(Debug)]
pub struct Pools {
    copy: FramePool,
    zero_copy: Option<FramePool>,
}

impl Pools {
    /// Pools with `copy` for the copy mode.
    pub fn new(copy: FramePool) -> Self {
        Self { copy, zero_copy: None }
    }

    /// A pool for the copy mode.
    ///
    /// # Errors
    /// The memory cannot be locked.
    pub fn try_new(config: PoolConfig) -> Result<Self, EngineError> {
        FramePool::try_new(config).map(Self::new)
    }

    /// Adds the zero-copy pool. False if there is one already, which stays: other pairs use it.
    #[must_use]
    pub fn add_zero_copy(&mut self, pool: FramePool) -> bool {
        let is_first = self.zero_copy.is_none();
        self.zero_copy.get_or_insert(pool);
        is_first
    }

    /// Drops the zero-copy pool, which no pair uses any more, once all its frames are free: one
    /// that is lent is still read.
    pub(super) fn drop_zero_copy(&mut self) {
        let is_free = |pool: &FramePool| pool.free_count() == pool.census().total() as usize;
        self.zero_copy = self.zero_copy.take().filter(|pool| !is_free(pool));
    }

    /// The pool of a mode.
    #[inline]
    pub fn of(&mut self, mode: CopyMode) -> &mut FramePool {
        match (mode, &mut self.zero_copy) {
            (CopyMode::ZeroCopy, Some(pool)) => pool,
            _ => &mut self.copy,
        }
    }

    /// Moves a packet of `len` bytes into a frame of mode `to`; nothing is copied between equal
    /// modes. The frame comes back where the other pool has none free.
    pub(super) fn convert(
        &mut self,
        mut frame: Frame,
        len: usize,
        (from, to): (CopyMode, CopyMode),
    ) -> Result<Frame, Frame> {
        if from == to {
            self.of(to).set_len(&mut frame, len);
            return Ok(frame);
        }
        let Some(mut target) = self.of(to).take() else { return Err(frame) };
        let source = self.of(from).buffer(&mut frame);
        let room = self.of(to).buffer(&mut target);
        let count = len.min(source.len()).min(room.len());
        room[..count].copy_from_slice(&source[..count]);
        self.of(to).set_len(&mut target, count);
        self.of(from).put(frame);
        Ok(target)
    }

    /// A lent frame has come back.
    pub(super) fn take_back(&mut self, mode: CopyMode, index: FrameIndex) {
        self.of(mode).put_index(index);
    }

    /// All frames, by place.
    pub fn census(&self) -> FrameCensus {
        let zero_copy = self.zero_copy.as_ref().map(FramePool::census).unwrap_or_default();
        let copy = self.copy.census();
        FrameCensus {
            free: copy.free + zero_copy.free,
            held: copy.held + zero_copy.held,
            handed: copy.handed + zero_copy.handed,
            fill: copy.fill + zero_copy.fill,
            tx: copy.tx + zero_copy.tx,
        }
    }
}
