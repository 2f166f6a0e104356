//! The size of the kernel's connection table, which is the machine's and not a namespace's.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What kube-proxy sets by default: so many for each CPU, and so many at least.
const PER_CPU: u32 = 32_768;
const LEAST: u32 = 131_072;

/// Entries for each bucket at most: kube-proxy widens the hash table up to that, and no further.
const ENTRIES_PER_BUCKET: u32 = 4;

const FOLDER: &str = "/proc/sys/net/netfilter";
const MAX: &str = "nf_conntrack_max";
const BUCKETS: &str = "nf_conntrack_buckets";

/// A turn's entries that may still be there when the next begins.
const LEFT_MAX: u64 = 20_000;

/// Entries that kube-proxy, left to its defaults, lets this machine's kernel hold.
pub(crate) fn kube_proxy_default() -> Result<u32> {
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?;
    Ok((PER_CPU * cpus).max(LEAST))
}

/// The machine's own settings, which are put back on drop.
#[derive(Debug)]
pub(crate) struct Conntrack {
    before: [u32; 2],
}

impl Conntrack {
    /// Remembers what is set.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { before: [read(MAX)?, read(BUCKETS)?] })
    }

    /// Room for `entries` until this is dropped.
    pub(crate) fn with_room(entries: u32) -> Result<Self> {
        settle()?;
        let table = Self::open()?;
        table.make_room(entries)?;
        Ok(table)
    }

    /// Room for `entries`, set as kube-proxy would set it.
    pub(crate) fn make_room(&self, entries: u32) -> Result<()> {
        write(MAX, entries)?;
        let [_, buckets] = self.before;
        let wanted = buckets.max(entries / ENTRIES_PER_BUCKET);
        if read(BUCKETS)? == wanted { Ok(()) } else { write(BUCKETS, wanted) }
    }
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        let [max, buckets] = self.before;
        for (name, value) in [(MAX, max), (BUCKETS, buckets)] {
            if let Err(error) = write(name, value) {
                eprintln!("{name} is not what it was, {value}: {error:#}");
            }
        }
    }
}

/// Waits until the kernel has removed what a namespace that is gone has left in the table: that is
/// work which the next turn must not bear.
pub(crate) fn settle() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && entries()? > LEFT_MAX {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Entries of all namespaces.
fn entries() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("nf_conntrack "));
    // No such cache: no table was ever used.
    let used = line.and_then(|line| line.split_whitespace().next());
    used.map_or(Ok(0), |used| used.parse().context("read /proc/slabinfo"))
}

fn read(name: &str) -> Result<u32> {
    let path = Path::new(FOLDER).join(name);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("read {}; `modprobe nf_conntrack` if it is not there", path.display())
    })?;
    text.trim().parse().with_context(|| format!("understand {}", path.display()))
}

fn write(name: &str, value: u32) -> Result<()> {
    let path = Path::new(FOLDER).join(name);
    fs::write(&path, value.to_string())
        .with_context(|| format!("set {} to {value}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_kube_proxys() {
        let entries = kube_proxy_default().unwrap();
        assert!(entries >= 131_072 && entries.is_multiple_of(32_768));
    }
}
