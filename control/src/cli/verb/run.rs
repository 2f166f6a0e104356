//! `tidegate run`: the daemon.

use crate::cli::args::Global;
use crate::cli::dispatch::runtime;
use crate::cli::verb::config;
use crate::daemon;
use crate::fault::Fault;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `tidegate run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    #[arg(default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is invalid (78), a capability is missing (77), the host cannot do it (69).
pub fn run(args: &RunArgs, global: &Global) -> Result<(), Fault> {
    let config = config::read(&args.config)?;
    daemon::start_log(&config.logging, global.verbose, global.quiet);
    let options = daemon::Options { file: args.config.clone(), config, quiet: global.quiet };
    runtime()?.block_on(daemon::run(options))
}
