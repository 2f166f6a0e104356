//! The source that the configuration names.

use super::event::SourceEvent;
use super::file::FileSource;
use super::kubernetes::{KubeSource, Settings};
use crate::config::{Config, SourceKind};
use std::io;

/// The source that the configuration names.
#[derive(Debug)]
pub enum Source {
    /// Manifests.
    File(FileSource),
    /// The API server.
    Kubernetes(KubeSource),
}

impl Source {
    /// Starts to watch; the first event comes when there is something to tell. To be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(config: &Config, node: &str) -> io::Result<Self> {
        match config.source.kind {
            SourceKind::File => {
                // That there is one was checked with the configuration.
                Ok(Self::File(FileSource::watch(config.source.file.iter().cloned().collect())))
            }
            SourceKind::Kubernetes => {
                let directory = &config.state_directory;
                let settings = Settings {
                    connection: config.client_connection.clone(),
                    node: node.to_owned(),
                    state_directory: (!directory.as_os_str().is_empty()).then(|| directory.clone()),
                };
                KubeSource::watch(settings).map(Self::Kubernetes)
            }
        }
    }

    /// The next event; `None` only if the source ended.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        match self {
            Self::File(source) => source.next().await,
            Self::Kubernetes(source) => source.next().await,
        }
    }
}
