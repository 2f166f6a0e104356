//! Names, families and the parsing of words that every object shares.

use super::error::ObjectError;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::types::{L4Port, Protocol};

/// Namespace and name of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// `metadata.namespace`; empty for Nodes.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key that `metadata` holds; no namespace is `default`, as kubectl has it.
    ///
    /// # Errors
    /// There is no name.
    pub(super) fn from_metadata(metadata: &ObjectMeta) -> Result<Self, ObjectError> {
        let name = metadata.name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ObjectError::new("metadata.name", "is missing"))?;
        let namespace = metadata.namespace.as_deref().filter(|name| !name.is_empty());
        Ok(Self::new(namespace.unwrap_or("default"), name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family with Kubernetes' name `IPv4` or `IPv6`.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address; leading zeros of IPv4 are read as decimal, as the API server does (semantics A10),
/// and an IPv4-mapped address is the IPv4 address.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let parsed: Option<IpAddr> = text.parse().ok();
    parsed.map(|address| address.to_canonical()).or_else(|| {
        let octets: Vec<_> = text.split('.').map(|octet| octet.parse::<u8>().ok()).collect();
        let octets: Option<Vec<u8>> = octets.into_iter().collect();
        <[u8; 4]>::try_from(octets?).ok().map(IpAddr::from)
    })
}

/// A network in CIDR notation, its address as [`address`] reads it.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let (address_text, length) = text.trim().split_once('/')?;
    IpNet::new(address(address_text)?, length.parse().ok()?).ok()
}

/// A port number as the API server accepts it: 1 to 65535.
///
/// # Errors
/// It lies outside; `field` stands in the error.
pub(super) fn port(number: i32, field: &str) -> Result<L4Port, ObjectError> {
    let valid = u16::try_from(number).ok().filter(|n| *n != 0);
    valid.map(L4Port::new).ok_or_else(|| {
        ObjectError::new(field, format!("{number} is not a port number between 1 and 65535"))
    })
}

/// A protocol name; absent is TCP (semantics B5). `None` inside for SCTP, which is not forwarded.
///
/// # Errors
/// The API server knows no such protocol; `field` stands in the error.
pub(super) fn protocol(name: Option<&str>, field: &str) -> Result<Option<Protocol>, ObjectError> {
    match name.unwrap_or("TCP") {
        "TCP" => Ok(Some(Protocol::Tcp)),
        "UDP" => Ok(Some(Protocol::Udp)),
        "SCTP" => Ok(None),
        other => {
            Err(ObjectError::new(field, format!("`{other}` is not TCP, UDP or SCTP, in capitals")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(address("1.2.3.004"), Some(IpAddr::from([1, 2, 3, 4])));
        assert_eq!(address(" 10.0.0.1 "), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(address("::ffff:1.2.3.4"), Some(IpAddr::from([1, 2, 3, 4])));
        assert_eq!(address("1.2.3.999"), None);
        assert_eq!(address("1.2.3"), None);
        assert_eq!(network(" 10.010.0.0/16 "), Some("10.10.0.0/16".parse().unwrap()));
        assert_eq!((network("10.0.0.0"), network("10.0.0.0/33")), (None, None));
    }
}
