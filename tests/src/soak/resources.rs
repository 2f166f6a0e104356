//! What the daemon holds: memory and file descriptors.

use crate::setting::resident_kib;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::fs;

/// How much the memory may differ between the beginning and the end, in KiB: pages that the
/// allocator keeps. A leak of a hundred bytes in each request is more in half an hour.
const GROWTH_KIB_MAX: u64 = 4096;

/// A process, and its memory as it was seen.
#[derive(Debug)]
pub(super) struct Resources {
    pid: u32,
    /// KiB of resident memory at each look.
    samples: Vec<u64>,
}

impl Resources {
    pub(super) const fn new(pid: u32) -> Self {
        Self { pid, samples: Vec::new() }
    }

    /// Looks at the memory.
    pub(super) fn sample(&mut self) -> Result<()> {
        self.samples.push(resident_kib(self.pid)?);
        Ok(())
    }

    /// How many file descriptors of each kind it has.
    pub(super) fn descriptors(&self) -> Result<BTreeMap<String, u32>> {
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid))? {
            // It may have been closed since.
            let Ok(target) = fs::read_link(entry?.path()) else { continue };
            let target = target.display().to_string();
            let kind = target.split(":[").next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        Ok(kinds)
    }

    /// The memory after the warm-up and at the end: the means of the second and the last quarter.
    ///
    /// # Errors
    /// It has grown.
    pub(super) fn ensure_flat(&self) -> Result<[u64; 2]> {
        let quarter = self.samples.len() / 4;
        ensure!(quarter > 0, "too few looks at the memory: {:?}", self.samples);
        let mean = |samples: &[u64]| samples.iter().sum::<u64>() / samples.len() as u64;
        let warm = mean(&self.samples[quarter..2 * quarter]);
        let last = mean(&self.samples[self.samples.len() - quarter..]);
        let samples = &self.samples;
        ensure!(
            last <= warm + GROWTH_KIB_MAX,
            "memory grew from {warm} to {last} KiB: {samples:?}"
        );
        Ok([warm, last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_told_and_a_warm_up_is_not() {
        let flat = |samples: Vec<u64>| Resources { pid: 0, samples }.ensure_flat();
        assert!(flat(vec![1000, 90_000, 90_001, 90_002]).is_ok());
        assert!(flat(vec![1000, 1000, 3000, 1000 + GROWTH_KIB_MAX + 1]).is_err());
        assert!(flat(vec![1; 3]).is_err(), "too few");
    }
}
