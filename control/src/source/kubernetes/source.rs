//! The source: a thread of its own, so that reading a large list never holds up the control
//! thread.

use super::client::Link;
use super::gather::Gather;
use super::keeper::{Keeper, Step};
use super::kept;
use super::told::Message;
use super::watch::watch;
use crate::config::ClientConnection;
use crate::source::SourceEvent;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages that wait for the gathering; the watches wait beyond it, and the server with them.
const MESSAGES_MAX: usize = 1024;

/// What the source needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How to reach the server.
    pub connection: ClientConnection,
    /// This node's name: its Node alone is watched.
    pub node: String,
    /// Where the last good state is kept; `None`: nowhere.
    pub state_directory: Option<PathBuf>,
}

/// A running watch of the API server; ends when dropped.
#[derive(Debug)]
pub struct KubeSource {
    events: mpsc::Receiver<SourceEvent>,
}

impl KubeSource {
    /// Starts to watch. The first event comes at once where a state was kept, else when the server
    /// told everything or refused.
    ///
    /// # Errors
    /// The kernel gives no thread or no epoll.
    pub fn watch(settings: Settings) -> io::Result<Self> {
        // One event waits while the control thread is busy; changes gather behind it.
        let (sender, events) = mpsc::channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("tidegate-source".to_owned());
        // Not waited for at the end: it may be reading from a disk or a server that is slow.
        thread.spawn(move || runtime.block_on(run(settings, sender)))?;
        Ok(Self { events })
    }

    /// The next event; `None` only if the watching thread ended.
    pub async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }
}

async fn run(settings: Settings, sender: mpsc::Sender<SourceEvent>) {
    let link = Link::new(&settings.connection);
    let server = link.current_server().await;
    let mut gather = begin(&settings, server);
    let mut keeper = Keeper::new(settings.state_directory.clone());
    let (messages_in, mut messages) = mpsc::channel(MESSAGES_MAX);
    start_watches(&link, &settings.node, &messages_in);
    let mut batch = Vec::new();
    loop {
        if tell(&mut gather, &mut keeper, &sender).await.is_err() {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            count = messages.recv_many(&mut batch, MESSAGES_MAX) => if count == 0 {
                return;
            },
            step = keeper.step() => match step {
                Step::Due => keeper.write(&gather.location, gather.kept_form()),
                Step::Written(warning) => gather.other_warnings = warning.into_iter().collect(),
            },
        }
        batch.drain(..).for_each(|message| gather.take(message));
        if gather.location.is_empty()
            && let Some(server) = link.server().await
        {
            gather.location = server;
        }
    }
}

/// What was kept on disk, if anything, is what there is to tell first.
fn begin(settings: &Settings, server: Option<String>) -> Gather {
    let directory = settings.state_directory.as_deref();
    let loaded = directory.map(|directory| kept::load(directory, server.as_deref()));
    let (kept, warning) = match loaded {
        None => (None, None),
        Some(Ok(kept)) => (kept.map(|kept| (kept.forms, kept.saved)), None),
        Some(Err(why)) => {
            tracing::warn!("{why}");
            (None, Some(why))
        }
    };
    if let Some((forms, saved)) = &kept {
        let age = saved.elapsed().unwrap_or_default().as_secs();
        let objects = forms.len();
        tracing::warn!(objects, "serving from the state kept on disk, {age} s old");
    }
    let mut gather = Gather::new(&settings.node, kept);
    gather.location = server.unwrap_or_default();
    gather.other_warnings.extend(warning);
    gather
}

fn start_watches(link: &Arc<Link>, node: &str, messages: &mpsc::Sender<Message>) {
    let own = format!("metadata.name={node}");
    tokio::spawn(watch::<core::Service>(Arc::clone(link), None, messages.clone()));
    tokio::spawn(watch::<discovery::EndpointSlice>(Arc::clone(link), None, messages.clone()));
    tokio::spawn(watch::<core::Node>(Arc::clone(link), Some(own), messages.clone()));
}

/// Tells what there is to tell.
///
/// # Errors
/// Nobody listens any more.
async fn tell(
    gather: &mut Gather,
    keeper: &mut Keeper,
    sender: &mpsc::Sender<SourceEvent>,
) -> Result<(), mpsc::error::SendError<SourceEvent>> {
    for event in gather.events() {
        if matches!(event, SourceEvent::State(_) | SourceEvent::Changed(_)) {
            keeper.mark();
        }
        sender.send(event).await?;
    }
    Ok(())
}
