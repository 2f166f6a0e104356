//! Keeps the host from using our source ports for its own connections (T5): the range is merged
//! into `net.ipv4.ip_local_reserved_ports`, and at the end only our part is taken back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_dataplane::types::PortRange;

/// The kernel's list, of this network namespace; both families use it.
pub const KERNEL_LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The name of the note of what we added.
pub const NOTE: &str = "reserved-ports";

/// The ports that we added. What they are stands in a note of our own too: after a crash the next
/// start knows which of the kernel's list are ours to take back.
#[derive(Debug)]
pub struct ReservedPorts {
    file: PathBuf,
    note: PathBuf,
    added: BTreeSet<u16>,
}

impl ReservedPorts {
    /// Adds `range` to the list in `file`, in place of what a crashed run added by its `note`.
    ///
    /// # Errors
    /// The list cannot be read or written, as where /proc/sys is read-only; or the note cannot be
    /// written, and then the list is left alone.
    pub fn add(file: &Path, note: &Path, range: PortRange) -> io::Result<Self> {
        let before = read(file)?;
        let left = read(note).unwrap_or_default();
        let others: BTreeSet<_> = before.difference(&left).copied().collect();
        let ours = range.first()..=range.last();
        let added: BTreeSet<_> = ours.filter(|port| !others.contains(port)).collect();
        let ports = others.union(&added).copied().collect();
        // Load-bearing: first. What is not noted would stay reserved after a crash.
        fs::write(note, format_list(&added)).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", note.display()))
        })?;
        if ports != before {
            fs::write(file, format_list(&ports))?;
        }
        Ok(Self { file: file.to_owned(), note: note.to_owned(), added })
    }

    /// Takes back what we added. What others added meanwhile stays.
    ///
    /// # Errors
    /// The list cannot be read or written any more.
    pub fn take_back(self) -> io::Result<()> {
        if !self.added.is_empty() {
            let mut ports = read(&self.file)?;
            ports.retain(|port| !self.added.contains(port));
            fs::write(&self.file, format_list(&ports))?;
        }
        fs::remove_file(&self.note)
    }
}

fn read(file: &Path) -> io::Result<BTreeSet<u16>> {
    let text = fs::read_to_string(file)?;
    let unknown = || io::Error::other(format!("unknown form: {}", text.trim()));
    parse_list(text.trim()).ok_or_else(unknown)
}

/// `8080,9000-9010`; empty is none.
fn parse_list(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(ports)
}

/// The kernel takes a newline for the empty list, and nothing for no change.
fn format_list(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports.iter().copied() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == port => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (u16, u16) = (15_000, 29_999);

    fn range() -> PortRange {
        PortRange::new_checked(OURS.0, OURS.1).unwrap()
    }

    fn list(text: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (file, note) = (folder.path().join("list"), folder.path().join("note"));
        fs::write(&file, text).unwrap();
        (folder, file, note)
    }

    #[test]
    fn our_range_comes_and_goes() {
        let (_folder, file, note) = list("\n");
        let reserved = ReservedPorts::add(&file, &note, range()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "15000-29999\n");
        reserved.take_back().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "\n");
        assert!(!note.exists());
    }

    #[test]
    fn what_others_reserved_stays() {
        let (_folder, file, note) = list("8080,29000-31000\n");
        let reserved = ReservedPorts::add(&file, &note, range()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080,15000-31000\n");
        fs::write(&file, "8080,9100,15000-31000\n").unwrap();
        reserved.take_back().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080,9100,29000-31000\n");
    }

    #[test]
    fn the_last_port_is_a_port() {
        let all = parse_list("1,65534-65535").unwrap();
        assert_eq!(format_list(&all), "1,65534-65535\n");
    }

    #[test]
    fn a_list_of_unknown_form_is_left_alone() {
        let (_folder, file, note) = list("all\n");
        assert!(ReservedPorts::add(&file, &note, range()).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "all\n");
    }

    #[test]
    fn after_a_crash_the_next_start_takes_back_what_the_last_one_added() {
        let (_folder, file, note) = list("8080,29000-31000\n");
        let crashed = ReservedPorts::add(&file, &note, range()).unwrap();
        drop(crashed);
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080,15000-31000\n");
        let other = PortRange::new_checked(14_000, 15_999).unwrap();
        let next = ReservedPorts::add(&file, &note, other).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080,14000-15999,29000-31000\n");
        next.take_back().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080,29000-31000\n");
    }

    #[test]
    fn a_list_without_a_note_is_left_alone() {
        let (folder, file, _) = list("8080\n");
        let nowhere = folder.path().join("no-folder/note");
        let error = ReservedPorts::add(&file, &nowhere, range()).unwrap_err();
        assert!(error.to_string().contains("no-folder/note"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "8080\n");
    }
}
