//! The daemon itself: its version, whether it is ready, what it takes of the host.

use crate::admin::report::StatusReport;
use crate::daemon::reload::ReloadStatus;
use crate::daemon::report::metrics::workers::unix_seconds;
use crate::metrics::family::Family;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::SystemTime;

pub(super) fn families(status: &StatusReport, started: SystemTime) -> Vec<Family> {
    let mut info = Family::gauge("tidegate_build_info", "The running version.");
    info.push([("version", status.version.clone().into())], 1);
    let ready = Family::gauge("tidegate_ready", "Whether every check of /readyz holds.");
    let warnings = Family::gauge("tidegate_warnings", "What tidegate status warns of now.");
    let source = Family::gauge("tidegate_source_up", "Whether nothing of the source is refused.");
    let kept = Family::gauge(
        "tidegate_source_kept_age_seconds",
        "Age of the state kept on disk that serves; 0 once the source itself told all.",
    );
    let mut families = vec![
        info,
        ready.with(u64::from(status.ready)),
        warnings.with(status.warnings.len() as u64),
        source.with(u64::from(status.source.error.is_none())),
        kept.with(status.source.kept_age_seconds.unwrap_or(0)),
    ];
    families.extend(process(started));
    families
}

/// Whether what runs is what its file says.
pub(super) fn config(reload: &ReloadStatus) -> [Family; 2] {
    let stale = Family::gauge(
        "tidegate_config_stale",
        "Whether the configuration was refused when it was read last: the one before it runs.",
    );
    let read = Family::gauge(
        "tidegate_config_reload_success_timestamp_seconds",
        "When the configuration that runs was read.",
    );
    [stale.with(u64::from(reload.error.is_some())), read.with_real(unix_seconds(reload.read))]
}

/// What `/healthz` tells outer balancers by 503, but for a stale packet path.
pub(super) fn draining(is_draining: bool) -> Family {
    let help = "Whether the Node is deleted, or marked to go: no new traffic should come.";
    Family::gauge("tidegate_draining", help).with(u64::from(is_draining))
}

/// Prometheus' own names for what every process has.
fn process(started: SystemTime) -> Vec<Family> {
    let start = Family::gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    );
    let cpu =
        Family::counter("process_cpu_seconds", "Total user and system CPU time spent in seconds.");
    let memory = Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
    let open = Family::gauge("process_open_fds", "Number of open file descriptors.");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let spent = std::time::Duration::try_from(spent).unwrap_or_default();
    let mut families =
        vec![start.with_real(unix_seconds(started)), cpu.with_real(spent.as_secs_f64())];
    families.extend(resident_bytes(&status).map(|bytes| memory.with(bytes)));
    let descriptors = fs::read_dir("/proc/self/fd").map(Iterator::count);
    families.extend(descriptors.ok().map(|count| open.with(count as u64)));
    families
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12_288));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert_eq!(process(SystemTime::now()).len(), 4, "/proc is not as thought");
    }
}
