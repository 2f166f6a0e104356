//! `tidegate config`: the configuration file without the daemon.

use crate::cli::output::{print, to_json};
use crate::config::{Config, ConfigError};
use crate::fault::{Exit, Fault, chain};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Where the daemon's file lies unless another is named.
pub const DEFAULT_PATH: &str = "/etc/tidegate/config.yaml";

/// Arguments of `tidegate config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read the file and tell everything that is wrong with it
    Check {
        /// The file
        #[arg(default_value = DEFAULT_PATH, env = "TIDEGATE_CONFIG")]
        file: PathBuf,
    },
    /// A file with all defaults and what they mean, to stdout
    Default,
    /// JSON schema of the file, for editors, to stdout
    Schema,
}

/// Checks, or prints defaults or schema.
///
/// # Errors
/// The file cannot be read or is invalid: exit code 78.
pub fn run(args: &ConfigArgs) -> Result<(), Fault> {
    match &args.command {
        ConfigCommand::Check { file } => {
            read(file)?;
            print(&format!("{}: ok\n", file.display()))
        }
        ConfigCommand::Default => print(Config::default_yaml()),
        ConfigCommand::Schema => print(&to_json(&schemars::schema_for!(Config))?),
    }
}

/// Reads the file.
///
/// # Errors
/// It cannot be read or is invalid.
pub(crate) fn read(file: &Path) -> Result<Config, Fault> {
    Config::from_file(file).map_err(|error| fault(file, &error))
}

fn fault(file: &Path, error: &ConfigError) -> Fault {
    let fault = Fault::new(Exit::Config, format!("failed to {}", chain(error)));
    fault.fix(format!(
        "edit {} and try again: tidegate config check {0}; a valid file: tidegate config default",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn exit_of(text: &str) -> Option<(Exit, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        fs::write(&file, text).unwrap();
        read(&file).err().map(|fault| (fault.exit, fault.to_string()))
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(exit_of(Config::default_yaml()), None);
    }

    #[test]
    fn an_invalid_file_exits_with_78_and_says_where() {
        let text =
            "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\nworker: {}\n";
        let (exit, shown) = exit_of(text).unwrap();
        assert_eq!(exit, Exit::Config);
        assert!(shown.contains("worker") && shown.contains('3'), "{shown}");
    }

    #[test]
    fn a_missing_file_exits_with_78() {
        assert_eq!(read(Path::new("/nonexistent/config.yaml")).unwrap_err().exit, Exit::Config);
    }

    #[test]
    fn the_schema_knows_the_fields() {
        let schema = to_json(&schemars::schema_for!(Config)).unwrap();
        assert!(schema.contains("\"nodePortAddresses\""), "{schema}");
    }
}
