//! The one clock: `CLOCK_MONOTONIC`, as the XDP program's stamp. Read once per round of a worker.
#![expect(unsafe_code, reason = "std's Instant does not tell its nanoseconds")]

use crate::types::Time;

/// Now. About 20 ns, no system call (vDSO).
#[inline]
pub(crate) fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    Time(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
}
