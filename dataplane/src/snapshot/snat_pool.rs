//! The addresses to masquerade with, where the operator names some.

use crate::snapshot::NextHop;
use crate::types::IpAddress;

/// Addresses of this node, by family. A family without one masquerades with the address of each
/// next hop's own interface (semantics F9).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnatPool {
    v4: Vec<IpAddress>,
    v6: Vec<IpAddress>,
}

impl SnatPool {
    /// A pool of these.
    pub fn new(addresses: impl IntoIterator<Item = IpAddress>) -> Self {
        let (v4, v6) = addresses.into_iter().partition(IpAddress::is_v4);
        Self { v4, v6 }
    }

    /// What a flow to this next hop may be masqueraded with; all of one family, empty where there
    /// is none.
    #[inline]
    pub fn towards<'a>(&'a self, hop: &'a NextHop, is_v4: bool) -> &'a [IpAddress] {
        let named = if is_v4 { &self.v4 } else { &self.v6 };
        if !named.is_empty() {
            return named;
        }
        let own = hop.snat_address.as_slice();
        if own.first().is_some_and(|own| own.is_v4() == is_v4) { own } else { &[] }
    }
}
