//! All listeners: opened, closed and renumbered with the Services, tried again where refused.

use super::door::{Answers, Door, Purpose, Refusal, Sources};
use super::holder::holders;
use super::view::{AnswerCounts, HealthView, ServiceChecks};
use crate::admin::query::Mailbox;
use crate::config::Config;
use crate::model::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What happened to a Service's listener, for an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The Service.
    pub service: ObjectKey,
    /// Why it does not listen.
    pub refusal: Refusal,
}

/// Every listener that is wanted, by its address.
#[derive(Debug)]
pub struct Doors {
    sources: Sources,
    doors: BTreeMap<SocketAddr, Door>,
}

impl Doors {
    /// No listener yet.
    pub fn new(
        view: watch::Receiver<HealthView>,
        counts: Arc<AnswerCounts>,
        mailbox: Mailbox,
    ) -> Self {
        Self { sources: Sources { view, counts, mailbox }, doors: BTreeMap::new() }
    }

    /// Closes what is not wanted any more, opens what is new, and tries again what is due. Tells
    /// the Services whose listener was refused for a reason that was not told before.
    pub fn follow(&mut self, wanted: BTreeMap<SocketAddr, Purpose>, now: Instant) -> Vec<Move> {
        self.doors.retain(|address, door| {
            let is_wanted = wanted.get(address) == Some(&door.purpose);
            if !is_wanted {
                tracing::info!(%address, purpose = %door.purpose, "closed");
            }
            is_wanted
        });
        let mut refused = Vec::new();
        for (address, purpose) in wanted {
            if self.doors.get(&address).is_some_and(|door| !door.is_due(now)) {
                continue;
            }
            match Door::open(address, &purpose, &self.sources) {
                Ok(door) => drop(self.doors.insert(address, door)),
                Err(error) => refused.push(((address, purpose), error)),
            }
        }
        self.shut(refused, now)
    }

    /// Remembers the refused ones, with who has their ports: one search for all, since it looks at
    /// every process.
    fn shut(
        &mut self,
        refused: Vec<((SocketAddr, Purpose), io::Error)>,
        now: Instant,
    ) -> Vec<Move> {
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let taken = refused.iter().filter(|(_, error)| is_taken(error));
        let holders = holders(&taken.map(|((address, _), _)| address.port()).collect());
        let mut moves = Vec::new();
        for (wanted, error) in refused {
            let address = wanted.0;
            let holder = holders.get(&address.port()).filter(|_| is_taken(&error)).cloned();
            let door = Door::shut(wanted, &error, holder, now);
            let told = self.doors.get(&address).and_then(Door::refusal);
            if let Some(refusal) = door.refusal().filter(|refusal| told != Some(*refusal)) {
                tell(refusal);
                moves.extend(service_move(&door.purpose, refusal));
            }
            self.doors.insert(address, door);
        }
        moves
    }

    /// Whether a listener that was refused is to be tried again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.doors.values().any(|door| door.is_due(now))
    }

    /// Why listeners are shut.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.doors.values().filter_map(Door::refusal)
    }
}

fn tell(refusal: &Refusal) {
    let words = &refusal.words;
    if refusal.is_kube_proxy { tracing::info!("{words}") } else { tracing::warn!("{words}") }
}

fn service_move(purpose: &Purpose, refusal: &Refusal) -> Option<Move> {
    match purpose {
        Purpose::Node(_) => None,
        Purpose::Service(key) => Some(Move { service: key.clone(), refusal: refusal.clone() }),
    }
}

/// The listeners of the node itself. The same address for both is one listener.
pub fn node_purposes(config: &Config) -> BTreeMap<SocketAddr, Purpose> {
    let (health, metrics) = (config.healthz_bind_address.0, config.metrics_bind_address.0);
    let purpose = |address| match (health == Some(address), metrics == Some(address)) {
        (true, true) => Purpose::Node(Answers::Both),
        (true, false) => Purpose::Node(Answers::Health),
        (false, _) => Purpose::Node(Answers::Metrics),
    };
    let addresses = health.into_iter().chain(metrics);
    let admin = config.admin_bind_address.0.0;
    let admin = admin.map(|address| (address, Purpose::Node(Answers::Admin)));
    addresses.map(|address| (address, purpose(address))).chain(admin).collect()
}

/// The listeners of the Services, on the addresses that serve node ports (semantics H2). Of two
/// that claim one, the first by name has it; the node's own come before.
pub fn service_purposes(
    checks: &ServiceChecks,
    addresses: &[IpAddr],
    wanted: &mut BTreeMap<SocketAddr, Purpose>,
) {
    for (key, check) in checks {
        for address in addresses {
            let address = SocketAddr::new(*address, check.port.number());
            wanted.entry(address).or_insert_with(|| Purpose::Service(key.clone()));
        }
    }
}

/// Where the Services' listeners bind: the node's addresses that serve node ports, or every
/// address of their families where all of them do (`is_all`).
pub fn check_addresses(serving: impl IntoIterator<Item = IpAddr>, is_all: bool) -> Vec<IpAddr> {
    let widen = |address: IpAddr| match address {
        _ if !is_all => address,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    serving.into_iter().map(widen).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
