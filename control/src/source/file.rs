//! Manifests in files and folders, watched.

use super::error::ManifestError;
use super::event::SourceEvent;
use super::manifest;
use crate::model::ClusterState;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time;

/// How long no event may come before the files are read: an editor's or kubelet's several steps
/// then count as one. Longer delays every change, shorter reads half-made ones (which are refused
/// and read again).
const SETTLE: Duration = Duration::from_millis(20);

/// The files are read this long after the first event at the latest, even if events never stop.
const SETTLE_MAX: Duration = Duration::from_millis(50);

/// Where a path could not be watched, how long to wait before looking again.
const RETRY: Duration = Duration::from_secs(1);

/// Largest file that is read: far above any cluster's state, far below what would fill memory.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads manifests once.
///
/// # Errors
/// A path cannot be read, or a manifest is wrong: with file, line and reason.
pub fn load_once(paths: &[PathBuf]) -> Result<ClusterState, ManifestError> {
    let mut placed = Vec::new();
    for path in paths {
        for file in files(path)? {
            placed.extend(manifest::parse(&file, &read(&file)?)?);
        }
    }
    manifest::assemble(placed)
}

/// The files that `path` means: itself, or what lies in the folder, sorted by name. Hidden ones
/// are an editor's or kubelet's own business.
fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let error = |e: io::Error| refused(path, &e);
    if !fs::metadata(path).map_err(error)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(error)? {
        let file = entry.map_err(error)?.path();
        if is_manifest(&file) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn is_manifest(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let extension = file.extension().unwrap_or_default();
    let is_named = ["yaml", "yml", "json"].iter().any(|known| extension == *known);
    is_named && !name.starts_with('.') && file.is_file()
}

fn read(file: &Path) -> Result<String, ManifestError> {
    read_bounded(file).map_err(|error| refused(file, &error))
}

/// A file's text.
///
/// # Errors
/// The kernel's words, or it is larger than [`FILE_BYTES_MAX`].
pub(super) fn read_bounded(file: &Path) -> io::Result<String> {
    let size = fs::metadata(file)?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{size} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    fs::read_to_string(file)
}

fn refused(path: &Path, error: &io::Error) -> ManifestError {
    ManifestError { path: path.to_owned(), line: None, reason: error.to_string() }
}

/// A running watch over manifests; ends when dropped.
#[derive(Debug)]
pub struct FileSource {
    events: mpsc::Receiver<SourceEvent>,
    task: JoinHandle<()>,
}

impl FileSource {
    /// Starts to watch `paths`, each a file or folder. The first event comes at once. To be called
    /// inside a tokio runtime.
    pub fn watch(paths: Vec<PathBuf>) -> Self {
        // One event waits while the control thread is busy; the task then holds the newest.
        let (sender, events) = mpsc::channel(1);
        Self { events, task: tokio::spawn(run(paths, sender)) }
    }

    /// The next event; `None` only if the watching task ended.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(paths: Vec<PathBuf>, sender: mpsc::Sender<SourceEvent>) {
    let mut watch = FolderWatch::new();
    let mut last: Option<Result<Arc<ClusterState>, ManifestError>> = None;
    loop {
        // Load-bearing: watching before reading. What changes after the read then wakes us.
        let is_complete = watch.follow(&paths);
        let result = load(paths.clone()).await;
        if last.as_ref() != Some(&result) {
            let event = match &result {
                Ok(state) => SourceEvent::State(Arc::clone(state)),
                Err(error) => SourceEvent::Refused(error.clone().into()),
            };
            last = Some(result);
            if sender.send(event).await.is_err() {
                return;
            }
        }
        watch.changed(is_complete).await;
    }
}

/// Reading is work of many milliseconds where the cluster is large: not on the control thread.
async fn load(paths: Vec<PathBuf>) -> Result<Arc<ClusterState>, ManifestError> {
    let first = paths.first().cloned().unwrap_or_default();
    let loaded = tokio::task::spawn_blocking(move || load_once(&paths)).await;
    let ended = |e: tokio::task::JoinError| ManifestError {
        path: first,
        line: None,
        reason: format!("the reading task ended: {e}"),
    };
    loaded.map_err(ended)?.map(Arc::new)
}

/// Watches the folders that the paths lie in: a file that is replaced by rename, or a symbolic
/// link that is swapped, keeps its folder.
struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    wake: Arc<Notify>,
}

