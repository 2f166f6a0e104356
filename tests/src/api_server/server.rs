//! The stand-in as a running server, and what a test does with it.

use super::answer::{handle, merge};
use super::fault::{Fault, Interruption};
use super::shared::{Request, Shared};
use super::store::{Key, key_of};
use super::tls::Certificates;
use anyhow::{Context as _, Result};
use axum::Router;
use axum::serve::Listener;
use core::net::{Ipv4Addr, SocketAddr};
use serde_json::Value;
use std::io;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for its part of the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How clients are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Plain HTTP, everybody.
    Open,
    /// TLS; tokens as [`ApiServer::set_tokens`] says.
    Tls,
    /// TLS; clients with a certificate of ours.
    TlsWithCertificate,
}

/// The running server.
pub struct ApiServer {
    shared: Arc<Shared>,
    certificates: Certificates,
    door: Door,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (address, door) = (self.address, self.door);
        f.debug_struct("ApiServer")
            .field("address", &address)
            .field("door", &door)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts on a free port of the loopback, with nothing stored.
    ///
    /// # Errors
    /// No socket, no thread, or no temporary folder.
    pub fn start(door: Door) -> Result<Self> {
        Self::start_on(door, StdListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    /// The same, on a socket that listens already: in a namespace, where the test wants it there.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_on(door: Door, listener: StdListener) -> Result<Self> {
        let mut server = Self {
            shared: Arc::new(Shared::new()),
            certificates: Certificates::new()?,
            door,
            address: listener.local_addr()?,
            running: None,
        };
        server.resume_on(listener)?;
        Ok(server)
    }

    /// Serves again on the same address, with the objects as they are now.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn resume(&mut self) -> Result<()> {
        self.resume_on(StdListener::bind(self.address).context("listen")?)
    }

    /// The same, on a socket that listens on [`Self::address`] already.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn resume_on(&mut self, listener: StdListener) -> Result<()> {
        listener.set_nonblocking(true)?;
        let acceptor = match self.door {
            Door::Open => None,
            Door::Tls => Some(self.certificates.acceptor(false)?),
            Door::TlsWithCertificate => Some(self.certificates.acceptor(true)?),
        };
        let shared = Arc::clone(&self.shared);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            let serve = serve(shared, listener, acceptor);
            let end = async {
                tokio::select! { _ = stopped => {}, () = serve => {} }
            };
            // When it returns, every connection is dropped where it stands.
            runtime.block_on(end);
        });
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Stops at once: connections break off, new ones are refused. Objects stay.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            stop.send(()).ok();
            thread.join().ok();
        }
    }

    /// Where it listens, or did.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` or `https://…`.
    pub fn url(&self) -> String {
        let scheme = if self.door == Door::Open { "http" } else { "https" };
        format!("{scheme}://{}", self.address)
    }

    /// Certificates, and a folder for clients' files.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Writes a kubeconfig whose user is `user`, YAML on one line, and returns its path.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let authority = match self.door {
            Door::Open => String::new(),
            _ => format!(", certificate-authority: {}", self.certificates.authority().display()),
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  \
             cluster: {{server: '{}'{authority}}}\nusers:\n- name: test\n  user: {user}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test}}\n",
            self.url()
        );
        let path = self.certificates.folder().join("kubeconfig");
        write_whole(&path, &text)?;
        Ok(path)
    }

    /// Creates or replaces an object, given with its kind.
    ///
    /// # Errors
    /// Its kind is not known, or it has no name.
    pub fn apply(&self, object: Value) -> Result<()> {
        let key = key_of(&object).context("an object of a known kind, with a name")?;
        self.shared.change(|store| store.put(&key, object));
        Ok(())
    }

    /// Merges `patch` into an object.
    ///
    /// # Errors
    /// There is none.
    pub fn patch(&self, key: (&'static str, &str, &str), patch: Value) -> Result<()> {
        let key = owned(key);
        self.shared.change(|store| {
            let mut object = store.get(&key).cloned().context("no such object")?;
            merge(&mut object, patch);
            store.put(&key, object);
            Ok(())
        })
    }

    /// Removes an object: kind's plural, namespace (empty for Nodes), name.
    ///
    /// # Errors
    /// There is none.
    pub fn delete(&self, key: (&'static str, &str, &str)) -> Result<()> {
        let removed = self.shared.change(|store| store.delete(&owned(key)));
        removed.map(drop).context("no such object")
    }

    /// The objects of a kind, by its plural.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let store = self.shared.store();
        store.at(plural, store.version()).into_values().collect()
    }

    /// Forgets the past: who watches from before gets 410.
    pub fn compact(&self) {
        self.shared.change(super::store::Store::compact);
    }

    /// Adds a fault.
    pub fn fail(&self, fault: Fault) {
        self.shared.add_fault(fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.shared.clear_faults();
    }

    /// Interrupts the watches that are open.
    pub fn interrupt(&self, interruption: Interruption) {
        // Nobody may be watching.
        self.shared.interruptions.send(interruption).ok();
    }

    /// Lets in who has one of these tokens; `None`: everybody.
    pub fn set_tokens(&self, tokens: Option<&[&str]>) {
        let tokens = tokens.map(|tokens| tokens.iter().map(|&token| token.to_owned()).collect());
        self.shared.set_tokens(tokens);
    }

    /// How often a watch gets a bookmark; a minute at first, as from the API server.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        self.shared.set_bookmark_interval(interval);
    }

    /// All requests for objects so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes a file so that a reader sees the old text or the new one.
///
/// # Errors
/// The kernel's.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

fn owned((plural, namespace, name): (&'static str, &str, &str)) -> Key {
    (plural, namespace.to_owned(), name.to_owned())
}

async fn serve(shared: Arc<Shared>, listener: StdListener, acceptor: Option<TlsAcceptor>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let router = Router::new().fallback(move |request| handle(Arc::clone(&shared), request));
    axum::serve(Doorman { listener, acceptor }, router).await.ok();
}

/// Accepts, and speaks TLS where that is wanted.
struct Doorman {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener for Doorman {
    type Io = Pin<Box<dyn Stream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            let Some(acceptor) = &self.acceptor else { return (Box::pin(stream), address) };
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            // Who has no certificate is refused by the handshake; the next may come.
            if let Ok(Ok(stream)) = shaken {
                return (Box::pin(stream), address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
