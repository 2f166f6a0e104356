//! The watch of one kind. kube's watcher lists, watches, resumes and lists again; here it is told
//! apart what that means, and a server that knows no streaming lists is asked for pages instead.

use super::client::Link;
use super::told::{Listing, Message, Seen, Told};
use super::watched::{Watchable, Watched};
use crate::fault::chain;
use crate::source::SourceError;
use futures::StreamExt as _;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time;

/// How long a streaming list may pause before its end is told. Servers before 1.27 ignore the
/// wish and never tell an end. Shorter gives up a busy server's, which costs one paged list.
const STREAMING_PATIENCE: Duration = Duration::from_secs(10);

/// Watches until nobody listens.
pub(super) async fn watch<K: Watchable>(
    link: Arc<Link>,
    fields: Option<String>,
    messages: mpsc::Sender<Message>,
) {
    let mut watch = Watch { link, fields, messages, listing: Listing::Streaming, kind: K::KIND };
    while watch.follow::<K>().await == Ended::NoStreaming {
        watch.listing = Listing::Paged;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The server knows no streaming lists.
    NoStreaming,
    /// Nobody listens any more.
    Closed,
}

struct Watch {
    link: Arc<Link>,
    fields: Option<String>,
    messages: mpsc::Sender<Message>,
    listing: Listing,
    kind: super::watched::Kind,
}

impl Watch {
    async fn follow<K: Watchable>(&self) -> Ended {
        let answered = Arc::new(Notify::new());
        let api: Api<Watched<K>> = Api::all(self.link.client(Some(Arc::clone(&answered))));
        let events = watcher(api, self.config()).default_backoff();
        let mut events = pin!(events);
        let mut is_listing = false;
        loop {
            let next = async {
                if is_listing && self.listing == Listing::Streaming {
                    time::timeout(STREAMING_PATIENCE, events.next()).await
                } else {
                    Ok(events.next().await)
                }
            };
            // Load-bearing: an answer is told before what its stream says.
            let told = tokio::select! {
                biased;
                () = answered.notified() => Told::Answered,
                event = next => match event {
                    Err(_elapsed) => return self.give_up("no end of the streaming list"),
                    // kube's watcher never ends.
                    Ok(None) => return Ended::Closed,
                    Ok(Some(Err(error))) if self.is_streaming_refused(&error) => {
                        return self.give_up(&words(&error));
                    }
                    Ok(Some(Err(error))) => {
                        is_listing = false;
                        Told::Failed(self.failure(&error).await)
                    }
                    Ok(Some(Ok(event))) => {
                        is_listing = match event {
                            Event::Init => true,
                            Event::InitDone => false,
                            _ => is_listing,
                        };
                        self.told(event)
                    }
                },
            };
            if self.messages.send(Message { kind: self.kind, told }).await.is_err() {
                return Ended::Closed;
            }
        }
    }

    fn config(&self) -> watcher::Config {
        let config = match self.listing {
            Listing::Streaming => watcher::Config::default().streaming_lists(),
            Listing::Paged => watcher::Config::default(),
        };
        match &self.fields {
            Some(fields) => config.fields(fields),
            None => config,
        }
    }

    fn told<K: Watchable>(&self, event: Event<Watched<K>>) -> Told {
        let seen = |object: Watched<K>| Seen { name: object.name, form: object.form };
        match event {
            Event::Init => Told::ListBegins(self.listing),
            Event::InitApply(object) => Told::Listed(seen(object)),
            Event::InitDone => Told::ListEnds,
            Event::Apply(object) => Told::Applied(seen(object)),
            Event::Delete(object) => Told::Deleted(object.name),
        }
    }

    fn give_up(&self, why: &str) -> Ended {
        tracing::info!("no streaming list of {} ({why}); asking for pages", self.kind.title());
        Ended::NoStreaming
    }

    /// Whether it is the wish for a streaming list that the server refuses: the API server does so
    /// with 422 where the feature WatchList is off.
    fn is_streaming_refused(&self, error: &watcher::Error) -> bool {
        let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else {
            return false;
        };
        let names_it = status.message.contains("sendInitialEvents");
        self.listing == Listing::Streaming && (matches!(status.code, 400 | 422) || names_it)
    }

    async fn failure(&self, error: &watcher::Error) -> SourceError {
        let server = self.link.server().await;
        let server = server.as_deref().unwrap_or("the API server");
        let what = format!("watch {} at {server}", self.kind.title());
        SourceError::Server { what, words: words(error) }
    }
}

/// The server's own words, else the connection's.
fn words(error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => return connection_words(error),
        watcher::Error::NoResourceVersion => return chain(error),
    };
    let fix = match status.code {
        401 => "; the credentials are read again for the next try",
        403 => "; grant it with a ClusterRole as in configs/kubernetes/base",
        _ => "",
    };
    format!("{} ({}){fix}", status.message.trim(), status.code)
}

fn connection_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(inner) => chain(&**inner),
        _ => chain(error),
    }
}
