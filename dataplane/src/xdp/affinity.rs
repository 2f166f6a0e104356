//! Pinning a thread to a CPU.
#![expect(unsafe_code, reason = "sched_setaffinity")]

use crate::engine::EngineError;
use crate::xdp::kernel_words::last_refused;

/// Pins the calling thread to one CPU.
///
/// # Errors
/// No such CPU, or a cpuset that forbids it.
pub fn pin(cpu: usize) -> Result<(), EngineError> {
    // SAFETY: an all-zero set is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    let bits = size_of::<libc::cpu_set_t>() * 8;
    if cpu < bits {
        // SAFETY: `cpu` is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: reads one set; thread 0 is the caller.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result < 0 { Err(last_refused(format!("pin a worker to CPU {cpu}"))) } else { Ok(()) }
}
