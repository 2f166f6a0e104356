//! The last good state on disk: what a start makes of it while the API server is away.

use anyhow::{Context as _, Result};
use std::path::Path;
use tidegate_tests::api_server::{ApiServer, Door};
use tidegate_tests::objects::{node, service, slice};
use tidegate_tests::setting::wait_until;
use tidegate_tests::watching::{NODE, TOLD_MAX, Watching};

const FILE: &str = "cluster.json";

fn server() -> Result<ApiServer> {
    let server = ApiServer::start(Door::Open)?;
    server.apply(service("web", 30080))?;
    server.apply(slice("web-1", "web", &["10.244.1.10"]))?;
    server.apply(node(NODE, &["192.0.2.1"]))?;
    Ok(server)
}

/// Watches until the file holds `name`, then ends.
async fn keep(server: &ApiServer, folder: &Path, name: &str) -> Result<()> {
    let mut watching = Watching::start_with(&server.kubeconfig("{}")?, Some(folder.into()))?;
    let is_current = |w: &Watching| w.services().contains(&name) && w.notes.is_well;
    watching.wait_until("the server's state", is_current).await?;
    let holds = || {
        let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        text.contains(&format!("\"name\":\"{name}\""))
    };
    wait_until("the file is written", TOLD_MAX, holds)
}

#[tokio::test]
async fn a_start_while_the_server_is_away_serves_what_was_kept() -> Result<()> {
    let (mut server, folder) = (server()?, tempfile::tempdir()?);
    keep(&server, folder.path(), "web").await?;
    server.stop();
    let state = Some(folder.path().into());
    let mut watching = Watching::start_with(&server.kubeconfig("{}")?, state)?;
    watching.wait_until("the kept state", |w| w.wholes == 1).await?;
    assert_eq!((watching.services(), watching.state.slices.len()), (vec!["web"], 1));
    assert_eq!(watching.state.nodes.len(), 1);
    watching.wait_until("the note", |w| w.notes.kept_since.is_some()).await?;
    watching.wait_until("the refusal", |w| !w.refusals.is_empty()).await?;
    server.delete(("services", "shop", "web"))?;
    server.apply(service("new", 30081))?;
    server.resume()?;
    watching.wait_until("the server's state", |w| w.services() == ["new"]).await?;
    watching.wait_until("no note", |w| w.notes.kept_since.is_none() && w.notes.is_well).await
}

#[tokio::test]
async fn changes_reach_the_disk_too() -> Result<()> {
    let (server, folder) = (server()?, tempfile::tempdir()?);
    keep(&server, folder.path(), "web").await?;
    server.apply(service("later", 30081))?;
    keep(&server, folder.path(), "later").await
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_told_and_ignored() -> Result<()> {
    let (mut server, folder) = (server()?, tempfile::tempdir()?);
    keep(&server, folder.path(), "web").await?;
    server.stop();
    let path = folder.path().join(FILE);
    let text = std::fs::read_to_string(&path)?;
    let half = text.get(..text.len() / 2).context("an ASCII file")?;
    for (text, reason) in [
        (half.to_owned(), "damaged"),
        (text.replace("\"format\":1", "\"format\":9"), "format 9"),
        (text.replace("http://127", "https://127"), "not of http://127"),
    ] {
        std::fs::write(&path, text)?;
        let state = Some(folder.path().into());
        let mut watching = Watching::start_with(&server.kubeconfig("{}")?, state)?;
        let is_told = |w: &Watching| w.notes.warnings.iter().any(|text| text.contains(reason));
        watching.wait_until(reason, is_told).await?;
        watching.wait_until("the refusal", |w| !w.refusals.is_empty()).await?;
        assert_eq!(watching.wholes, 0, "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() -> Result<()> {
    let (server, folder) = (server()?, tempfile::tempdir()?);
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    let mut watching = Watching::start_with(&server.kubeconfig("{}")?, Some(file.clone()))?;
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    let name = file.display().to_string();
    let is_told = |w: &Watching| w.notes.warnings.iter().any(|text| text.contains(&name));
    watching.wait_until("a warning", is_told).await
}
