//! What is asked of CPU and kernel about memory. Hints: nothing but time hangs on them.
#![expect(unsafe_code, reason = "neither the prefetch instruction nor madvise has a safe form")]

/// Bytes of a huge page, of x86-64 and of arm64 with small pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Asks the CPU to bring the cache line at `place` close. Never faults, changes nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetch accepts any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// So many copies of a value, in huge pages where the kernel grants them: a table of a million
/// flows has forty thousand small pages, of which a CPU remembers the addresses of two thousand.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Box<[T]> {
    let mut values = Vec::with_capacity(count);
    want_huge_pages(values.spare_capacity_mut());
    values.resize(count, value);
    values.into_boxed_slice()
}

/// Before the first touch. A kernel without huge pages, or with none free, gives small ones.
fn want_huge_pages<T>(memory: &mut [T]) {
    let range = memory.as_mut_ptr_range();
    let start = range.start.addr().next_multiple_of(HUGE_PAGE_BYTES);
    let bytes = range.end.addr().saturating_sub(start) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if bytes > 0 {
        let place = range.start.cast::<libc::c_void>().with_addr(start);
        // SAFETY: whole pages within memory that is ours. The advice changes no byte of it.
        unsafe { libc::madvise(place, bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of the mapping of an address.
    fn flags_of(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_in = |line: &&str| {
            let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            let ends = range.and_then(|(from, to)| Some((number(from)?, number(to)?)));
            ends.is_some_and(|(from, to)| (from..to).contains(&address))
        };
        let lines = maps.lines().skip_while(|line| !is_in(line));
        lines.skip(1).find_map(|line| line.strip_prefix("VmFlags:")).unwrap().to_owned()
    }

    #[test]
    fn a_large_table_asks_for_huge_pages_and_holds_its_value() {
        let values = filled(7u64, 1 << 20);
        assert_eq!((values.len(), values.iter().all(|value| *value == 7)), (1 << 20, true));
        let middle = values.as_ptr().addr() + size_of_val(&*values) / 2;
        assert!(flags_of(middle).split_whitespace().any(|flag| flag == "hg"));
        assert_eq!(*filled(3u8, 5), [3; 5]);
    }
}
