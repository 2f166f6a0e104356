//! Who listens on a TCP port that we want. For people alone: nothing is decided by it.

use core::fmt;
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

/// Who listens on `port` in this network namespace; `None` where /proc does not show it, as in a
/// container that sees its own processes alone.
pub fn holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let inodes: Vec<_> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .collect();
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if links.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    let mut numbered = processes
        .filter_map(|entry| Some((entry.path(), entry.file_name().to_str()?.parse().ok()?)));
    numbered.find_map(|(path, pid)| {
        has_one_of(&path, &links).then(|| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            Holder { pid, name: name.trim().to_owned() }
        })
    })
}

/// The sockets of /proc/net/tcp that listen on `port`. Columns: number, local address, remote
/// address, state (0A is LISTEN), queues, timer, retransmits, uid, timeout, inode.
fn listening_inodes(text: &str, port: u16) -> Vec<u64> {
    let of_line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, number) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(number, 16) == Ok(port) && fields.get(3) == Some(&"0A");
        if is_it { fields.get(9)?.parse().ok() } else { None }
    };
    text.lines().skip(1).filter_map(of_line).collect()
}

fn has_one_of(process: &Path, links: &[String]) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found_by_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(port).unwrap();
        assert_eq!(found.pid, std::process::id());
        drop(listener);
        assert_eq!(holder(port), None);
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
        assert_eq!(listening_inodes(text, 8080), [71]);
        assert!(listening_inodes(text, 8081).is_empty() && listening_inodes("x", 1).is_empty());
    }
}
