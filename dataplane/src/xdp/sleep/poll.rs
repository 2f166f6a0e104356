//! Waiting by poll(2): every descriptor is named at each wait.
#![expect(unsafe_code, reason = "poll(2)")]

use super::WATCHES_MAX;
use core::time::Duration;
use std::os::fd::RawFd;

#[derive(Default)]
pub(super) struct PollSet(Vec<libc::pollfd>);

impl std::fmt::Debug for PollSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|watched| watched.fd)).finish()
    }
}

impl PollSet {
    pub(super) fn add(&mut self, fd: RawFd) -> bool {
        let has_room = self.0.len() < WATCHES_MAX;
        if has_room {
            self.0.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        }
        has_room
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        self.0.retain(|watched| watched.fd != fd);
    }

    /// Whether any has something to read, or is in error.
    pub(super) fn wait(&mut self, timeout: Duration) -> bool {
        // Rounded up: a wait of less than a millisecond must not become a spin.
        let timeout = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let count = self.0.len() as libc::nfds_t;
        // SAFETY: the pointer and count are those of one live vector.
        unsafe { libc::poll(self.0.as_mut_ptr(), count, timeout) > 0 }
    }
}
