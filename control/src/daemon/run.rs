//! Start to stop: what is made in which order, and taken away again.

use crate::admin::query::mailbox;
use crate::admin::server::Listening;
use crate::config::{Config, CpuList, HostFacts, Latency, interface_config, node_name};
use crate::daemon::control::{Control, Inputs};
use crate::daemon::reserved_ports::{KERNEL_LIST, NOTE, ReservedPorts};
use crate::daemon::signals;
use crate::daemon::{banner, host, report};
use crate::fault::{Exit, Fault};
use crate::latency::log::HistogramLog;
use crate::netlink::{KernelRoadDevices, Mirror, NetlinkError, NetworkState};
use crate::source::Source;
use sd_notify::NotifyState;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tidegate_dataplane::engine::{Engine, EngineError, WorkerPlacement};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration's file, for the banner, and to be read again at SIGHUP.
    pub file: PathBuf,
    /// The configuration.
    pub config: Config,
    /// Warnings alone on stderr.
    pub quiet: bool,
}

/// Runs until SIGTERM or SIGINT, then leaves the host as it was.
///
/// # Errors
/// A capability is missing (77), or the host cannot do it (69). What was made is removed again.
pub async fn run(options: Options) -> Result<(), Fault> {
    let begin = Instant::now();
    host::check_capabilities()?;
    let unlocked = host::lock_memory();
    let stop = stop_signal()?;
    // From here on it ends nobody: what comes before the first state is there waits.
    let hangup = signal(SignalKind::hangup()).map_err(|error| signal_fault(&error))?;
    // Load-bearing: first of all. A second daemon must not take the first one's devices away.
    let listening = Listening::try_new(&options.config.admin_socket).await;
    let listening = listening.map_err(|e| Fault::from_error(Exit::Unavailable, "start", &e))?;
    let log = open_log(&options.config.latency)?;
    let mirror = Mirror::start().await.map_err(|error| netlink_fault(&error))?;
    let facts = host_facts(&options.config, &mirror.state());
    let queues = options.config.worker_cpus(&facts).len();
    let queues = u32::try_from(queues).unwrap_or(u32::MAX);
    let road = KernelRoadDevices::create(&mirror, queues).await;
    let road = road.map_err(|error| netlink_fault(&error))?;
    let engine = Engine::start(options.config.to_engine(&facts, road.kernel_road()));
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => {
            remove_road(road, &mirror).await;
            return Err(engine_fault(&error));
        }
    };
    let range = options.config.load_balancer.source_port_range.0;
    // Beside the socket: gone with the next boot, as the kernel's list is.
    let note = options.config.admin_socket.with_file_name(NOTE);
    let reserved = ReservedPorts::add(Path::new(KERNEL_LIST), &note, range);
    let node = node_name(&options.config.hostname_override);
    let mut control = Control::new(options.config.clone(), node, engine, mirror);
    if let Some(log) = log {
        control.latency.log_to(log);
    }
    control.warnings = start_warnings(&control.engine, &reserved).await;
    control.warnings.extend(unlocked);
    let served = Session { options, listening, begin, hangup }.serve(&mut control, stop).await;
    let Control { engine, mirror, .. } = control;
    engine.stop();
    if let Ok(Err(error)) = reserved.map(ReservedPorts::take_back) {
        tracing::warn!(%error, "cannot take the reserved source ports back");
    }
    remove_road(road, &mirror).await;
    served
}

struct Session {
    options: Options,
    listening: Listening,
    begin: Instant,
    hangup: Signal,
}

