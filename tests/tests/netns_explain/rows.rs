//! The kinds of packets, and what each of them meets.

use crate::GONE_PORT;
use anyhow::{Context as _, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tidegate_control::demo::rig::{NetNs, client_of, gateway_of};
use tidegate_dataplane::types::Protocol;
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, V4, V6};

/// One kind of packet.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) from: From,
    pub(crate) to: To,
    pub(crate) port: u16,
    pub(crate) families: &'static [Family],
    pub(crate) protocols: &'static [Protocol],
    pub(crate) meets: Meets,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    /// A client outside of the VIP's source ranges.
    Outsider,
    /// The pod on the gateway.
    Near,
    /// The gateway itself.
    Gateway,
}

#[derive(Clone, Copy)]
pub(crate) enum To {
    /// The gateway's address, which serves node ports.
    Node,
    /// One of its addresses that does not.
    Inside,
    Vip,
    External,
}

#[derive(Clone, Copy)]
pub(crate) enum Meets {
    /// One of these pods, which sees an address of the gateway.
    Masqueraded(&'static [&'static str]),
    /// One of these pods, which sees the sender itself; but the gateway, if it is the sender.
    Kept(&'static [&'static str]),
    /// The same pod each time, which sees an address of the gateway.
    Sticky(&'static [&'static str]),
    /// An ICMP port unreachable from the contacted address.
    Reject,
    /// Silence, for this reason.
    Drop(&'static str),
    /// The gateway's own stack, for this reason.
    Pass(&'static str),
}

pub(crate) const ALL: &[&str] = &[NEAR, FAR[0], FAR[1]];
pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

const fn row(what: &'static str, from: From, (to, port): (To, u16), meets: Meets) -> Row {
    Row { what, from, to, port, families: &FAMILIES, protocols: &PROTOCOLS, meets }
}

pub(crate) const ROWS: &[Row] = &[
    row("policy Cluster", From::Client, (To::Node, 30_110), Meets::Masqueraded(ALL)),
    row("policy Local", From::Client, (To::Node, 30_111), Meets::Kept(&[NEAR])),
    row("affinity", From::Client, (To::Node, 30_112), Meets::Sticky(ALL)),
    row("a VIP, within its ranges", From::Client, (To::Vip, 80), Meets::Masqueraded(ALL)),
    row(
        "a VIP, outside of its ranges",
        From::Outsider,
        (To::Vip, 80),
        Meets::Drop("DENIED_BY_LB_SRC_RANGE_CHECK"),
    ),
    row("its node port", From::Outsider, (To::Node, 30_113), Meets::Masqueraded(ALL)),
    row("an external IP", From::Client, (To::External, 81), Meets::Masqueraded(ALL)),
    row("no endpoints", From::Client, (To::Node, 30_114), Meets::Reject),
    row("no endpoints, at a VIP", From::Client, (To::Vip, 82), Meets::Reject),
    row("no local endpoints", From::Client, (To::Node, 30_115), Meets::Drop("NO_LOCAL_ENDPOINTS")),
    row("a pod, policy Cluster", From::Near, (To::Node, 30_110), Meets::Masqueraded(ALL)),
    row("a pod, policy Local", From::Near, (To::Node, 30_111), Meets::Kept(ALL)),
    row("a pod, no local endpoints", From::Near, (To::Node, 30_115), Meets::Kept(&[FAR[0]])),
    row("a pod that dials itself", From::Near, (To::Node, 30_116), Meets::Kept(&[NEAR])),
    row("a pod, no endpoints", From::Near, (To::Node, 30_114), Meets::Reject),
    row("no Service", From::Client, (To::Node, 30_999), Meets::Pass("NO_SERVICE")),
    Row {
        // The server's UDP answer has the address that its stack likes best.
        protocols: &[Protocol::Tcp],
        ..row(
            "no node port's address",
            From::Client,
            (To::Inside, 30_110),
            Meets::Pass("NOT_NODEPORT_ADDRESS"),
        )
    },
    row("a host-network backend", From::Client, (To::Node, 30_117), Meets::Pass("LOCAL_BACKEND")),
    row("the node's own traffic", From::Gateway, (To::Node, 30_110), Meets::Pass("NO_SERVICE")),
    Row {
        families: &[V6],
        ..row(
            "a family without cluster IP",
            From::Client,
            (To::Node, 30_119),
            Meets::Pass("NO_SERVICE"),
        )
    },
    Row {
        families: &[V4],
        ..row("its other family", From::Client, (To::Node, 30_119), Meets::Masqueraded(ALL))
    },
];

/// A front that was removed while it had connections.
pub(crate) static DRAINING: Row = Row {
    // A front without connections, as UDP's, is gone at once.
    protocols: &[Protocol::Tcp],
    ..row("a draining front", From::Client, (To::Node, GONE_PORT), Meets::Pass("DRAINING_FRONT"))
};

impl From {
    pub(crate) fn netns(self, lab: &Lab) -> Result<&NetNs> {
        Ok(match self {
            Self::Client | Self::Outsider => lab.rig().client(),
            Self::Near => lab.site().pod(NEAR).context("the local pod")?.netns(),
            Self::Gateway => lab.rig().gateway(),
        })
    }

    pub(crate) fn address(self, lab: &Lab, family: Family) -> Result<IpAddr> {
        Ok(match self {
            Self::Client => client_of(family),
            Self::Outsider => outsider(family),
            Self::Near => lab.site().pod(NEAR).context("the local pod")?.address_of(family),
            Self::Gateway => gateway_of(family),
        })
    }
}

impl To {
    pub(crate) fn address(self, lab: &Lab, family: Family) -> IpAddr {
        let plan = lab.rig().plan();
        match (self, family) {
            (Self::Node, family) => gateway_of(family),
            (Self::Inside, V4) => plan.gateway_inside().into(),
            (Self::Inside, V6) => plan.gateway_inside_v6().into(),
            (Self::Vip, V4) => Ipv4Addr::new(203, 0, 113, 5).into(),
            (Self::Vip, V6) => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 5).into(),
            (Self::External, V4) => Ipv4Addr::new(203, 0, 113, 6).into(),
            (Self::External, V6) => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 6).into(),
        }
    }
}

/// The address of a client outside of the VIP's source ranges.
pub(crate) fn outsider(family: Family) -> IpAddr {
    match family {
        V4 => Ipv4Addr::new(198, 51, 100, 9).into(),
        V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 9).into(),
    }
}
