//! The binary as scripts see it: exit codes, and what goes to which stream.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A command whose environment does not lead it to a daemon of this machine.
fn tidegate(arguments: &[&str]) -> Output {
    without_environment(Command::new(BINARY).args(arguments))
}

fn without_environment(command: &mut Command) -> Output {
    for name in ["SOCKET", "CONFIG", "OUTPUT", "NAMESPACE", "VERBOSE", "QUIET"] {
        command.env_remove(format!("TIDEGATE_{name}"));
    }
    command.output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config_file(folder: &Path, text: &str) -> String {
    let file = folder.join("config.yaml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn no_daemon_is_69_and_says_what_to_type() {
    let output = tidegate(&["--socket", "/nonexistent/admin.sock", "get", "svc"]);
    assert_eq!(code(&output), Some(69));
    assert!(stdout(&output).is_empty());
    assert!(stderr(&output).starts_with("error: cannot reach the daemon"), "{}", stderr(&output));
    assert!(stderr(&output).contains("fix:    start it"), "{}", stderr(&output));
}

#[test]
fn an_invalid_configuration_is_78_for_check_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = config_file(folder.path(), "apiVersion: tidegate.dev/v1alpha1\nworkerz: {}\n");
    let check = tidegate(&["config", "check", &file]);
    assert_eq!(code(&check), Some(78));
    assert!(stderr(&check).contains("workerz"), "{}", stderr(&check));
    let run = tidegate(&["run", "--config", &file]);
    assert_eq!((code(&run), stderr(&run)), (Some(78), stderr(&check)));
}

#[test]
fn the_default_configuration_is_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&tidegate(&["config", "default"]));
    let check = tidegate(&["config", "check", &config_file(folder.path(), &text)]);
    assert_eq!(code(&check), Some(0), "{}", stderr(&check));
}

#[test]
fn a_missing_capability_is_77_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let text = format!(
        "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n\
         source: {{kind: file, file: {}}}\ninterfaces: [{{name: nothing0}}]\nadminSocket: {}\n",
        folder.path().display(),
        socket.display()
    );
    let file = config_file(folder.path(), &text);
    // A process without capabilities, whoever runs the tests.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", BINARY, "run", "--config", &file]);
    let output = without_environment(&mut command);
    assert_eq!(code(&output), Some(77), "{}", stderr(&output));
    let missing = "capabilities are missing: NET_ADMIN NET_RAW IPC_LOCK PERFMON BPF";
    assert!(stderr(&output).contains(missing), "{}", stderr(&output));
    assert!(!socket.exists());
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(code(&tidegate(&["get", "pods"])), Some(2));
}

#[test]
fn completions_know_the_verbs() {
    let script = stdout(&tidegate(&["completion", "bash"]));
    assert!(script.contains("explain-drop") && script.contains("neighbors"));
}

#[test]
fn a_reason_is_explained_in_any_case_of_letters() {
    let output = tidegate(&["explain-drop", "flow_table_full"]);
    assert_eq!(code(&output), Some(0));
    assert!(stdout(&output).contains("raise conntrack.maxFlows"));
}
