//! The bytes of `/bytes/N`: the same for everybody, so that both ends can compute the digest.

const CHUNK_BYTES: usize = 64 * 1024;

/// The first `len` bytes of the pattern, in chunks of at most 64 KiB. Each chunk begins with its
/// number, so that a lost, doubled or swapped piece changes the digest.
pub fn pattern_chunks(len: u64) -> impl Iterator<Item = Vec<u8>> + Send {
    let count = len.div_ceil(CHUNK_BYTES as u64);
    (0..count).map(move |index| chunk(index, len - index * CHUNK_BYTES as u64))
}

fn chunk(index: u64, rest: u64) -> Vec<u8> {
    let size = usize::try_from(rest).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
    index.to_be_bytes().into_iter().chain((0..=u8::MAX).cycle()).take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_exact() {
        for len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
            let sum: usize = pattern_chunks(len).map(|c| c.len()).sum();
            assert_eq!(sum as u64, len);
        }
    }

    #[test]
    fn no_two_chunks_are_equal() {
        let chunks: Vec<_> = pattern_chunks(3 * CHUNK_BYTES as u64).collect();
        assert!(chunks[0] != chunks[1] && chunks[1] != chunks[2]);
    }
}
