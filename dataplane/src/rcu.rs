//! Publication by RCU (T10): one pointer store by the control side, one pointer load per burst by
//! each worker, no lock, and no destructor ever on a worker.
//!
//! A worker holds one long-lived epoch [`Guard`] and repins it at each burst boundary, its
//! quiescent state: 0.85 ns, and the borrow checker ends every reference into the old snapshot
//! there. A sleeping worker holds no guard, so it keeps nothing alive. What was replaced is
//! destroyed by [`Publisher::reclaim`], which only the control side calls.
#![expect(unsafe_code, reason = "dereferencing an epoch-protected pointer")]

use crossbeam::epoch::{self, Atomic, Guard, Owned};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The cell that holds the current value.
#[derive(Debug)]
struct Cell<T>(Atomic<Arc<T>>);

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        let last = core::mem::replace(&mut self.0, Atomic::null());
        // SAFETY: the last handle is gone, so no reader can hold the pointer.
        drop(unsafe { last.try_into_owned() });
    }
}

/// The control side's end.
#[derive(Debug)]
pub struct Publisher<T> {
    cell: Arc<Cell<T>>,
    current: Arc<T>,
    /// What was replaced, held here until no worker can have it: so the last count of an `Arc` is
    /// always dropped on this side, whichever thread runs the epoch's collector.
    retired: Vec<Arc<T>>,
}

impl<T> Publisher<T> {
    /// A publisher of `initial`.
    pub fn new(initial: T) -> Self {
        let current = Arc::new(initial);
        let cell = Arc::new(Cell(Atomic::new(Arc::clone(&current))));
        Self { cell, current, retired: Vec::new() }
    }

    /// Makes `next` what every later burst reads.
    pub fn publish(&mut self, next: Arc<T>) {
        self.retired.push(core::mem::replace(&mut self.current, Arc::clone(&next)));
        let guard = epoch::pin();
        // Load-bearing: Release, so that a reader who sees the pointer sees what it points to.
        let old = self.cell.0.swap(Owned::new(next), Ordering::AcqRel, &guard);
        // SAFETY: `old` was unlinked above; readers that still have it are pinned.
        unsafe { guard.defer_destroy(old) };
        guard.flush();
    }

    /// What was published last.
    pub fn current(&self) -> &Arc<T> {
        &self.current
    }

    /// Destroys what no reader can see any more. To be called a few times per second.
    pub fn reclaim(&mut self) {
        epoch::pin().flush();
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// An end for one worker; to be turned into a [`Reader`] on the worker's own thread.
    pub fn subscription(&self) -> Subscription<T> {
        Subscription(Arc::clone(&self.cell))
    }
}

/// What travels to the worker's thread.
#[derive(Debug)]
pub struct Subscription<T>(Arc<Cell<T>>);

impl<T> Subscription<T> {
    /// The reader of the calling thread.
    pub fn into_reader(self) -> Reader<T> {
        Reader { cell: self.0, guard: None }
    }
}

/// A worker's end. Not `Send`: the guard belongs to its thread.
#[derive(Debug)]
pub struct Reader<T> {
    cell: Arc<Cell<T>>,
    guard: Option<Guard>,
}

impl<T> Reader<T> {
    /// The current value, for one burst. Taking it again is the quiescent state.
    #[inline]
    pub fn read(&mut self) -> &T {
        let guard = match &mut self.guard {
            Some(guard) => {
                guard.repin();
                guard
            }
            none => none.insert(epoch::pin()),
        };
        let shared = self.cell.0.load(Ordering::Acquire, guard);
        // SAFETY: never null before the cell's drop; pinned by the guard, which lives as long as
        // the returned borrow of `self` at least.
        unsafe { shared.deref() }
    }

    /// Lets go of everything, before sleeping.
    pub fn rest(&mut self) {
        self.guard = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::{Duration, Instant};

    struct Counted(u64, Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
        }
    }

    fn reclaim_until(
        publisher: &mut Publisher<Counted>,
        dropped: &AtomicUsize,
        count: usize,
    ) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while dropped.load(SeqCst) < count && Instant::now() < deadline {
            publisher.reclaim();
            std::thread::yield_now();
        }
        dropped.load(SeqCst) == count
    }

    #[test]
    fn a_pinned_reader_keeps_its_value_and_a_resting_one_keeps_nothing() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let value = |n| Counted(n, Arc::clone(&dropped));
        let mut publisher = Publisher::new(value(1));
        let mut reader = publisher.subscription().into_reader();
        let held = reader.read();
        publisher.publish(Arc::new(value(2)));
        for _ in 0..1_000 {
            publisher.reclaim();
        }
        assert_eq!((held.0, dropped.load(SeqCst)), (1, 0));
        assert_eq!(reader.read().0, 2);
        reader.rest();
        assert!(reclaim_until(&mut publisher, &dropped, 1));
        drop((publisher, reader));
        assert_eq!(dropped.load(SeqCst), 2);
    }

    #[test]
    fn readers_on_other_threads_see_versions_in_order() {
        let mut publisher = Publisher::new(0u64);
        let subscriptions: Vec<_> = (0..2).map(|_| publisher.subscription()).collect();
        std::thread::scope(|scope| {
            for subscription in subscriptions {
                scope.spawn(move || {
                    let mut reader = subscription.into_reader();
                    let mut last = 0;
                    while last < 10_000 {
                        let now = *reader.read();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
            (1..=10_000).for_each(|n| publisher.publish(Arc::new(n)));
        });
    }
}
