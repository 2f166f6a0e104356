//! One listener: what it is for, what it answers, and why it is shut.

use super::answer::{self, Clock};
use super::connection;
use super::holder::Holder;
use super::view::{AnswerCounts, HealthView};
use crate::admin::query::Mailbox;
use crate::admin::server;
use crate::model::ObjectKey;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use core::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A listener that was refused is tried again this often: a port that frees is taken soon, and
/// looking for who holds it costs little at this rate.
const RETRY: Duration = Duration::from_secs(5);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 128;

/// What a listener is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The node's own.
    Node(Answers),
    /// A Service's `healthCheckNodePort`.
    Service(ObjectKey),
}

/// What a listener of the node itself answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answers {
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `/metrics`.
    Metrics,
    /// All of these.
    Both,
    /// What commands read.
    Admin,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Answers::Health) => f.write_str("healthzBindAddress"),
            Self::Node(Answers::Metrics) => f.write_str("metricsBindAddress"),
            Self::Node(Answers::Both) => f.write_str("healthzBindAddress and metricsBindAddress"),
            Self::Node(Answers::Admin) => f.write_str("adminBindAddress"),
            Self::Service(key) => write!(f, "healthCheckNodePort of Service {key}"),
        }
    }
}

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) view: watch::Receiver<HealthView>,
    pub(super) counts: Arc<AnswerCounts>,
    pub(super) mailbox: Mailbox,
}

/// Why a listener is shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was tried, the kernel's words, who is there, and what to do.
    pub words: String,
    /// kube-proxy answers there, and the same: no fault.
    pub is_kube_proxy: bool,
}

/// A listener, open or to be tried again.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) purpose: Purpose,
    state: DoorState,
}

#[derive(Debug)]
enum DoorState {
    Open(JoinHandle<()>),
    Shut { refusal: Refusal, next_try: Instant },
}

impl Drop for Door {
    fn drop(&mut self) {
        if let DoorState::Open(task) = &self.state {
            task.abort();
        }
    }
}

impl Door {
    /// Tries to listen.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(
        address: SocketAddr,
        purpose: &Purpose,
        sources: &Sources,
    ) -> io::Result<Self> {
        let listener = listen(address, purpose)?;
        tracing::info!(%address, %purpose, "listening");
        let router = router(purpose, sources.clone());
        let state = DoorState::Open(tokio::spawn(connection::serve(listener, router)));
        Ok(Self { purpose: purpose.clone(), state })
    }

    /// One that the kernel refused with `error`; `holder` has its port.
    pub(super) fn shut(
        (address, purpose): (SocketAddr, Purpose),
        error: &io::Error,
        holder: Option<Holder>,
        now: Instant,
    ) -> Self {
        let refusal = refusal(address, &purpose, error, holder);
        Self { purpose, state: DoorState::Shut { refusal, next_try: now + RETRY } }
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match &self.state {
            DoorState::Open(_) => None,
            DoorState::Shut { refusal, .. } => Some(refusal),
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(&self.state, DoorState::Shut { next_try, .. } if *next_try <= now)
    }
}

fn listen(address: SocketAddr, purpose: &Purpose) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() && matches!(purpose, Purpose::Service(_)) {
        // Beside it there is a listener for IPv4 on the same port.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn refusal(
    address: SocketAddr,
    purpose: &Purpose,
    error: &io::Error,
    holder: Option<Holder>,
) -> Refusal {
    let refused = format!("{purpose}: cannot listen on {address}: {error}");
    let words = match (&holder, purpose, error.kind()) {
        (Some(holder), Purpose::Service(_), _) if holder.is_kube_proxy() => {
            format!("{purpose}: {holder} answers on {address}; taken over when it lets go")
        }
        (Some(holder), ..) if holder.pid == std::process::id() => {
            format!("{refused}; tidegate itself answers there, for another purpose")
        }
        (Some(holder), ..) => format!("{refused}; {holder} has it; {}", advice(purpose)),
        (None, _, io::ErrorKind::AddrInUse) => {
            format!("{refused}; see who: ss -ltnp 'sport = :{}'", address.port())
        }
        (None, ..) => format!("{refused}; {}", advice(purpose)),
    };
    let is_kube_proxy = holder.is_some_and(|holder| holder.is_kube_proxy())
        && matches!(purpose, Purpose::Service(_));
    Refusal { words, is_kube_proxy }
}

/// What to type.
fn advice(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Node(Answers::Metrics) => "set metricsBindAddress to a free one, or \"\" for off",
        Purpose::Node(Answers::Admin) => "set adminBindAddress to a free one, or \"\" for off",
        Purpose::Node(_) => "set healthzBindAddress to a free one, or \"\" for off",
        Purpose::Service(_) => "tried again every few seconds; see nodePortAddresses",
    }
}

fn router(purpose: &Purpose, sources: Sources) -> Router {
    match purpose {
        Purpose::Service(key) => of_service(key.clone(), sources.view),
        Purpose::Node(Answers::Health) => health(sources),
        Purpose::Node(Answers::Metrics) => server::metrics(sources.mailbox),
        Purpose::Node(Answers::Admin) => server::read_only(sources.mailbox),
        Purpose::Node(Answers::Both) => {
            let metrics = server::metrics(sources.mailbox.clone());
            health(sources).merge(metrics)
        }
    }
}

/// Any path gives the same answer (semantics H3).
fn of_service(key: ObjectKey, view: watch::Receiver<HealthView>) -> Router {
    Router::new().fallback(move || {
        let answer = answer::service(&view.borrow(), &key, Clock::now());
        async move { answer }
    })
}

fn health(sources: Sources) -> Router {
    let readiness = server::readiness(sources.mailbox.clone());
    let own = Router::new().route("/healthz", get(healthz)).route("/livez", get(livez));
    own.with_state(sources).merge(readiness)
}

async fn healthz(State(sources): State<Sources>) -> answer::Answer {
    let answer = answer::healthz(&sources.view.borrow(), Clock::now());
    sources.counts.count_healthz(answer.is_good);
    answer
}

async fn livez(State(sources): State<Sources>) -> answer::Answer {
    let answer = answer::livez(&sources.view.borrow(), Clock::now());
    sources.counts.count_livez(answer.is_good);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_kube_proxy_on_a_health_check_port_is_information_and_others_are_faults() {
        let address = SocketAddr::from(([192, 0, 2, 1], 32_000));
        let service = Purpose::Service(ObjectKey::new("shop", "web"));
        let node = Purpose::Node(Answers::Health);
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let by = |name: &str| Some(Holder { pid: 7, name: name.to_owned() });
        let told = |purpose, holder| refusal(address, purpose, &taken, holder);

        let kube_proxy = told(&service, by("kube-proxy"));
        assert!(kube_proxy.is_kube_proxy);
        let words = "healthCheckNodePort of Service shop/web: kube-proxy (process 7) answers on \
                     192.0.2.1:32000; taken over when it lets go";
        assert_eq!(kube_proxy.words, words);
        let nginx = told(&node, by("nginx"));
        let words = "healthzBindAddress: cannot listen on 192.0.2.1:32000: Address already in use \
                     (os error 98); nginx (process 7) has it; set healthzBindAddress to a free \
                     one, or \"\" for off";
        assert_eq!((nginx.words.as_str(), nginx.is_kube_proxy), (words, false));
        assert!(told(&node, None).words.ends_with("see who: ss -ltnp 'sport = :32000'"));
        let mine = told(&node, Some(Holder { pid: std::process::id(), name: "x".into() }));
        assert!(mine.words.ends_with("tidegate itself answers there, for another purpose"));
    }
}
