//! Lists of networks: whom a VIP lets in, and where the node's own pods are.

use crate::types::IpAddress;

/// A set of addresses, given as networks. Found in `log2` of their count steps.
///
/// Families are apart: `::/0` holds no IPv4 address, though its mapped form lies within.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    v4: Ranges,
    v6: Ranges,
}

impl Networks {
    /// The set of the networks with these first and last addresses. A range whose ends differ in
    /// family, or that is empty, adds nothing.
    pub fn new(networks: impl IntoIterator<Item = (IpAddress, IpAddress)>) -> Self {
        let whole = networks.into_iter().filter(|(a, b)| a <= b && a.is_v4() == b.is_v4());
        let (v4, v6) = whole.partition::<Vec<_>, _>(|(first, _)| first.is_v4());
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }

    /// Whether `address` lies in one of them.
    #[inline]
    pub fn contains(&self, address: IpAddress) -> bool {
        let ranges = if address.is_v4() { &self.v4 } else { &self.v6 };
        ranges.contains(address)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }
}

/// Ranges of one family: sorted, disjoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ranges(Box<[(IpAddress, IpAddress)]>);

impl Ranges {
    fn new(mut ranges: Vec<(IpAddress, IpAddress)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(IpAddress, IpAddress)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into_boxed_slice())
    }

    #[inline]
    fn contains(&self, address: IpAddress) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= address);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    fn address(text: &str) -> IpAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn networks(ranges: &[(&str, &str)]) -> Networks {
        Networks::new(ranges.iter().map(|(first, last)| (address(first), address(last))))
    }

    #[test]
    fn ends_belong_to_a_network_and_their_neighbours_do_not() {
        let set = networks(&[("10.1.0.0", "10.1.255.255"), ("192.0.2.7", "192.0.2.7")]);
        for (text, is_inside) in [
            ("10.0.255.255", false),
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.6", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(set.contains(address(text)), is_inside, "{text}");
        }
    }

    #[test]
    fn a_network_within_another_does_not_hide_it() {
        let set = networks(&[("10.0.0.0", "10.255.255.255"), ("10.1.0.0", "10.1.255.255")]);
        assert!(set.contains(address("10.200.0.1")));
    }

    #[test]
    fn families_are_apart() {
        let all_v6 = networks(&[("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert!(all_v6.contains(address("2001:db8::1")) && !all_v6.contains(address("10.0.0.1")));
        assert!(networks(&[("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "2001:db8::1")]).is_empty());
    }
}
