//! Ctrl-C and SIGTERM end the demo between two steps, so that its guards remove everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Set once the user wants to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// The user stopped the demo.
#[derive(Debug, thiserror::Error)]
#[error("finish: interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// Listens from now on, on a thread of its own, instead of dying.
    ///
    /// # Errors
    /// No handler can be installed.
    pub fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut int, mut term) = {
            // Handlers need a runtime around them to be made.
            let _guard = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let interrupt = Self::default();
        let flag = interrupt.clone();
        let wait = async move {
            tokio::select! { _ = int.recv() => (), _ = term.recv() => () }
            flag.0.store(true, Ordering::Relaxed);
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
        Ok(interrupt)
    }

    /// Fails once the user wants to stop.
    ///
    /// # Errors
    /// The user wants to.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
