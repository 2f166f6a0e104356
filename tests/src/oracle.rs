//! `tidegate explain`, asked of the daemon and of the manifests.

use crate::lab::Lab;
use crate::setting::binary;
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tidegate_control::explain::Answer;
use tidegate_dataplane::types::Protocol;

/// The first packet of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
}

/// What the daemon answers.
///
/// # Errors
/// It does not.
pub fn live(lab: &Lab, questions: &[Question]) -> Result<Vec<Answer>> {
    let socket = lab.site().files().socket().display().to_string();
    answers(&["--socket", &socket, "explain"], questions)
}

/// What the manifests alone say, as the gateway.
///
/// # Errors
/// They cannot be read.
pub fn offline(lab: &Lab, questions: &[Question]) -> Result<Vec<Answer>> {
    let files = lab.site().files();
    let (config, manifests) = (files.config(), files.manifests());
    let (config, manifests) = (config.display().to_string(), manifests.display().to_string());
    // No file tells the gateway's addresses on its pods' side.
    let plan = lab.rig().plan();
    let inside = [plan.gateway_inside().to_string(), plan.gateway_inside_v6().to_string()];
    let from = ["explain", "--state", &manifests, "--node", "gateway", "--config", &config];
    let more = ["--node-ip", &inside[0], "--node-ip", &inside[1]];
    answers(&[&from[..], &more].concat(), questions)
}

/// What the daemon shows people.
///
/// # Errors
/// It does not answer.
pub fn screen(lab: &Lab, question: &Question) -> Result<String> {
    let (source, to) = (question.source.to_string(), question.to.to_string());
    let mut command = Command::new(binary()?);
    command.arg("--socket").arg(lab.site().files().socket());
    command.args(["explain", &question.protocol.to_string(), &source, &to]);
    let output = command.output().context("run tidegate explain")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn answers(arguments: &[&str], questions: &[Question]) -> Result<Vec<Answer>> {
    let mut command = Command::new(binary()?);
    command.args(arguments).args(["--flows", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("run tidegate explain")?;
    let line = |Question { protocol, source, to }: &Question| {
        serde_json::json!({"proto": protocol.to_string(), "src": source, "dst": to}).to_string()
    };
    let lines = questions.iter().map(line).collect::<Vec<_>>().join("\n");
    let mut input = child.stdin.take().context("its input")?;
    // Apart, so that neither waits for the other.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {words}", output.status);
    let lines = String::from_utf8(output.stdout)?;
    let read = |line| serde_json::from_str(line).with_context(|| format!("{line}: {words}"));
    let answers = lines.lines().map(read).collect::<Result<Vec<Answer>>>()?;
    ensure!(answers.len() == questions.len(), "{} answers", answers.len());
    Ok(answers)
}
