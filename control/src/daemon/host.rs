//! What the host grants and what it has beside us: capabilities, packet filters, the kernel.

use crate::fault::{Exit, Fault};
use rustix::mm::{MlockAllFlags, mlockall};
use std::fs;
use std::process::Stdio;
use tokio::process::Command;

/// The capabilities that the daemon needs, by their bit (linux/capability.h).
const NEEDED: &[(&str, u32)] =
    &[("NET_ADMIN", 12), ("NET_RAW", 13), ("IPC_LOCK", 14), ("PERFMON", 38), ("BPF", 39)];

/// The old capability that contains the two new ones.
const SYS_ADMIN: u32 = 21;

/// Checks that the process has what attaching, binding and locking need.
///
/// # Errors
/// Names what is missing; exit code 77.
pub fn check_capabilities() -> Result<(), Fault> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(effective) = effective_capabilities(&status) else {
        return Err(Fault::new(
            Exit::Unavailable,
            "cannot read /proc/self/status: is /proc mounted?",
        ));
    };
    let missing = missing_capabilities(effective);
    if missing.is_empty() {
        return Ok(());
    }
    let have = NEEDED.iter().map(|(name, _)| *name).filter(|name| !missing.contains(name));
    let have: Vec<_> = have.collect();
    let have = if have.is_empty() { "none of the five".to_owned() } else { have.join(" ") };
    let what = format!("capabilities are missing: {}", missing.join(" "));
    Err(Fault::new(Exit::NoPermission, what).have(have).fix(
        "run as root, or grant them: AmbientCapabilities= of the systemd unit, \
         securityContext.capabilities.add of the pod",
    ))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    // The kernel takes SYS_ADMIN where it wants BPF or PERFMON.
    let granted = |bit: u32| has(bit) || (bit > 31 && has(SYS_ADMIN));
    NEEDED.iter().filter(|(_, bit)| !granted(*bit)).map(|(name, _)| *name).collect()
}

/// Keeps in memory what was touched once. The kernel takes back pages of the program's own text
/// while others write much, and a worker that then waits for the disk misses its heartbeat: seen as
/// one second without service in half an hour beside compilers. What it returns is a warning.
pub fn lock_memory() -> Option<String> {
    // Not all at once: most of the program is never run, and tables are larger than their use.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let error = mlockall(flags).err()?;
    Some(format!(
        "memory is not locked ({error}): workers may have to wait for the disk when memory is short"
    ))
}

/// The kernel's release.
pub fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if release.trim().is_empty() { "unknown".to_owned() } else { release.trim().to_owned() }
}

/// Says so where the host filters packets that will not pass its filters any more (T13).
pub async fn filter_warning() -> Option<String> {
    let legacy = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let nft = Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).output().await;
    let nft = nft.ok().filter(|output| output.status.success());
    let nft = nft.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    describe_filters(&legacy, nft.as_deref())
}

fn describe_filters(legacy: &str, nft: Option<&str>) -> Option<String> {
    let legacy = legacy.lines().map(|table| format!("iptables {table}"));
    let tables = nft.unwrap_or_default().lines();
    let tables = tables.map(|line| line.replacen("table ", "nft ", 1));
    let found: Vec<_> = legacy.chain(tables).collect();
    let bypass = "forwarded packets bypass netfilter: the host's firewall and NetworkPolicy on \
                  host interfaces do not see them";
    match (found.is_empty(), nft) {
        (false, _) => Some(format!("packet filter tables exist ({}); {bypass}", found.join(", "))),
        (true, None) => {
            Some(format!("cannot tell whether nftables rules exist (no nft); {bypass}"))
        }
        (true, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 38 | 1 << 39;

    #[test]
    fn each_missing_capability_is_named() {
        assert!(missing_capabilities(ALL).is_empty());
        for (name, bit) in NEEDED {
            assert_eq!(missing_capabilities(ALL & !(1 << bit)), [*name]);
        }
    }

    #[test]
    fn sys_admin_contains_bpf_and_perfmon_alone() {
        assert_eq!(missing_capabilities(1 << SYS_ADMIN), ["NET_ADMIN", "NET_RAW", "IPC_LOCK"]);
    }

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t000000c000007000\n";
        assert_eq!(effective_capabilities(status), Some(ALL));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn filters_are_named_and_ignorance_is_not_silence() {
        assert_eq!(describe_filters("", Some("")), None);
        let both = describe_filters("nat\n", Some("table inet firewall\n")).unwrap();
        assert!(both.contains("(iptables nat, nft inet firewall)"), "{both}");
        assert!(describe_filters("", None).unwrap().contains("cannot tell"));
    }
}
