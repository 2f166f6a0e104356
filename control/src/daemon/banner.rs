//! What `tidegate run` says when it starts: what it found, and every compromise by name.

use crate::admin::report::{StatusReport, WorkerReport};
use crate::config::{LogFormat, LogLevel, Logging};
use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log on stderr. `verbose` and `quiet` win over the file.
pub fn start_log(logging: &Logging, verbose: bool, quiet: bool) {
    let level = match logging.level {
        LogLevel::Error if !verbose => Level::ERROR,
        _ if quiet => Level::WARN,
        LogLevel::Trace => Level::TRACE,
        _ if verbose => Level::DEBUG,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info | LogLevel::Error => Level::INFO,
    };
    // kube's client logs each failed request too; what failed is told by the source, once.
    let own = Targets::new().with_default(level);
    let filter = if level > Level::INFO { own } else { own.with_target("kube", LevelFilter::OFF) };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    let is_coloured = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let log = log.with_target(false).with_ansi(is_coloured);
    match logging.format {
        LogFormat::Json => log.json().finish().with(filter).init(),
        LogFormat::Text => log.finish().with(filter).init(),
    }
}

/// Writes the banner: as text, or where the log is JSON as log lines.
pub(crate) fn show(lines: &[(String, String)], format: LogFormat, quiet: bool) {
    for (head, text) in lines {
        let is_warning = head == "WARN";
        match format {
            LogFormat::Json if is_warning => tracing::warn!("{text}"),
            LogFormat::Json => tracing::info!("{head}: {text}"),
            LogFormat::Text if quiet && !is_warning => {}
            LogFormat::Text => {
                // Nobody reads a closed stderr.
                writeln!(io::stderr(), "{head:<8} {text}").ok();
            }
        }
    }
}

/// The banner's lines: a head and a text each.
pub(crate) fn lines(
    status: &StatusReport,
    workers: &[WorkerReport],
    config: &Path,
    since_start: Duration,
) -> Vec<(String, String)> {
    let line = |head: &str, text: String| (head.to_owned(), text);
    let version = format!("{} kernel {} node {}", status.version, status.kernel, status.node);
    let mut lines =
        vec![line("tidegate", version), line("config", format!("{} ok", config.display()))];
    lines.extend(status.interfaces.iter().map(|i| line(&i.name, i.modes())));
    lines.push(line("workers", workers.iter().map(worker).collect::<Vec<_>>().join(", ")));
    let source = &status.source;
    let served = format!("{} service ports, {} fronts", source.service_ports, source.fronts);
    lines.push(line("services", format!("{served} from {}", source.location)));
    lines.extend(status.warnings.iter().map(|warning| line("WARN", warning.clone())));
    let failed: Vec<_> = status.checks.iter().filter(|check| !check.ok).collect();
    lines.push(if failed.is_empty() {
        line("ready", format!("{:.1} s after start", since_start.as_secs_f64()))
    } else {
        let words = failed.iter().map(|check| format!("{}: {}", check.name, check.detail));
        line("WARN", format!("not ready: {}", words.collect::<Vec<_>>().join("; ")))
    });
    lines
}

fn worker(worker: &WorkerReport) -> String {
    let place = worker.cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
    format!("{} on {place}, sleeps by {}", worker.worker, worker.sleep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;

    fn text(status: &StatusReport) -> String {
        let config = Path::new("/etc/c.yaml");
        let lines = lines(status, &[fixtures::worker()], config, Duration::from_millis(912));
        let text = |(head, text): (String, String)| format!("{head:<8} {text}\n");
        lines.into_iter().map(text).collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_banner_names_what_is_missing() {
        let expected = "\
tidegate 0.1.0 kernel 6.18.0 node gw-1
config   /etc/c.yaml ok
eth0     generic XDP, COPY, 2 queues, MTU 1500
eth1     not attached, MTU 9000
workers  0 on CPU 1, sleeps by io_uring
services 2 service ports, 4 fronts from /etc/m
WARN     the host has packet filter rules
WARN     not ready: interfaces: eth1: Peer MTU is too large
";
        assert_eq!(text(&fixtures::status()), expected);
    }

    #[test]
    fn ready_is_said_with_the_time_it_took() {
        let mut status = fixtures::status();
        status.checks.clear();
        assert!(text(&status).ends_with("ready    0.9 s after start\n"));
    }
}
