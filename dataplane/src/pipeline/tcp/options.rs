//! TCP options: those of a SYN, read and written, and the blocks of selective acknowledgments.

use arrayvec::ArrayVec;

const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_BYTES: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

/// The largest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// Bytes of the longest list that [`SynOptions::write`] writes.
pub(super) const SYN_OPTIONS_BYTES_MAX: usize = 12;

/// What the options of a SYN say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::pipeline) struct SynOptions {
    /// The largest segment that its sender takes, in bytes.
    pub segment_bytes: Option<u16>,
    /// The shift of its sender's windows, 0 to 14.
    pub scale: Option<u8>,
    /// Whether its sender takes selective acknowledgments.
    pub is_sack_permitted: bool,
}

impl SynOptions {
    /// Reads them; what is malformed ends the list.
    pub(super) fn read(options: &[u8]) -> Self {
        let mut found = Self::default();
        for (_, kind, value) in each(options) {
            match (kind, value) {
                (SEGMENT_BYTES, [high, low]) => {
                    found.segment_bytes = Some(u16::from_be_bytes([*high, *low]));
                }
                (SCALE, [shift]) => found.scale = Some((*shift).min(SCALE_MAX)),
                (SACK_PERMITTED, []) => found.is_sack_permitted = true,
                _ => {}
            }
        }
        found
    }

    /// Writes them, padded to words of four bytes.
    pub(super) fn write(self) -> ArrayVec<u8, SYN_OPTIONS_BYTES_MAX> {
        let mut bytes = ArrayVec::new();
        let mut put = |option: [u8; 4]| bytes.try_extend_from_slice(&option).ok();
        if let Some(segment_bytes) = self.segment_bytes {
            let [high, low] = segment_bytes.to_be_bytes();
            put([SEGMENT_BYTES, 4, high, low]);
        }
        if self.is_sack_permitted {
            put([NOTHING, NOTHING, SACK_PERMITTED, 2]);
        }
        if let Some(scale) = self.scale {
            put([NOTHING, SCALE, 3, scale]);
        }
        bytes
    }
}

/// Moves every edge of every block that is selectively acknowledged by `by`, wrapping.
pub(super) fn move_sack_blocks(options: &mut [u8], by: u32) {
    // At most 40 bytes: one list of blocks is all that fits, and all that anybody sends.
    let found = each(options).find(|(_, kind, _)| *kind == SACK);
    let Some((at, bytes)) = found.map(|(at, _, value)| (at, value.len())) else { return };
    let (edges, _) = options.get_mut(at..at + bytes).unwrap_or_default().as_chunks_mut::<4>();
    for edge in edges {
        *edge = u32::from_be_bytes(*edge).wrapping_add(by).to_be_bytes();
    }
}

/// Where each option's value starts, its kind, and its value.
fn each(options: &[u8]) -> impl Iterator<Item = (usize, u8, &[u8])> {
    let mut at = 0;
    core::iter::from_fn(move || {
        while options.get(at) == Some(&NOTHING) {
            at += 1;
        }
        let kind = *options.get(at).filter(|kind| **kind != END)?;
        let (start, length) = (at + 2, usize::from(*options.get(at + 1)?));
        let value = options.get(start..at + length)?;
        at += length;
        Some((start, kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for segment_bytes in [None, Some(1_460)] {
            for scale in [None, Some(7)] {
                for is_sack_permitted in [false, true] {
                    let options = SynOptions { segment_bytes, scale, is_sack_permitted };
                    let bytes = options.write();
                    assert_eq!((SynOptions::read(&bytes), bytes.len() % 4), (options, 0));
                }
            }
        }
    }

    #[test]
    fn blocks_are_moved_behind_any_padding_and_nothing_else_is() {
        for padding in 0..4 {
            let mut options = vec![NOTHING; padding];
            options.extend([8, 10, 1, 2, 3, 4, 5, 6, 7, 8, SACK, 18]);
            let edges = [0xffff_fff0u32, 10, 20, 30];
            options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
            let before = options.clone();
            move_sack_blocks(&mut options, 0x20);
            let moved = edges.map(|edge| edge.wrapping_add(0x20).to_be_bytes()).concat();
            assert_eq!(
                (&options[..padding + 12], &options[padding + 12..]),
                (&before[..padding + 12], &moved[..])
            );
        }
    }

    #[test]
    fn any_options_are_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            SynOptions::read(&bytes);
            move_sack_blocks(&mut bytes, 7);
        });
    }
}
