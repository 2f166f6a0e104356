//! What all requests share.

use super::fault::{Effect, Fault, Interruption, Verb};
use super::resource::Resource;
use super::store::Store;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Which open watches can be told of at once.
const INTERRUPTIONS_MAX: usize = 16;

/// A request that was answered or refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The kind's group.
    pub group: String,
    /// The kind's plural.
    pub plural: String,
    /// What was asked.
    pub verb: Verb,
    /// Path and query.
    pub path: String,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    store: RwLock<Store>,
    faults: RwLock<Vec<Fault>>,
    requests: RwLock<Vec<Request>>,
    tokens: RwLock<Option<BTreeSet<String>>>,
    bookmark_interval: RwLock<Duration>,
    /// The newest version.
    pub(super) changed: watch::Sender<u64>,
    pub(super) interruptions: broadcast::Sender<Interruption>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            store: RwLock::default(),
            faults: RwLock::default(),
            requests: RwLock::default(),
            tokens: RwLock::default(),
            bookmark_interval: RwLock::new(Duration::from_mins(1)),
            changed: watch::Sender::new(0),
            interruptions: broadcast::Sender::new(INTERRUPTIONS_MAX),
        }
    }

    pub(super) fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and wakes the watches.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = write(&self.store);
        let result = change(&mut store);
        self.changed.send_replace(store.version());
        result
    }

    pub(super) fn add_fault(&self, fault: Fault) {
        write(&self.faults).push(fault);
    }

    pub(super) fn clear_faults(&self) {
        write(&self.faults).clear();
    }

    /// The first fault that this request meets.
    pub(super) fn fault(&self, resource: Resource, verb: Verb) -> Option<Effect> {
        let mut faults = write(&self.faults);
        let met = faults.iter_mut().find_map(|f| f.take(resource, verb).then(|| f.effect.clone()));
        faults.retain(|fault| fault.times > 0);
        met
    }

    pub(super) fn log(&self, request: Request) {
        write(&self.requests).push(request);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which tokens are let in; `None`: everybody.
    pub(super) fn set_tokens(&self, tokens: Option<BTreeSet<String>>) {
        *write(&self.tokens) = tokens;
    }

    pub(super) fn lets_in(&self, authorization: Option<&str>) -> bool {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
        tokens.as_ref().is_none_or(|tokens| token.is_some_and(|token| tokens.contains(token)))
    }

    pub(super) fn set_bookmark_interval(&self, interval: Duration) {
        *write(&self.bookmark_interval) = interval;
    }

    pub(super) fn bookmark_interval(&self) -> Duration {
        *self.bookmark_interval.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
