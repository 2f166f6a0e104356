//! The kernel's own words about a refusal, for [`EngineError`]. libbpf gets them by netlink or from
//! the verifier and only prints them, so we listen to what it prints.

use crate::engine::EngineError;
use libbpf_rs::{PrintLevel, set_print};
use std::cell::RefCell;
use std::io;
use std::sync::Once;

/// How much of libbpf's talk is kept: the verifier's last lines say what it refuses.
const KEPT_BYTES_MAX: usize = 4096;

thread_local! {
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `call` and returns what it returned and what libbpf printed meanwhile on this thread.
pub(crate) fn listen<T>(call: impl FnOnce() -> T) -> (T, String) {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        set_print(Some((PrintLevel::Warn, keep)));
    });
    HEARD.set(Some(String::new()));
    let result = call();
    (result, HEARD.take().unwrap_or_default())
}

/// Outside `listen` the words are lost: the data plane does not write to standard error.
#[expect(clippy::needless_pass_by_value, reason = "libbpf-rs wants this signature")]
fn keep(_: PrintLevel, words: String) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.push_str(&words);
            let surplus = heard.len().saturating_sub(KEPT_BYTES_MAX);
            drop(heard.drain(..heard.ceil_char_boundary(surplus)));
        }
    });
}

/// The text that the kernel attached to a netlink error, if libbpf printed one.
pub(crate) fn netlink_message(heard: &str) -> Option<&str> {
    let (_, message) = heard.rsplit_once("Kernel error message: ")?;
    Some(message.lines().next().unwrap_or(message).trim_end())
}

/// The error of a call that left `errno`; `words` where the kernel said more than that.
pub(crate) fn refused(what: impl Into<String>, errno: i32, words: Option<&str>) -> EngineError {
    let errno = errno.abs();
    let kernel = match words {
        Some(words) => format!("{words} ({})", name(errno)),
        None => format!("{} ({})", description(errno), name(errno)),
    };
    EngineError { what: what.into(), kernel, errno, fix: fix(errno) }
}

/// The error of a failed system call, from the thread's `errno`.
pub(crate) fn last_refused(what: impl Into<String>) -> EngineError {
    refused(what, io::Error::last_os_error().raw_os_error().unwrap_or(0), None)
}

/// The error of a failed call whose errno stands somewhere in the chain of its sources.
pub(crate) fn source_refused(
    what: impl Into<String>,
    error: &(dyn std::error::Error + 'static),
) -> EngineError {
    let mut next = Some(error);
    while let Some(here) = next {
        if let Some(errno) = here.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return refused(what, errno, None);
        }
        next = here.source();
    }
    EngineError { what: what.into(), kernel: error.to_string(), errno: 0, fix: None }
}

/// The error of a failed libbpf-rs call.
pub(crate) fn library_refused(what: impl Into<String>, error: &libbpf_rs::Error) -> EngineError {
    refused(what, errno_of(error), None)
}

/// The errno in a libbpf-rs error, 0 where there is none. The library tells it only in its text.
pub(crate) fn errno_of(error: &libbpf_rs::Error) -> i32 {
    let text = format!("{error:?}");
    let number = text.rsplit_once("os error ").and_then(|(_, rest)| rest.split(')').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn description(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The symbol of an errno that our calls are known to return.
fn name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::E2BIG => "E2BIG",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::EINVAL => "EINVAL",
        libc::ENOSPC => "ENOSPC",
        libc::ERANGE => "ERANGE",
        libc::ENOSYS => "ENOSYS",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENETDOWN => "ENETDOWN",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENXIO => "ENXIO",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

fn fix(errno: i32) -> Option<String> {
    (errno == libc::EPERM || errno == libc::EACCES).then(missing_capabilities).flatten()
}

/// The capabilities that tidegate needs: name and bit (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_IPC_LOCK", 14),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

fn missing_capabilities() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let (have, missing): (Vec<_>, Vec<_>) =
        CAPABILITIES.iter().partition(|(_, bit)| effective >> bit & 1 == 1);
    let names = |list: Vec<&(&'static str, u32)>| {
        list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    let (missing, have) = (names(missing), names(have));
    let have = if have.is_empty() { "none".to_owned() } else { have };
    (!missing.is_empty()).then(|| format!("grant {missing} (there: {have})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_netlink_message_is_cut_out_of_libbpfs_talk() {
        let heard =
            "libbpf: Kernel error message: veth: Peer MTU is too large to set XDP\nlibbpf: x";
        assert_eq!(netlink_message(heard), Some("veth: Peer MTU is too large to set XDP"));
        assert_eq!(netlink_message("libbpf: failed"), None);
    }

    #[test]
    fn a_refusal_names_the_errno() {
        let error = refused("attach XDP to eth1", -libc::ERANGE, Some("Peer MTU is too large"));
        assert_eq!(error.to_string(), "attach XDP to eth1: Peer MTU is too large (ERANGE)");
        let bare = refused("attach XDP to eth1", libc::ENODEV, None);
        assert_eq!(bare.kernel, "No such device (ENODEV)");
    }

    #[test]
    fn the_errno_comes_through_the_library() {
        let inner = libbpf_rs::Error::from(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(errno_of(&inner), libc::ENOSPC);
        let outer = libbpf_rs::ErrorExt::context(inner, "failed to update");
        assert_eq!(errno_of(&outer), libc::ENOSPC);
        let other = libbpf_rs::Error::from(io::Error::other("no number"));
        assert_eq!(errno_of(&other), 0);
    }

    #[test]
    fn words_are_kept_only_while_listening_and_only_the_last() {
        keep(PrintLevel::Warn, "before".to_owned());
        let ((), heard) = listen(|| {
            keep(PrintLevel::Warn, "x".repeat(KEPT_BYTES_MAX));
            keep(PrintLevel::Warn, "é, the end".to_owned());
        });
        assert!(heard.len() <= KEPT_BYTES_MAX && heard.ends_with("é, the end"), "{heard}");
        assert!(!heard.contains("before"));
    }
}
