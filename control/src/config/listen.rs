//! Where the daemon answers over HTTP, and how much it tells there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port of health checks and metrics where nothing else is said; away from kube-proxy's 10249
/// and 10256 and the kubelet's 10250.
const PORT: u16 = 10_271;

/// An address and port to listen on, as `0.0.0.0:10271`; empty: nothing listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct BindAddress(pub Option<SocketAddr>);

impl Default for BindAddress {
    fn default() -> Self {
        Self(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)))
    }
}

/// As [`BindAddress`], but of the loopback where nothing is said: everybody there may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AdminBindAddress(pub BindAddress);

/// The port of what commands read, beside [`PORT`].
const ADMIN_PORT: u16 = 10_270;

impl Default for AdminBindAddress {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self(BindAddress(Some(SocketAddr::new(loopback, ADMIN_PORT))))
    }
}

impl TryFrom<String> for BindAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let given: Option<SocketAddr> = text.trim().parse().ok();
        // Port 0 would be another one at each start: nobody could ask it.
        let given = given.filter(|address| address.port() != 0);
        given.map(|address| Self(Some(address))).ok_or_else(|| {
            format!("`{text}` is not ADDRESS:PORT such as 0.0.0.0:10271 or [::]:10271; \"\" is off")
        })
    }
}

impl From<BindAddress> for String {
    fn from(address: BindAddress) -> Self {
        address.0.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// What `/metrics` tells.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Series of each service port.
    pub per_service: bool,
    /// Series of each backend: as many as there are pods.
    pub per_backend: bool,
    /// Native histograms beside the classic ones, for scrapers that ask for protobuf.
    pub native_histograms: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { per_service: true, per_backend: false, native_histograms: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_is_nothing() {
        let read = |text: &str| BindAddress::try_from(text.to_owned());
        assert_eq!(read("0.0.0.0:10271"), Ok(BindAddress::default()));
        assert_eq!(read(""), Ok(BindAddress(None)));
        assert_eq!(String::from(read("[::1]:80").unwrap()), "[::1]:80");
        for wrong in ["10271", "localhost:80", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000"] {
            assert!(read(wrong).unwrap_err().contains("ADDRESS:PORT"), "{wrong}");
        }
    }
}
