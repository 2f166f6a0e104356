//! Frames that the pipeline makes besides those that came: the worker copies them into frames of
//! its own. They are no part of the sum of packets.

use crate::packet::headers::ETHERNET_BYTES;
use crate::packet::vlan::TAG_BYTES;
use crate::types::{BURST_FRAMES_MAX, InterfaceSlot};

/// Pieces that a packet is cut into at most: as many as 1500 bytes are at the least MTU, 68 (RFC
/// 791 section 3.2). Lower would drop what the kernel carries; higher would let one packet be
/// worth many.
pub const PIECES_MAX: usize = 32;

/// Frames of a burst: every packet is cut into as many pieces as may be, and stays one of them.
const FRAMES_MAX: usize = BURST_FRAMES_MAX * (PIECES_MAX - 1);

/// The largest packet that comes: `memory.frameSize` at most.
const PACKET_BYTES_MAX: usize = 4096;

/// What each piece has besides its part of the packet: link header, tag, and an IPv4 header with
/// all options.
const HEADERS_BYTES_MAX: usize = ETHERNET_BYTES + TAG_BYTES + 60;

/// Bytes of the frames of a burst. The kernel gives memory for those alone that are written to.
const BYTES_MAX: usize = BURST_FRAMES_MAX * PACKET_BYTES_MAX + FRAMES_MAX * HEADERS_BYTES_MAX;

/// Those of a burst. There is room for whatever a burst can make, if the worker takes them once per
/// burst; what finds none is not made.
#[derive(Debug)]
pub struct Generated {
    frames: Vec<Made>,
    bytes: Box<[u8]>,
}

/// Where a frame leaves, and where its bytes end; they begin where those before it end.
#[derive(Debug, Clone, Copy)]
struct Made {
    egress: InterfaceSlot,
    end: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct GeneratedFrame<'g> {
    /// Where it leaves.
    pub egress: InterfaceSlot,
    /// Its bytes.
    pub bytes: &'g [u8],
}

impl Default for Generated {
    fn default() -> Self {
        Self { frames: Vec::with_capacity(FRAMES_MAX), bytes: vec![0; BYTES_MAX].into() }
    }
}

impl Generated {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame with this number, from 0 on.
    pub fn get(&self, number: usize) -> Option<GeneratedFrame<'_>> {
        let Made { egress, end } = *self.frames.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.end_of(before));
        Some(GeneratedFrame { egress, bytes: self.bytes.get(start..end)? })
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = GeneratedFrame<'_>> {
        (0..self.len()).filter_map(|number| self.get(number))
    }

    /// Forgets them, once they are sent.
    pub fn clear(&mut self) {
        self.frames.clear();
    }

    fn end_of(&self, number: usize) -> usize {
        self.frames.get(number).map_or(0, |made| made.end)
    }

    fn end(&self) -> usize {
        self.frames.last().map_or(0, |made| made.end)
    }

    /// Whether so many frames with so many bytes together can be added.
    pub(super) fn has_room(&self, frames: usize, bytes: usize) -> bool {
        self.len() + frames <= FRAMES_MAX && self.end() + bytes <= self.bytes.len()
    }

    /// Adds a frame of so many bytes, which are to be written: they may hold anything. `None` where
    /// there is no room.
    pub(super) fn add(&mut self, egress: InterfaceSlot, bytes: usize) -> Option<&mut [u8]> {
        if !self.has_room(1, bytes) {
            return None;
        }
        let start = self.end();
        let end = start + bytes;
        self.frames.push(Made { egress, end });
        self.bytes.get_mut(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{INNER, OUTER};

    #[test]
    fn frames_keep_their_bytes_and_their_way_out() {
        let mut generated = Generated::default();
        for _ in 0..2 {
            assert!(generated.is_empty());
            for (egress, bytes) in [(INNER, &b"one"[..]), (OUTER, b""), (INNER, b"three")] {
                generated.add(egress, bytes.len()).unwrap().copy_from_slice(bytes);
            }
            let all: Vec<_> = generated.iter().map(|frame| (frame.egress, frame.bytes)).collect();
            assert_eq!(all, [(INNER, &b"one"[..]), (OUTER, b""), (INNER, b"three")]);
            generated.clear();
        }
    }

    #[test]
    fn what_finds_no_room_is_not_made() {
        let mut generated = Generated::default();
        assert!(generated.add(INNER, BYTES_MAX + 1).is_none());
        for _ in 0..FRAMES_MAX {
            assert!(generated.add(INNER, 1).is_some());
        }
        assert!(generated.add(INNER, 1).is_none());
        assert_eq!(generated.len(), FRAMES_MAX);
        generated.clear();
        assert!(generated.add(INNER, BYTES_MAX).is_some() && generated.add(INNER, 1).is_none());
    }
}
