//! `tidegate version`.

use crate::admin::report::StatusReport;
use crate::admin::{Client, ClientError};
use crate::cli::output::print;
use crate::fault::Fault;

/// Prints this binary's version, and the daemon's where one runs: after an upgrade without a
/// restart they differ.
///
/// # Errors
/// Stdout cannot be written, or a daemon runs but does not answer.
pub async fn run(client: &Client) -> Result<(), Fault> {
    let daemon = match client.get::<StatusReport>("/api/v1/status").await {
        Ok(status) => format!("{} on {}", status.version, status.node),
        Err(ClientError::Unreachable { .. }) => "none reached".to_owned(),
        Err(error) => return Err(error.into()),
    };
    print(&format!("client {}\ndaemon {daemon}\n", env!("CARGO_PKG_VERSION")))
}
