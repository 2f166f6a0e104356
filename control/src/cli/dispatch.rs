//! From the command line to its verb, and from the verb's error to the exit code.

use crate::admin::{Client, ClientError};
use crate::cli::args::{Cli, Command, Global};
use crate::cli::verb;
use crate::demo;
use crate::fault::{Exit, Fault, chain};
use clap::Parser as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use tracing::Level;

/// The whole program: parses the command line, does what it says, prints what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(fault) => {
            // Nobody reads a closed stderr; the exit code still tells.
            writeln!(io::stderr(), "{fault}").ok();
            fault.exit.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Fault> {
    let Cli { global, command } = cli;
    let done = ExitCode::SUCCESS;
    match command {
        // The daemon has a log of its own.
        Command::Run(args) => verb::run::run(&args, &global).map(|()| done),
        Command::Explain(args) => {
            log_to_stderr(&global);
            verb::explain::run(Client::new(&global.socket), args)
        }
        command => ask(command, &global).map(|()| done),
    }
}

/// Commands that either do what they say, or fail.
fn ask(command: Command, global: &Global) -> Result<(), Fault> {
    log_to_stderr(global);
    let client = Client::new(&global.socket);
    match command {
        // Handled above.
        Command::Run(_) | Command::Explain(_) => Ok(()),
        Command::Status(args) => block_on(verb::status::run(&client, args.output)),
        Command::Get(args) => block_on(verb::get::run(&client, args, global.quiet)),
        Command::Latency(args) => block_on(verb::latency::run(&client, args)),
        Command::Config(args) => verb::config::run(&args),
        Command::ExplainDrop(args) => verb::explain_drop::run(&args),
        Command::Version => block_on(verb::version::run(&client)),
        Command::Demo(args) => demo::run(&args).map_err(from_anyhow),
        Command::DemoPod(args) => demo::run_pod(&args).map_err(from_anyhow),
        Command::Completion(args) => verb::completion::run(&args),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn from_anyhow(error: anyhow::Error) -> Fault {
    Fault::new(Exit::Failed, format!("{error:#}"))
}

fn log_to_stderr(global: &Global) {
    let level = if global.verbose { Level::DEBUG } else { Level::WARN };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal());
    log.without_time().with_target(false).init();
}

/// Runs a command that asks the daemon.
fn block_on(verb: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    runtime()?.block_on(verb)
}

/// The one thread that everything but the packet path runs on; the API server is watched on another
/// (`source::kubernetes`).
///
/// # Errors
/// The kernel refuses an epoll or an eventfd.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Fault::from_error(Exit::Unavailable, "start the event loop", &error))
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let ClientError::Unreachable { socket, source } = &error else {
            return Self::new(Exit::Failed, format!("failed to {}", chain(&error)));
        };
        let fix = match source.kind() {
            io::ErrorKind::PermissionDenied => "run as root, or as the socket's owner",
            _ => "start it: tidegate run --config FILE; elsewhere: --socket PATH",
        };
        let what = format!("cannot reach the daemon at {}", socket.display());
        Self::new(Exit::Unavailable, what).kernel(source.to_string()).fix(fix)
    }
}
