//! Waiting by io_uring: every descriptor is armed once (multishot poll), a wait is one system call
//! whatever their number.
//!
//! A poll request holds a reference to the socket, so a socket that is closed while armed lives on
//! and keeps its queue bound: `remove` waits until the request has ended.
#![expect(unsafe_code, reason = "requests name file descriptors, which the kernel cannot check")]

use super::poll::PollSet;
use super::{SLEEP_MAX, WATCHES_MAX};
use core::time::Duration;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::os::fd::RawFd;
use std::{io, mem};

/// Room for every request at once, so that a wait never has to submit twice.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
const ENTRIES: u32 = WATCHES_MAX as u32;

/// A request to cancel bears this; requests to poll bear their place in `slots`.
const CANCEL: u64 = u64::MAX;

/// Waits for one cancellation, each up to [`CANCEL_WAIT`]. The kernel ends it within the first. All
/// of them are no longer than a sleep: the worker does not beat meanwhile.
const CANCEL_WAITS_MAX: u32 = 10;
const _: () = assert!(
    CANCEL_WAIT.saturating_mul(CANCEL_WAITS_MAX).as_millis() <= SLEEP_MAX.as_millis(),
    "it would look as if it hung"
);
const CANCEL_WAIT: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, Copy)]
struct Slot {
    fd: RawFd,
    is_armed: bool,
}

pub(super) struct RingSet {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    is_enabled: bool,
    /// Something happened that no wait has told yet.
    has_news: bool,
}

impl std::fmt::Debug for RingSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingSet").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Whether the kernel lets us: a ring of the kind that we use is made, and does a round.
pub(super) fn probe() -> io::Result<()> {
    let mut ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(1)?;
    let nothing = opcode::Nop::new().build();
    // SAFETY: refers to no memory and no descriptor.
    unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
    wait_once(&ring, Duration::from_secs(1))?;
    ring.completion().next().map(drop).ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// Submits, and waits for one completion.
fn wait_once(ring: &IoUring, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::from(timeout);
    let arguments = SubmitArgs::new().timespec(&timeout);
    match ring.submitter().submit_with_args(1, &arguments) {
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result.map(drop),
    }
}

impl RingSet {
    pub(super) fn try_new() -> io::Result<Self> {
        let ring = IoUring::builder()
            // Completions are posted while we wait, not by interrupting the worker at work.
            .setup_single_issuer()
            .setup_defer_taskrun()
            // The thread that enables it becomes the issuer: not this one, but the worker's.
            .setup_r_disabled()
            .build(ENTRIES)?;
        Ok(Self {
            ring,
            slots: Vec::with_capacity(WATCHES_MAX),
            is_enabled: false,
            has_news: false,
        })
    }

    pub(super) fn add(&mut self, fd: RawFd) -> bool {
        let slot = Some(Slot { fd, is_armed: false });
        if let Some(free) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            *free = slot;
            return true;
        }
        let has_room = self.slots.len() < WATCHES_MAX;
        if has_room {
            self.slots.push(slot);
        }
        has_room
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        let of_fd = |slot: &Option<Slot>| slot.is_some_and(|slot| slot.fd == fd);
        let Some(index) = self.slots.iter().position(of_fd) else { return };
        self.disarm(index);
        self.slots[index] = None;
    }

    fn disarm(&mut self, index: usize) {
        if !self.is_armed(index) {
            return;
        }
        for _ in 0..CANCEL_WAITS_MAX {
            // Each time anew: a request that is just being woken cannot be cancelled (EALREADY),
            // and a multishot one goes on afterwards.
            self.push(&opcode::PollRemove::new(index as u64).build().user_data(CANCEL));
            let result = wait_once(&self.ring, CANCEL_WAIT);
            self.take_completions();
            if !self.is_armed(index) || result.is_err() {
                return;
            }
        }
    }

    fn is_armed(&self, index: usize) -> bool {
        self.slots.get(index).copied().flatten().is_some_and(|slot| slot.is_armed)
    }

    /// Whether anything happened since the last wait.
    pub(super) fn wait(&mut self, timeout: Duration) -> bool {
        self.arm_all();
        // Told already while a descriptor was disarmed: the worker must look, not sleep.
        let timeout = if self.has_news { Duration::ZERO } else { timeout };
        if !self.enable() || wait_once(&self.ring, timeout).is_err() {
            // The kernel has changed its mind. Slower, but no spin and no lost packet.
            return self.wait_by_poll(timeout);
        }
        self.take_completions();
        mem::take(&mut self.has_news)
    }

    fn wait_by_poll(&self, timeout: Duration) -> bool {
        let mut set = PollSet::default();
        for slot in self.slots.iter().flatten() {
            set.add(slot.fd);
        }
        set.wait(timeout)
    }

    fn enable(&mut self) -> bool {
        self.is_enabled = self.is_enabled || self.ring.submitter().register_enable_rings().is_ok();
        self.is_enabled
    }

    /// Whether io_uring, not the fallback, does the waiting.
    #[cfg(test)]
    pub(super) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    fn arm_all(&mut self) {
        for index in 0..self.slots.len() {
            let Some(Some(slot)) = self.slots.get(index).copied() else { continue };
            if slot.is_armed {
                continue;
            }
            // An armed descriptor that is ready already completes at once.
            let poll = opcode::PollAdd::new(Fd(slot.fd), libc::POLLIN as u32).multi(true);
            let is_armed = self.push(&poll.build().user_data(index as u64));
            self.slots[index] = Some(Slot { fd: slot.fd, is_armed });
        }
    }

    fn push(&mut self, request: &squeue::Entry) -> bool {
        // SAFETY: refers to no memory, and to a descriptor at most: one that is closed already only
        // completes with an error.
        unsafe { self.ring.submission().push(request) }.is_ok()
    }

    fn take_completions(&mut self) {
        for completion in self.ring.completion() {
            self.has_news |= completion.user_data() != CANCEL;
            let index = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let slot = self.slots.get_mut(index).and_then(Option::as_mut);
            if let Some(slot) = slot.filter(|_| !cqueue::more(completion.flags())) {
                // Ended, by us or by the kernel: to be armed anew.
                slot.is_armed = false;
            }
        }
    }
}

impl Drop for RingSet {
    fn drop(&mut self) {
        // The kernel ends a ring's requests some time after it is closed; a socket's next bind
        // cannot wait for that.
        for index in 0..self.slots.len() {
            self.disarm(index);
        }
    }
}
