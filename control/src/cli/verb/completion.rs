//! `tidegate completion`: never out of step with the flags, being made from them.

use crate::cli::args::Cli;
use crate::cli::output::print;
use crate::fault::Fault;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Arguments of `tidegate completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// Stdout cannot be written.
pub fn run(args: &CompletionArgs) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    print(&String::from_utf8_lossy(&script))
}
