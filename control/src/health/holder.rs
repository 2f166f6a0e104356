//! Who listens on TCP ports that we want. For people alone: nothing is decided by it.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Processes that are looked through at most: a node that runs more is not searched to its end.
const PROCESSES_MAX: usize = 16_384;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel cuts it at 15 bytes.
    pub name: String,
}

impl Holder {
    /// Whether it is kube-proxy, which serves the same health checks.
    pub fn is_kube_proxy(&self) -> bool {
        self.name == "kube-proxy"
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who listens on each of `ports` in this network namespace; nobody where /proc does not show it,
/// as in a container that sees its own processes alone. One look at all processes, however many
/// ports there are; it ends with the last one's holder.
pub fn holders(ports: &BTreeSet<u16>) -> BTreeMap<u16, Holder> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let mut wanted: BTreeMap<String, u16> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening_inodes(&text, ports))
        .map(|(inode, port)| (format!("socket:[{inode}]"), port))
        .collect();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten().take(PROCESSES_MAX) {
        if wanted.is_empty() {
            break;
        }
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for port in held(&entry.path(), &mut wanted) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.entry(port).or_insert_with(|| Holder { pid, name: name.trim().to_owned() });
        }
    }
    found
}

/// The sockets of /proc/net/tcp that listen on one of `ports`, with the port. Columns: number,
/// local address, remote address, state (0A is LISTEN), queues, timer, retransmits, uid, timeout,
/// inode.
fn listening_inodes(text: &str, ports: &BTreeSet<u16>) -> Vec<(u64, u16)> {
    let of_line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, number) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(number, 16).ok().filter(|port| ports.contains(port))?;
        let is_listening = fields.get(3) == Some(&"0A");
        if is_listening { Some((fields.get(9)?.parse().ok()?, port)) } else { None }
    };
    text.lines().skip(1).filter_map(of_line).collect()
}

/// The ports whose sockets a process has open; those sockets are wanted no more.
fn held(process: &Path, wanted: &mut BTreeMap<String, u16>) -> Vec<u16> {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| wanted.remove(target.to_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found_by_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::TcpListener::bind("[::1]:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let ports = BTreeSet::from([port(&listener), port(&other)]);
        let found = holders(&ports);
        assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), ports);
        assert!(found.values().all(|holder| holder.pid == std::process::id()));
        drop((listener, other));
        assert_eq!(holders(&ports), BTreeMap::new());
    }

    #[test]
    fn only_listening_sockets_count() {
        let line = |local: &str, remote: &str, state: &str, inode: u8| {
            format!(" 0: {local} {remote} {state} 0:0 00:0 0 0 0 {inode} 1 0 100\n")
        };
        let text = "  sl  local_address rem_address   st\n".to_owned()
            + &line("0100007F:1F90", "00000000:0000", "0A", 71)
            + &line("0100007F:1F90", "0100007F:9999", "01", 72);
        let text = text.as_str();
        let found = |text, port| listening_inodes(text, &BTreeSet::from([port]));
        assert_eq!(found(text, 8080), [(71, 8080)]);
        assert!(found(text, 8081).is_empty() && found("x", 1).is_empty());
    }
}
