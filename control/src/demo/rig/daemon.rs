//! `tidegate run` inside the gateway, and its admin socket.

use super::command::run;
use super::process::Process;
use super::{NetNs, RigError};
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long tidegate may take from its start until it is ready.
const READY_MAX: Duration = Duration::from_secs(15);

/// Lines of the log that an error carries.
const LOG_LINES: usize = 30;

/// The files of one daemon, all in one folder.
#[derive(Debug, Clone)]
pub struct DaemonFiles {
    folder: PathBuf,
}

impl DaemonFiles {
    /// In `folder`, which exists already.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The config.
    pub fn config(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    /// The folder of manifests.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// The admin socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// The log: standard error of the daemon.
    pub fn log(&self) -> PathBuf {
        self.folder.join("tidegate.log")
    }

    /// Writes `template` as config, with the sample's paths replaced by our own.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write_config(&self, template: &str) -> Result<(), RigError> {
        let text = template
            .replace("/etc/tidegate/manifests", &self.manifests().display().to_string())
            .replace("/run/tidegate/admin.sock", &self.socket().display().to_string());
        write(&self.config(), &text)
    }

    /// Writes `manifests/NAME.yaml` in one step, as an editor that renames does: the watcher never
    /// sees half a file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write_manifest(&self, name: &str, text: &str) -> Result<(), RigError> {
        let folder = self.manifests();
        let (draft, path) = (folder.join(format!(".{name}.new")), self.manifest(name));
        let made = fs::create_dir_all(&folder);
        made.map_err(|source| RigError::File { path: folder.display().to_string(), source })?;
        write(&draft, text)?;
        let moved = fs::rename(&draft, &path);
        moved.map_err(|source| RigError::File { path: path.display().to_string(), source })
    }

    /// Removes `manifests/NAME.yaml`.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_manifest(&self, name: &str) -> Result<(), RigError> {
        let path = self.manifest(name);
        let removed = fs::remove_file(&path);
        removed.map_err(|source| RigError::File { path: path.display().to_string(), source })
    }

    /// The log of the pods' servers, for one more of them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn pod_log(&self) -> Result<File, RigError> {
        Self::open_log(&self.folder.join("pods.log"))
    }

    fn open_log(path: &Path) -> Result<File, RigError> {
        let opened = File::options().create(true).append(true).open(path);
        opened.map_err(|source| RigError::File { path: path.display().to_string(), source })
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.manifests().join(format!("{name}.yaml"))
    }

    /// The last lines of the log, with a line break before them.
    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
        format!("; {} ends with\n{}", self.log().display(), tail.join("\n"))
    }
}

fn write(path: &Path, text: &str) -> Result<(), RigError> {
    let written = fs::write(path, text);
    written.map_err(|source| RigError::File { path: path.display().to_string(), source })
}

/// A running `tidegate run`. Stopped on drop.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    files: DaemonFiles,
}

impl Daemon {
    /// Starts `binary run --config` inside `netns` and returns when it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within 15 s; the error carries the end of its log.
    pub fn start(binary: &Path, netns: &NetNs, files: &DaemonFiles) -> Result<Self, RigError> {
        let mut command = netns.command(binary);
        command.arg("run").arg("--config").arg(files.config());
        // Not our own output: whoever reads that shall see its end though the daemon is kept.
        command.stdout(Stdio::null()).stderr(DaemonFiles::open_log(&files.log())?);
        let mut daemon = Self { process: Process::start(command)?, files: files.clone() };
        daemon.wait_until("tidegate is ready", READY_MAX, |d| d.get("/readyz").is_ok())?;
        Ok(daemon)
    }

    /// The body that the admin socket answers to GET `path`.
    ///
    /// # Errors
    /// It does not answer, or not with 200.
    pub fn get(&self, path: &str) -> Result<String, RigError> {
        let socket = self.files.socket();
        let options = "--silent --show-error --fail --max-time 5";
        run(&format!("curl {options} --unix-socket {} http://tidegate{path}", socket.display()))
    }

    /// GET `path`, as JSON of a known shape.
    ///
    /// # Errors
    /// As [`Self::get`]; and the answer has another shape.
    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, RigError> {
        let body = self.get(path)?;
        let file = |error| RigError::File { path: path.into(), source: io::Error::other(error) };
        serde_json::from_str(&body).map_err(file)
    }

    /// Asks `is_so` again and again until it says yes.
    ///
    /// # Errors
    /// It does not within `max`, or the daemon ends before; the error carries the end of its log.
    pub fn wait_until(
        &mut self,
        what: &str,
        max: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), RigError> {
        let deadline = Instant::now() + max;
        while Instant::now() < deadline && self.process.ended().is_none() {
            if is_so(self) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = self.files.log_tail();
        Err(RigError::Late { what: what.into(), seconds: max.as_secs(), log })
    }

    /// Its files.
    pub fn files(&self) -> &DaemonFiles {
        &self.files
    }

    /// Its process, to kill or to keep.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it live on.
    pub fn keep(self) {
        self.process.keep();
    }
}
