//! Why the kernel would not answer.

/// A request that the kernel refused. Text is a fragment that fits "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("open a netlink socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel's answer to one request.
    #[error("{what}: {source}")]
    Request {
        /// What was asked.
        what: String,
        /// The kernel's words.
        source: rtnetlink::Error,
    },
    /// A table that the kernel would not list.
    #[error("list {what}: {source}")]
    List {
        /// Which.
        what: &'static str,
        /// The kernel's words.
        source: std::io::Error,
    },
    /// A table that is never of one piece.
    #[error("list {what}: they changed while they were listed, {tries} times in a row")]
    Interrupted {
        /// Which.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// A device of our name is there, and it is not ours.
    #[error("create {name}: a {kind} device of this name exists and is not tidegate's")]
    ForeignDevice {
        /// The name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// The kernel answered without what was asked for.
    #[error("find the device {0} after making it")]
    Missing(String),
}

impl NetlinkError {
    /// An adapter for `map_err`.
    pub(super) fn request(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Request { what, source }
    }
}
