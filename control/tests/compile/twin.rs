//! The IPv6 twin of a manifest, an address or an expectation: the same text with each IPv4 address
//! replaced by an IPv6 one, so that a row is tried over both families.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The twin of `text`: `10.244.1.7` becomes `fd00:10:244:1::7` and the prefix lengths 8, 16, 24
/// and 32 become 32, 48, 64 and 128. Services ask for IPv6 alone, and slices are of it.
pub(crate) fn of(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut twin = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        twin.push_str(&rest[..start]);
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |len| start + len);
        let word = &rest[start..end];
        rest = &rest[end..];
        match address(word) {
            Some(address) => {
                twin.push_str(&address.to_string());
                rest = length(rest, &mut twin);
            }
            None => twin.push_str(word),
        }
    }
    twin.push_str(rest);
    twin.replace("spec: {type:", "spec: {ipFamilies: [IPv6], type:")
        .replace("addressType: IPv4", "addressType: IPv6")
}

/// Decimal digits stay as they are, so that people recognise the address.
fn address(word: &str) -> Option<Ipv6Addr> {
    let octets: Vec<u8> = word.split('.').map(|octet| octet.parse().ok()).collect::<Option<_>>()?;
    let octets = Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).octets();
    let [a, b, c, d] = octets.map(|n| u16::from_str_radix(&n.to_string(), 16).unwrap());
    Some(Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, d))
}

/// Takes a prefix length from the start of `rest`, where there is one.
fn length<'a>(rest: &'a str, twin: &mut String) -> &'a str {
    for (old, new) in [("/32", "/128"), ("/24", "/64"), ("/16", "/48"), ("/8", "/32")] {
        if let Some(rest) = rest.strip_prefix(old) {
            twin.push_str(new);
            return rest;
        }
    }
    rest
}

#[test]
fn a_twin_is_the_same_text_with_other_addresses() {
    assert_eq!(of("snat 10.244.1.7:8080"), "snat fd00:10:244:1::7:8080");
    assert_eq!(of("' 010.001.0.0/16 ', 0.0.0.0/0"), "' fd00:10:1::/48 ', fd00::/0");
    assert_eq!(
        of("spec: {type: NodePort, nodePort: 30080}"),
        "spec: {ipFamilies: [IPv6], type: NodePort, nodePort: 30080}"
    );
}
