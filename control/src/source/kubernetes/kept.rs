//! The last good state on disk: a List of Kubernetes' own objects, as `kubectl get -o json` writes
//! one, with a head of ours. So that `tidegate explain --state` reads it too.

use super::watched::{Form, Watchable, Watched};
use crate::model::ObjectName;
use crate::source::file::{FILE_BYTES_MAX, read_bounded};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use xxhash_rust::xxh3::Xxh3;

/// The file's name below `stateDirectory`.
pub(super) const FILE: &str = "cluster.json";

/// Files that a crash left half written begin with it.
const UNFINISHED: &str = ".cluster-";

/// The form of the file. A file of another form is reported and not read.
const FORMAT: u32 = 1;

/// What stands before the objects.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    format: u32,
    saved_unix_ms: u64,
    server: String,
    /// XXH3 of the objects' text, hexadecimal: a torn file is not read.
    digest: String,
}

#[derive(Deserialize)]
struct Stored<'a> {
    tidegate: Head,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

/// Only the form: what else a later form has is unknown.
#[derive(Deserialize)]
struct Peek {
    tidegate: PeekHead,
}

#[derive(Deserialize)]
struct PeekHead {
    format: u32,
}

/// What was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) saved: SystemTime,
    pub(super) forms: Vec<(ObjectName, Form)>,
}

/// Reads what was kept of `server`; `None` where nothing was. An unknown server is any.
///
/// # Errors
/// The file cannot be used: why.
pub(super) fn load(directory: &Path, server: Option<&str>) -> Result<Option<Kept>, String> {
    let path = directory.join(FILE);
    let text = match read_bounded(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| format!("failed to read {}: {error}", path.display()))?,
    };
    let refused = |why: String| format!("the state kept in {} is ignored: {why}", path.display());
    parse(&text, server).map(Some).map_err(refused)
}

fn parse(text: &str, server: Option<&str>) -> Result<Kept, String> {
    let broken = |error: serde_json::Error| format!("it is damaged: {error}");
    let format = serde_json::from_str::<Peek>(text).map_err(broken)?.tidegate.format;
    if format != FORMAT {
        return Err(format!("it has format {format}, this release reads {FORMAT}"));
    }
    let stored: Stored<'_> = serde_json::from_str(text).map_err(broken)?;
    let head = &stored.tidegate;
    if digest(stored.items.iter().map(|item| item.get())) != head.digest {
        return Err("it is damaged: its digest does not match".to_owned());
    }
    if let Some(server) = server.filter(|server| *server != head.server) {
        return Err(format!("it is of {}, not of {server}", head.server));
    }
    let saved = SystemTime::UNIX_EPOCH + Duration::from_millis(head.saved_unix_ms);
    let forms = stored.items.iter().filter_map(|item| form(item.get())).collect();
    Ok(Kept { saved, forms })
}

fn form(text: &str) -> Option<(ObjectName, Form)> {
    #[derive(Deserialize)]
    struct Header {
        kind: String,
    }
    fn read<K: Watchable>(text: &str) -> Option<(ObjectName, Form)> {
        let object: Watched<K> = serde_json::from_str(text).ok()?;
        Some((object.name, object.form.ok()?))
    }
    match serde_json::from_str::<Header>(text).ok()?.kind.as_str() {
        "Service" => read::<core::Service>(text),
        "EndpointSlice" => read::<discovery::EndpointSlice>(text),
        "Node" => read::<core::Node>(text),
        _ => None,
    }
}

/// Writes `items`: complete or not at all, also where the machine stops meanwhile.
///
/// # Errors
/// The kernel's words; or it would be larger than what is read again.
pub(super) fn save(directory: &Path, server: &str, items: &[Arc<str>]) -> io::Result<()> {
    let size: u64 = items.iter().map(|item| item.len() as u64 + 1).sum();
    if size > FILE_BYTES_MAX - 4096 {
        return Err(io::Error::other(format!("{size} bytes, at most {FILE_BYTES_MAX} are kept")));
    }
    fs::create_dir_all(directory)?;
    remove_unfinished(directory)?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    let mut writer = io::BufWriter::new(file.as_file_mut());
    write(&mut writer, server, items)?;
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    file.persist(directory.join(FILE)).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

fn write(writer: &mut impl io::Write, server: &str, items: &[Arc<str>]) -> io::Result<()> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let milliseconds = since_epoch.unwrap_or_default().as_millis();
    let head = Head {
        format: FORMAT,
        saved_unix_ms: u64::try_from(milliseconds).unwrap_or(u64::MAX),
        server: server.to_owned(),
        digest: digest(items.iter().map(AsRef::as_ref)),
    };
    let head = serde_json::to_string(&head)?;
    write!(writer, "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"tidegate\":{head},\"items\":[")?;
    for (i, item) in items.iter().enumerate() {
        let separator = if i == 0 { "\n" } else { ",\n" };
        write!(writer, "{separator}{item}")?;
    }
    writer.write_all(b"\n]}\n")
}

fn digest<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Xxh3::new();
    items.for_each(|item| hash.update(item.as_bytes()));
    format!("{:016x}", hash.digest())
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    let is_unfinished = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(UNFINISHED)
    };
    let paths = fs::read_dir(directory)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.filter(is_unfinished).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://192.0.2.1";

    fn items() -> Vec<Arc<str>> {
        let service = "{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"web\"},\
                       \"spec\":{\"ports\":[{\"port\":80}]}}";
        let node = r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"gw-1"}}"#;
        vec![service.into(), node.into()]
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), SERVER, &items()).unwrap();
        let file = folder.path().join(FILE);
        (folder, file)
    }

    #[test]
    fn what_is_saved_is_loaded_again() {
        let (folder, _) = saved();
        let kept = load(folder.path(), Some(SERVER)).unwrap().unwrap();
        let texts: Vec<_> = kept.forms.iter().map(|(name, _)| name.title()).collect();
        assert_eq!(texts, ["Service default/web", "Node gw-1"]);
        assert!(kept.saved.elapsed().unwrap() < Duration::from_mins(1));
        assert!(load(&folder.path().join("none"), None).unwrap().is_none());
    }

    #[test]
    fn explain_reads_it_as_any_list() {
        let (_folder, file) = saved();
        assert_eq!(crate::source::load_once(&[file]).unwrap().services.len(), 1);
    }

    #[test]
    fn a_torn_foreign_or_future_file_is_refused_with_its_reason() {
        let (folder, file) = saved();
        let text = fs::read_to_string(&file).unwrap();
        for (text, reason) in [
            (text[..text.len() / 2].to_owned(), "it is damaged"),
            (text.replace("port\":80", "port\":81"), "digest does not match"),
            (text.replace("format\":1", "format\":2"), "it has format 2, this release reads 1"),
            (text.replace("192.0.2.1", "192.0.2.2"), "it is of https://192.0.2.2, not of"),
        ] {
            fs::write(&file, text).unwrap();
            let error = load(folder.path(), Some(SERVER)).unwrap_err();
            assert!(error.contains(reason) && error.contains(FILE), "{error}");
        }
    }

    #[test]
    fn a_crash_leaves_the_old_state_and_its_rest_is_removed() {
        let (folder, _) = saved();
        let rest = folder.path().join(".cluster-x");
        fs::write(&rest, "{").unwrap();
        assert_eq!(load(folder.path(), None).unwrap().unwrap().forms.len(), 2);
        save(folder.path(), SERVER, &[]).unwrap();
        assert!(!rest.exists());
        assert_eq!(load(folder.path(), None).unwrap().unwrap().forms.len(), 0);
    }
}
