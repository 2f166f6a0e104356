//! The one CPU hint that the table needs.
#![expect(unsafe_code, reason = "the prefetch instruction has no safe form in core")]

/// Asks the CPU to bring the cache line of `value` close. Never faults, changes nothing.
#[inline(always)]
pub(crate) fn line<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetch accepts any address, and this one comes from a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
