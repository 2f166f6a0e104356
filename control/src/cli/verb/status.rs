//! `tidegate status`: one screen.

use crate::admin::Client;
use crate::admin::report::StatusReport;
use crate::cli::args::StatusFormat;
use crate::cli::output::{print, to_json, to_yaml};
use crate::cli::view;
use crate::fault::Fault;

/// Prints the screen.
///
/// # Errors
/// The daemon is not reachable.
pub async fn run(client: &Client, format: StatusFormat) -> Result<(), Fault> {
    let status: StatusReport = client.get("/api/v1/status").await?;
    let text = match format {
        StatusFormat::Table => view::status::screen(&status),
        StatusFormat::Json => to_json(&status)?,
        StatusFormat::Yaml => to_yaml(&status)?,
    };
    print(&text)
}