impl FolderWatch {
    fn new() -> Self {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_change(&event)) {
                waker.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "cannot watch files; looking once per second instead");
        }
        Self { watcher: watcher.ok(), watched: BTreeSet::new(), wake }
    }

    /// Watches the folders of `paths` anew: one that was replaced is another folder now. Whether
    /// all of them are watched.
    fn follow(&mut self, paths: &[PathBuf]) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        for folder in std::mem::take(&mut self.watched) {
            if let Err(error) = watcher.unwatch(&folder) {
                tracing::debug!(%error, "a watched folder is gone");
            }
        }
        let wanted: BTreeSet<PathBuf> = paths.iter().flat_map(|path| folders(path)).collect();
        let mut is_complete = true;
        for folder in wanted {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => {
                    tracing::debug!(%error, folder = %folder.display(), "cannot watch");
                    is_complete = false;
                }
            }
        }
        is_complete
    }

    /// Returns once something changed and settled; at the latest after [`RETRY`] if not everything
    /// is watched.
    async fn changed(&self, is_complete: bool) {
        if is_complete {
            self.wake.notified().await;
        } else if time::timeout(RETRY, self.wake.notified()).await.is_err() {
            return;
        }
        let deadline = time::Instant::now() + SETTLE_MAX;
        loop {
            let quiet = (time::Instant::now() + SETTLE).min(deadline);
            let more = time::timeout_at(quiet, self.wake.notified()).await;
            if more.is_err() || time::Instant::now() >= deadline {
                return;
            }
        }
    }
}

/// The folders whose change may change what `path` means: its parent, itself where it is a folder,
/// and the same again for what it really is where it is a symbolic link.
fn folders(path: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let mut folders = vec![parent(path)];
    if path.is_dir() {
        folders.push(path.to_owned());
    }
    if let Ok(real) = path.canonicalize() {
        folders.push(parent(&real));
    }
    folders
}

/// Reading wakes nobody: our own reads would wake us for ever.
fn is_change(event: &notify::Event) -> bool {
    !matches!(event.kind, notify::EventKind::Access(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn pod(name: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n")
    }

    /// The next event, as the names of the pods or the refusal's text.
    async fn next(source: &mut FileSource) -> String {
        let event = time::timeout(Duration::from_secs(10), source.next()).await;
        match event.expect("an event within ten seconds").unwrap() {
            SourceEvent::State(state) => {
                let names: Vec<_> = state.pods.keys().map(|key| &*key.name).collect();
                names.join(" ")
            }
            SourceEvent::Changed(changes) => format!("{changes:?}"),
            SourceEvent::Noted(notes) => format!("{notes:?}"),
            SourceEvent::Refused(error) => error.to_string(),
        }
    }

    /// Events until one is `wanted`: a change may be seen half made.
    async fn wait_until(source: &mut FileSource, wanted: &str) {
        while next(source).await != wanted {}
    }

    #[tokio::test]
    async fn a_folder_is_followed_through_files_that_come_go_and_are_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("a.yaml"), pod("a")).unwrap();
        fs::write(file("notes.txt"), "not: [yaml").unwrap();
        let mut source = FileSource::watch(vec![folder.path().to_owned()]);
        assert_eq!(next(&mut source).await, "a");
        fs::write(file("b.yml"), pod("b")).unwrap();
        wait_until(&mut source, "a b").await;
        fs::write(file(".b.yml.swp"), pod("c")).unwrap();
        fs::rename(file(".b.yml.swp"), file("b.yml")).unwrap();
        wait_until(&mut source, "a c").await;
        fs::remove_file(file("a.yaml")).unwrap();
        wait_until(&mut source, "c").await;
    }

    #[tokio::test]
    async fn a_bad_manifest_is_refused_and_a_mended_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.yaml");
        fs::write(&file, pod("a")).unwrap();
        let mut source = FileSource::watch(vec![file.clone()]);
        assert_eq!(next(&mut source).await, "a");
        let bad = folder.path().join("bad");
        fs::write(&bad, "apiVersion: v1\nkind: Pod\nmetadata: {}\n").unwrap();
        fs::rename(&bad, &file).unwrap();
        let text = next(&mut source).await;
        assert!(
            text.contains("web.yaml:3: Pod without a name: metadata.name is missing"),
            "{text}"
        );
        fs::write(&file, pod("b")).unwrap();
        wait_until(&mut source, "b").await;
    }

    #[tokio::test]
    async fn a_config_maps_swapped_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, name) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("web.yaml"), pod(name)).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/web.yaml", path("web.yaml")).unwrap();
        let mut source = FileSource::watch(vec![path("web.yaml")]);
        assert_eq!(next(&mut source).await, "a");
        symlink("..2", path("..tmp")).unwrap();
        fs::rename(path("..tmp"), path("..data")).unwrap();
        wait_until(&mut source, "b").await;
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let mut source = FileSource::watch(vec![late.clone()]);
        let text = next(&mut source).await;
        assert!(text.contains("No such file"), "{text}");
        fs::create_dir(&late).unwrap();
        fs::write(late.join("a.yaml"), pod("a")).unwrap();
        wait_until(&mut source, "a").await;
    }

    #[test]
    fn several_paths_are_one_state() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| {
            let path = folder.path().join(format!("{name}.yaml"));
            fs::write(&path, pod(name)).unwrap();
            path
        });
        assert_eq!(load_once(&paths).unwrap().pods.len(), 2);
    }
}
