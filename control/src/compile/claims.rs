//! Who has each front: VIPs and external IPs come before node ports (semantics E9), and cluster IPs
//! before both, so that nobody takes a Service's by an external IP (CVE-2020-8554); of two Services
//! the first by name has it (E17).

use super::fronts::Wishes;
use crate::model::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_dataplane::snapshot::{FrontKey, FrontKind};
use tidegate_dataplane::types::ServiceId;

/// A service port's wish to have a front. The smaller, the better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    rank: Rank,
    service: ObjectKey,
    /// Which of the Service's ports.
    place: usize,
    id: ServiceId,
}

/// The first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    ClusterIp,
    External,
    NodePort,
}

impl From<FrontKind> for Rank {
    fn from(kind: FrontKind) -> Self {
        match kind {
            FrontKind::ClusterIp => Self::ClusterIp,
            FrontKind::LoadBalancer | FrontKind::ExternalIp => Self::External,
            FrontKind::NodePort => Self::NodePort,
        }
    }
}

/// A service port that wishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub(super) service: &'a ObjectKey,
    pub(super) place: usize,
    pub(super) id: ServiceId,
}

/// All wishes, by front, the best first.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<FrontKey, Vec<Claim>>);

impl Claims {
    /// Whether `id` has the front.
    pub(super) fn is_owner(&self, key: &FrontKey, id: ServiceId) -> bool {
        self.0.get(key).and_then(|claims| claims.first()).is_some_and(|claim| claim.id == id)
    }

    /// Takes the wishes of a service port in place of those it had. Adds to `touched` the other
    /// Services that lost a front by it, or got one.
    pub(super) fn change(
        &mut self,
        claimant: Claimant<'_>,
        (old, new): (&Wishes, &Wishes),
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        for (key, _) in old {
            self.remove(key, claimant.id, touched);
        }
        for (key, kind) in new {
            self.add(*key, claimant.claim(*kind), touched);
        }
    }

    fn remove(&mut self, key: &FrontKey, id: ServiceId, touched: &mut BTreeSet<ObjectKey>) {
        let Some(claims) = self.0.get_mut(key) else { return };
        let is_owner = claims.first().is_some_and(|claim| claim.id == id);
        claims.retain(|known| known.id != id);
        match claims.first() {
            None => drop(self.0.remove(key)),
            Some(next) if is_owner => drop(touched.insert(next.service.clone())),
            Some(_) => {}
        }
    }

    fn add(&mut self, key: FrontKey, claim: Claim, touched: &mut BTreeSet<ObjectKey>) {
        let claims = self.0.entry(key).or_default();
        let place = claims.partition_point(|known| *known < claim);
        if place == 0 {
            touched.extend(claims.first().map(|before| before.service.clone()));
        }
        claims.insert(place, claim);
    }
}

impl Claimant<'_> {
    fn claim(self, kind: FrontKind) -> Claim {
        Claim { rank: kind.into(), service: self.service.clone(), place: self.place, id: self.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::types::{IpAddress, L4Port, Protocol};

    const KEY: FrontKey = FrontKey {
        address: IpAddress::v4([10, 0, 0, 1]),
        port: L4Port::new(80),
        protocol: Protocol::Tcp,
    };

    /// What a change of `name`'s wishes for the one front touches.
    fn change(
        claims: &mut Claims,
        name: &str,
        (old, new): (&[FrontKind], &[FrontKind]),
    ) -> Vec<String> {
        let service = ObjectKey::new("default", name);
        let claimant = Claimant { service: &service, place: 0, id: id(name) };
        let wishes = |kinds: &[FrontKind]| kinds.iter().map(|kind| (KEY, *kind)).collect();
        let mut touched = BTreeSet::new();
        claims.change(claimant, (&wishes(old), &wishes(new)), &mut touched);
        touched.into_iter().map(|key| key.name.to_string()).collect()
    }

    fn id(name: &str) -> ServiceId {
        ServiceId(name.bytes().map(u32::from).sum())
    }

    #[test]
    fn the_next_by_name_follows_when_the_owner_goes() {
        let (mut claims, vip) = (Claims::default(), [FrontKind::LoadBalancer]);
        assert_eq!(change(&mut claims, "b", (&[], &vip)), [""; 0]);
        assert_eq!(change(&mut claims, "c", (&[], &vip)), [""; 0], "comes too late");
        assert_eq!(change(&mut claims, "a", (&[], &vip)), ["b"], "takes it");
        assert!(claims.is_owner(&KEY, id("a")));
        assert_eq!(change(&mut claims, "b", (&vip, &[])), [""; 0], "had it no more");
        assert_eq!(change(&mut claims, "a", (&vip, &[])), ["c"], "leaves it");
        assert!(claims.is_owner(&KEY, id("c")));
        change(&mut claims, "c", (&vip, &[]));
        assert!(claims.0.is_empty());
    }

    #[test]
    fn e9_a_node_port_gives_way_to_a_vip() {
        let (mut claims, node) = (Claims::default(), [FrontKind::NodePort]);
        change(&mut claims, "a", (&[], &node));
        assert_eq!(change(&mut claims, "b", (&[], &[FrontKind::LoadBalancer])), ["a"]);
        assert!(claims.is_owner(&KEY, id("b")));
        assert_eq!(change(&mut claims, "b", (&[FrontKind::LoadBalancer], &node)), ["a"]);
        assert!(claims.is_owner(&KEY, id("a")));
    }

    #[test]
    fn an_external_address_takes_no_cluster_ip_of_another() {
        let mut claims = Claims::default();
        change(&mut claims, "a", (&[], &[FrontKind::ExternalIp]));
        assert_eq!(change(&mut claims, "b", (&[], &[FrontKind::ClusterIp])), ["a"]);
        assert!(claims.is_owner(&KEY, id("b")));
    }
}
