//! A machine for the daemon: a namespace with a veth pair.

use anyhow::Result;
use std::path::Path;
use tempfile::TempDir;
use tidegate_control::demo::rig::{Daemon, DaemonFiles, NetNs};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A namespace with a veth pair, `outer` for tidegate and `inner` for nobody.
pub(crate) struct Host {
    pub(crate) netns: NetNs,
    pub(crate) files: DaemonFiles,
    _folder: TempDir,
}

impl Host {
    /// A machine whose daemon has this configuration and one manifest, `web`.
    pub(crate) fn new(name: &str, config: &str, manifest: &str) -> Result<Self> {
        let netns = NetNs::create(&format!("tg-{}-{name}", std::process::id()))?;
        let folder = tempfile::tempdir()?;
        let files = DaemonFiles::new(folder.path());
        files.write_config(config)?;
        files.write_manifest("web", manifest)?;
        let host = Self { netns, files, _folder: folder };
        host.add_interface()?;
        Ok(host)
    }

    /// The veth pair, as it is at the start.
    pub(crate) fn add_interface(&self) -> Result<()> {
        self.netns.ip("link add outer type veth peer name inner")?;
        self.netns.ip("addr add 192.0.2.1/24 dev outer")?;
        self.netns.ip("link set inner up")?;
        self.netns.ip("link set outer up")?;
        Ok(())
    }

    /// The daemon, once it is ready.
    pub(crate) fn start(&self) -> Result<Daemon> {
        Ok(Daemon::start(Path::new(BINARY), &self.netns, &self.files)?)
    }
}
