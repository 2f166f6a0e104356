//! The one clock of generator and sink: CLOCK_MONOTONIC, the same in all network namespaces.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some time before.
#[inline]
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}
