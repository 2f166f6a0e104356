//! A few words that many threads read and write without waiting: a sequence lock over atomics
//! (Boehm, "Can seqlocks get along with programming language memory models?", 2012).

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Tries before words that others write at this moment are given up. More would make a worker wait
/// for a preempted one; what is not read or written for this once is decided anew.
pub(crate) const TRIES: usize = 4;

/// `N` words that are read and written as one.
#[derive(Debug)]
pub(crate) struct SequenceLock<const N: usize> {
    /// Odd while it is written.
    sequence: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Default for SequenceLock<N> {
    fn default() -> Self {
        Self { sequence: AtomicU64::new(0), words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> SequenceLock<N> {
    /// The words and their number, or `None` while they are being written.
    pub(crate) fn read(&self) -> Option<(u64, [u64; N])> {
        (0..TRIES).find_map(|_| self.try_read())
    }

    fn try_read(&self) -> Option<(u64, [u64; N])> {
        let before = self.sequence.load(Ordering::Acquire);
        let words = core::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
        // Load-bearing: the words are read before the number is read again.
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        (before == after && before.is_multiple_of(2)).then_some((before, words))
    }

    /// Writes over the words that were read under `sequence`. False if they are others by now.
    pub(crate) fn write(&self, sequence: u64, words: &[u64; N]) -> bool {
        let odd = sequence.wrapping_add(1);
        let order = (Ordering::Acquire, Ordering::Relaxed);
        if self.sequence.compare_exchange(sequence, odd, order.0, order.1).is_err() {
            return false;
        }
        // Load-bearing: nobody sees a new word under the old number.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(*value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        true
    }
}
