//! A source of the API server under test, without a daemon around it.

use crate::api_server::ApiServer;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tidegate_control::config::ClientConnection;
use tidegate_control::fault::chain;
use tidegate_control::model::ClusterState;
use tidegate_control::source::kubernetes::{KubeSource, Settings};
use tidegate_control::source::{SourceEvent, SourceNotes};
use tokio::time::{Instant, timeout_at};

/// How long a change may take to be told, on a busy machine: kube's back-off after a few errors
/// is some ten seconds.
pub const TOLD_MAX: Duration = Duration::from_mins(1);

/// The node of the tests and of the recordings.
pub const NODE: &str = "gw-1";

/// The source, and what it told so far.
#[derive(Debug)]
pub struct Watching {
    source: KubeSource,
    /// The state, as the control thread would have it.
    pub state: Arc<ClusterState>,
    /// How often the whole state was told.
    pub wholes: u32,
    /// The notes as last told.
    pub notes: SourceNotes,
    /// The refusals, in order.
    pub refusals: Vec<String>,
}

impl Watching {
    /// Watches `server` with the credentials of `kubeconfig`; nothing is kept on disk.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(kubeconfig: &Path) -> Result<Self> {
        Self::start_with(kubeconfig, None)
    }

    /// The same, keeping the state in a folder.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start_with(kubeconfig: &Path, state_directory: Option<PathBuf>) -> Result<Self> {
        let kubeconfig = kubeconfig.display().to_string();
        // Tests ask often.
        let connection = ClientConnection { kubeconfig, qps: 100, burst: 100 };
        let settings = Settings { connection, node: NODE.to_owned(), state_directory };
        Ok(Self {
            source: KubeSource::watch(settings)?,
            state: Arc::default(),
            wholes: 0,
            notes: SourceNotes::default(),
            refusals: Vec::new(),
        })
    }

    /// Watches an open server.
    ///
    /// # Errors
    /// There is no thread.
    pub fn open(server: &ApiServer) -> Result<Self> {
        Self::start(&server.kubeconfig("{}")?)
    }

    /// Takes events until `is_so`.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + TOLD_MAX;
        while !is_so(self) {
            let Ok(event) = timeout_at(deadline, self.source.next()).await else {
                bail!("{what}: not within {TOLD_MAX:?}; {}", self.summary());
            };
            self.take(event.context("the source ended")?);
        }
        Ok(())
    }

    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::State(state) => {
                self.state = state;
                self.wholes += 1;
            }
            SourceEvent::Changed(changes) => {
                let state = Arc::make_mut(&mut self.state);
                changes.into_iter().for_each(|change| state.apply(change));
            }
            SourceEvent::Refused(error) => self.refusals.push(chain(&error)),
            SourceEvent::Noted(notes) => self.notes = notes,
        }
    }

    /// The Services' names.
    pub fn services(&self) -> Vec<&str> {
        self.state.services.keys().map(|key| &*key.name).collect()
    }

    /// Everything that it told, for errors.
    fn summary(&self) -> String {
        let slices: Vec<_> = self.state.slices.keys().map(ToString::to_string).collect();
        format!(
            "services {:?}, slices {slices:?}, {} whole states, notes {:?}, refusals {:?}",
            self.services(),
            self.wholes,
            self.notes,
            self.refusals
        )
    }
}