impl Session {
    async fn serve(
        self,
        control: &mut Control,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Fault> {
        let Self { options, listening, begin, hangup } = self;
        let (mailbox, queries) = mailbox();
        let source = Source::start(&options.config, &control.node);
        let source = source
            .map_err(|error| Fault::from_error(Exit::Unavailable, "start the source", &error))?;
        let mut inputs = Inputs { source, queries, hangup: (hangup, options.file.clone()) };
        control.signals.open(mailbox.clone());
        // Health is answered before the source is, as the kubelet expects.
        signals::tick(control, Instant::now());
        control.signals.publish_events(&options.config, &control.node);
        control.first(&mut inputs).await;
        check_zero_copy(control)?;
        let status = report::status(control);
        let lines =
            banner::lines(&status, &report::workers(control), &options.file, begin.elapsed());
        banner::show(&lines, options.config.logging.format, options.quiet);
        let server = tokio::spawn(listening.serve(mailbox));
        report::tell_systemd(control);
        control.run(inputs, stop).await;
        control.end_latency();
        tell_stopping();
        server.abort();
        // The socket goes with the aborted task, which is over once it was waited for.
        server.await.ok();
        Ok(())
    }
}

/// The file of histograms, where one is wanted: it must not be missed after hours.
fn open_log(latency: &Latency) -> Result<Option<HistogramLog>, Fault> {
    let path = &latency.histogram_log;
    let Some(every) = latency.sample.0.filter(|_| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let fault = |error: io::Error| {
        Fault::new(Exit::Unavailable, format!("failed to open {}", path.display()))
            .kernel(error.to_string())
            .fix("make its folder, or set latency.histogramLog to another path or \"\"")
    };
    HistogramLog::open(path, every.get()).map(Some).map_err(fault)
}

/// What a start with these workers is less than.
async fn start_warnings(engine: &Engine, reserved: &io::Result<ReservedPorts>) -> Vec<String> {
    let mut warnings: Vec<_> = engine.placements().iter().flat_map(worker_warnings).collect();
    if let Some(error) = engine.guard_refused() {
        warnings.push(format!(
            "a connection that the node masquerades may get a source port of ours to the same \
             backend, and break (failed to {error}): Linux 6.4 can prevent that; else give \
             loadBalancer.snatAddresses an address that nothing else on the node sends from"
        ));
    }
    if let Err(error) = reserved {
        warnings.push(format!(
            "source ports are not reserved in {KERNEL_LIST} ({error}): a connection of the node \
             itself may get one and break"
        ));
    }
    warnings.extend(host::filter_warning().await);
    warnings
}

fn worker_warnings(placement: &WorkerPlacement) -> Vec<String> {
    let id = placement.worker.0;
    let unpinned = placement.cpu.is_none();
    let unpinned =
        unpinned.then(|| format!("worker {id} is not pinned to a CPU: set workers.cpus"));
    let refused = placement.io_uring_refused.iter();
    let refused = refused.map(|words| format!("worker {id} sleeps by poll: no io_uring: {words}"));
    unpinned.into_iter().chain(refused).collect()
}

/// `requireZeroCopy` means the start: an interface that refuses it must not run in another mode
/// unnoticed, nor be missing.
fn check_zero_copy(control: &Control) -> Result<(), Fault> {
    let entry = |name: &str| interface_config(&control.config.interfaces, name);
    let refused = control.attachments.refused().values();
    let mut refused =
        refused.filter(|refused| entry(&refused.name).is_some_and(|entry| entry.require_zero_copy));
    match refused.next() {
        Some(refused) => Err(engine_fault(&refused.error)
            .have(format!("interface {} with requireZeroCopy: true", refused.name))),
        None => Ok(()),
    }
}

/// What defaults depend on.
fn host_facts(config: &Config, network: &NetworkState) -> HostFacts {
    let is_configured = |name: &str| interface_config(&config.interfaces, name).is_some();
    let configured = network.links.values().filter(|link| is_configured(&link.name));
    let widest = configured.map(|link| link.rx_queue_count).max().unwrap_or(1);
    HostFacts { cpus: allowed_cpus(), queue_count_max: usize::try_from(widest).unwrap_or(1) }
}

/// The CPUs that this process may run on; none where /proc does not tell.
fn allowed_cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.and_then(|list| list.trim().parse::<CpuList>().ok());
    list.map(|list| list.numbers().iter().map(|cpu| *cpu as usize).collect()).unwrap_or_default()
}

fn stop_signal() -> Result<impl Future<Output = ()>, Fault> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| signal_fault(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| signal_fault(&error))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    })
}

fn signal_fault(error: &io::Error) -> Fault {
    Fault::from_error(Exit::Unavailable, "listen for signals", error)
}

fn tell_stopping() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Stopping]) {
        tracing::debug!(%error, "systemd does not listen");
    }
}

async fn remove_road(road: KernelRoadDevices, mirror: &Mirror) {
    if let Err(error) = road.remove(mirror).await {
        tracing::warn!(%error, "cannot remove the devices of the road back; the next start does");
    }
}

fn netlink_fault(error: &NetlinkError) -> Fault {
    Fault::from_error(Exit::Unavailable, "prepare the network", error)
}

fn engine_fault(error: &EngineError) -> Fault {
    let exit = if error.errno == libc::EPERM { Exit::NoPermission } else { Exit::Unavailable };
    let fault = Fault::new(exit, format!("failed to {}", error.what)).kernel(error.kernel.clone());
    match &error.fix {
        Some(fix) => fault.fix(fix.clone()),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::types::WorkerId;

    #[test]
    fn a_worker_without_pin_or_io_uring_is_named() {
        let placement = WorkerPlacement {
            worker: WorkerId(3),
            cpu: None,
            io_uring_refused: Some("EPERM".to_owned()),
        };
        let expected = [
            "worker 3 is not pinned to a CPU: set workers.cpus",
            "worker 3 sleeps by poll: no io_uring: EPERM",
        ];
        assert_eq!(worker_warnings(&placement), expected);
        let fine = WorkerPlacement { cpu: Some(1), io_uring_refused: None, ..placement };
        assert!(worker_warnings(&fine).is_empty());
    }

    #[test]
    fn a_refused_capability_is_exit_code_77() {
        let error = |errno| EngineError {
            what: "load the XDP program".to_owned(),
            kernel: "EPERM".to_owned(),
            errno,
            fix: Some("add CAP_BPF".to_owned()),
        };
        assert_eq!(engine_fault(&error(libc::EPERM)).exit, Exit::NoPermission);
        let other = engine_fault(&error(libc::ENOMEM));
        assert_eq!((other.exit, other.fix.as_deref()), (Exit::Unavailable, Some("add CAP_BPF")));
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed_cpus().is_empty());
    }
}
