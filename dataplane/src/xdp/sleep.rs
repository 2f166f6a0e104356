//! The worker's sleep (T15): until a descriptor has something to read, somebody pokes, or time is
//! out. By io_uring where the kernel permits it, else by poll(2).
//!
//! A worker sleeps only after it found all its rings empty. What came since then wakes it at once:
//! poll(2) looks at the state, and io_uring has an event queued since the descriptor was armed.

mod poll;
mod ring;

use crate::engine::EngineError;
use crate::xdp::kernel_words::{last_refused, refused};
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;
use poll::PollSet;
use ring::RingSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Longest sleep: a sleeping worker must beat while its heartbeat is fresh (T2). Longer waits are
/// cut to this.
pub const SLEEP_MAX: Duration = Duration::from_millis(250);

/// Descriptors watched at once, the waker's own included. At the limit `watch` refuses.
pub const WATCHES_MAX: usize = 256;

/// How a [`Sleeper`] sleeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SleepBackend {
    /// io_uring: what to watch is told once.
    IoUring,
    /// poll(2): what to watch is told at each sleep.
    Poll {
        /// Why not io_uring, in the kernel's words.
        refused: String,
    },
}

/// One worker's sleep. May be made on any thread; belongs to the first that sleeps, which is also
/// to drop it: only then are the watched sockets free at once.
#[derive(Debug)]
pub struct Sleeper {
    watched: Watched,
    waker: Waker,
}

#[derive(Debug)]
enum Watched {
    Ring(Box<RingSet>),
    Poll(PollSet),
}

impl Sleeper {
    /// A sleeper by io_uring, or by poll(2) where the kernel or a container's profile forbids it.
    ///
    /// # Errors
    /// No file descriptor left for the waker.
    pub fn try_new() -> Result<(Self, SleepBackend), EngineError> {
        match ring::probe().and_then(|()| RingSet::try_new()) {
            Ok(ring) => Ok((Self::with(Watched::Ring(Box::new(ring)))?, SleepBackend::IoUring)),
            Err(error) => {
                let error = refused("use io_uring", error.raw_os_error().unwrap_or(0), None);
                Ok((Self::by_poll()?, SleepBackend::Poll { refused: error.kernel }))
            }
        }
    }

    /// A sleeper by poll(2).
    ///
    /// # Errors
    /// No file descriptor left for the waker.
    pub fn by_poll() -> Result<Self, EngineError> {
        Self::with(Watched::Poll(PollSet::default()))
    }

    fn with(watched: Watched) -> Result<Self, EngineError> {
        let waker = Waker::try_new()?;
        let mut sleeper = Self { watched, waker };
        let own = sleeper.waker.0.event.as_raw_fd();
        sleeper.add(own)?;
        Ok(sleeper)
    }

    /// Wakes from now on when `fd` has something to read or is in error. To be undone by
    /// [`Sleeper::unwatch`] before `fd` is closed.
    ///
    /// # Errors
    /// [`WATCHES_MAX`] are watched already.
    pub fn watch(&mut self, fd: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.add(fd.as_raw_fd())
    }

    fn add(&mut self, fd: RawFd) -> Result<(), EngineError> {
        let is_added = match &mut self.watched {
            Watched::Ring(ring) => ring.add(fd),
            Watched::Poll(poll) => poll.add(fd),
        };
        let limit = format!("{WATCHES_MAX} are watched already");
        is_added.then_some(()).ok_or_else(|| refused("watch a socket", libc::ENOSPC, Some(&limit)))
    }

    /// Forgets `fd`; when it returns, the kernel holds no reference to it on our behalf, so closing
    /// it frees the socket. Right also when it is not watched.
    pub fn unwatch(&mut self, fd: BorrowedFd<'_>) {
        match &mut self.watched {
            Watched::Ring(ring) => ring.remove(fd.as_raw_fd()),
            Watched::Poll(poll) => poll.remove(fd.as_raw_fd()),
        }
    }

    /// Sleeps until a watched descriptor has something to read, somebody pokes, or `timeout` is out
    /// (at most [`SLEEP_MAX`]). A poke since the last sleep counts: then it does not sleep at all.
    /// Returns whether something woke it; that may be something the caller has dealt with already.
    pub fn sleep(&mut self, timeout: Duration) -> bool {
        if !self.waker.0.fall_asleep() {
            return true;
        }
        let timeout = timeout.min(SLEEP_MAX);
        let is_woken = match &mut self.watched {
            Watched::Ring(ring) => ring.wait(timeout),
            Watched::Poll(poll) => poll.wait(timeout),
        };
        self.waker.0.wake_up(is_woken);
        is_woken
    }

    /// A handle to wake this sleeper from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Wakes a [`Sleeper`].
#[derive(Debug, Clone)]
pub struct Waker(Arc<Bell>);

impl Waker {
    fn try_new() -> Result<Self, EngineError> {
        let event = event_fd()?;
        Ok(Self(Arc::new(Bell { state: AtomicU8::new(AWAKE), event: event.into() })))
    }

    /// Wakes the sleeper, or keeps it from its next sleep. To be called after the work for it was
    /// put where it looks. A system call only if it sleeps.
    pub fn poke(&self) {
        // Release: what was put there before is seen by whoever swaps the state next.
        if self.0.state.swap(POKED, Ordering::AcqRel) == ASLEEP {
            // Fails only where the counter is full, which means that it rings already.
            drop((&self.0.event).write(&1_u64.to_ne_bytes()));
        }
    }
}

/// What a waker and its sleeper share.
#[derive(Debug)]
struct Bell {
    state: AtomicU8,
    event: File,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Poked, and the sleeper has not taken notice yet.
const POKED: u8 = 2;

impl Bell {
    /// Whether to sleep: not if poked since the last sleep.
    fn fall_asleep(&self) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let is_asleep = self.state.compare_exchange(AWAKE, ASLEEP, success, failure).is_ok();
        if !is_asleep {
            self.state.swap(AWAKE, Ordering::AcqRel);
        }
        is_asleep
    }

    /// `is_woken`: something ended the sleep.
    fn wake_up(&self, is_woken: bool) {
        let is_poked = self.state.swap(AWAKE, Ordering::AcqRel) == POKED;
        if is_poked || is_woken {
            // Nothing there yet if the poker is between its swap and its write: then the next sleep
            // ends at once, for no reason. Load-bearing: that sleep was not poked, but it must
            // read too, or the counter would end every sleep from then on.
            drop((&self.event).read(&mut [0; 8]));
        }
    }
}

#[expect(unsafe_code, reason = "the standard library has no eventfd")]
fn event_fd() -> Result<OwnedFd, EngineError> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(last_refused("make an eventfd"));
    }
    // SAFETY: a file descriptor that the kernel just gave us, and nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
