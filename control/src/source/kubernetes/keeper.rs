//! Writes the state to disk beside everything else, and not too often.

use super::kept;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

/// How long after a write the next may begin, at the least. Longer loses more of what a restart
/// could know; shorter wears the disk while a Deployment rolls.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// A large state takes longer to write: at most this part of the time is spent on it.
const PAUSE_PER_WRITE: u32 = 20;

/// When and where.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: Option<PathBuf>,
    is_due: bool,
    not_before: Instant,
    writing: Option<JoinHandle<(io::Result<()>, Duration)>>,
}

impl Keeper {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, is_due: false, not_before: Instant::now(), writing: None }
    }

    /// There is something new.
    pub(super) fn mark(&mut self) {
        self.is_due = self.directory.is_some();
    }

    /// Returns when it is time to [`Self::write`], or with how the last write ended: a warning
    /// where it failed.
    pub(super) async fn step(&mut self) -> Step {
        if let Some(writing) = &mut self.writing {
            let ended = writing.await;
            self.writing = None;
            let (result, took) = ended.unwrap_or_else(|error| (Err(error.into()), Duration::ZERO));
            self.not_before = Instant::now() + PAUSE_MIN.max(took * PAUSE_PER_WRITE);
            return Step::Written(result.err().map(|error| self.warning(&error)));
        }
        if !self.is_due {
            return std::future::pending().await;
        }
        time::sleep_until(self.not_before).await;
        Step::Due
    }

    /// Begins to write, if there is something complete.
    pub(super) fn write(&mut self, server: &str, items: Option<Vec<Arc<str>>>) {
        self.is_due = false;
        let Some((directory, items)) = self.directory.clone().zip(items) else { return };
        let server = server.to_owned();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let result = kept::save(&directory, &server, &items);
            (result, begin.elapsed())
        }));
    }

    fn warning(&self, error: &io::Error) -> String {
        let directory = self.directory.as_deref().unwrap_or_else(|| "".as_ref()).display();
        format!(
            "failed to keep the state in {directory}: {error}; a restart while the API server is \
             away begins with an older one or with none; see stateDirectory"
        )
    }
}

/// What [`Keeper::step`] returned for.
#[derive(Debug)]
pub(super) enum Step {
    Due,
    Written(Option<String>),
}
