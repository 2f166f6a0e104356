//! What happens to a packet, and why. The names are an interface: they stand in metrics, in
//! `get drops` and in `explain`, and are never renamed.

use crate::types::{InterfaceSlot, WorkerId};

/// What the pipeline decided about one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not decided yet. After the pipeline no packet holds it.
    Pending,
    /// Rewritten; leaves by this interface.
    Forward(InterfaceSlot),
    /// Turned into its answer, which leaves by the interface it came from.
    Reject(RejectReason),
    /// Untouched; goes back to the kernel by the road of T8.
    Pass(PassReason),
    /// Gone.
    Drop(DropReason),
    /// Untouched; its flow lives on another worker, which will decide and count.
    HandOff(WorkerId),
    /// Made by us on account of another packet. No packet that came holds it.
    Generated,
    /// Untouched; a fragment that is to be decided again once its datagram's first has come.
    Wait,
}

/// What kind of event a reason tells of: whom it concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The cluster's or operator's configuration asks for it.
    Config,
    /// A limit was reached.
    Capacity,
    /// The packet itself.
    Traffic,
    /// Should never happen.
    Bug,
}

impl Kind {
    /// The word for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Capacity => "capacity",
            Self::Traffic => "traffic",
            Self::Bug => "bug",
        }
    }
}

/// Makes an enum of reasons, and its table of name, stage, kind and next step from one list, so
/// that none of the four can be forgotten.
macro_rules! reasons {
    ($(#[$meta:meta])* $enum:ident { $(
        $(#[$doc:meta])*
        $variant:ident = ($name:literal, $stage:literal, $kind:ident, $next:literal),
    )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $enum { $($(#[$doc])* $variant,)+ }

        impl $enum {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The stage of the path that decided.
            pub const fn stage(self) -> &'static str {
                match self { $(Self::$variant => $stage,)+ }
            }

            /// Whom it concerns.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }

            /// What an operator does next.
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$variant => $next,)+ }
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        /// Shorter than its Ethernet or IP header.
        PktTooSmall = ("PKT_TOO_SMALL", "parse", Traffic,
            "capture it: a sender or driver cuts frames"),
        /// The IP total length says more than the frame holds, or the L4 header is cut.
        HdrTrunc = ("HDR_TRUNC", "parse", Traffic, "capture it: a sender or driver cuts frames"),
        /// Bad IP version, header length, total length or options; or a source route, which the
        /// kernel drops too unless `accept_source_route` is set.
        IpInhdr = ("IP_INHDR", "parse", Traffic,
            "capture it: the sender writes bad IP headers, or asks for a route of its own"),
        /// IPv6 extension headers out of order, more than the limit, or a stop of a routing header.
        Ipv6BadExthdr = ("IPV6_BAD_EXTHDR", "parse", Traffic,
            "capture it: the sender writes unusual IPv6 extension headers"),
        /// A fragment whose datagram's first was refused, or that came before it and found too many
        /// waiting.
        FirstFragmentNotFound = ("FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", "parse", Traffic,
            "first fragments are refused or late: see the other reasons, and capture them"),
        /// UDP over IPv6 without a checksum (RFC 8200 section 8.1 forbids it).
        UdpCsum = ("UDP_CSUM", "parse", Traffic,
            "let the sender fill in UDP checksums: IPv6 requires them"),
        /// TTL or hop limit is used up, and its sender may not be told: an ICMP error, or too many
        /// answers.
        TtlExceeded = ("TTL_EXCEEDED", "parse", Traffic,
            "look for a routing loop between client and gateway: more than an answer each"),
        /// A source address that no host may have.
        InvalidSourceIp = ("INVALID_SOURCE_IP", "parse", Traffic,
            "a sender spoofs its address; filter it upstream"),
        /// Endpoints serve elsewhere, none on this node, and the policy is Local (semantics D2).
        NoLocalEndpoints = ("NO_LOCAL_ENDPOINTS", "service", Config,
            "externalTrafficPolicy Local: send clients to a node with a ready pod \
             (healthCheckNodePort tells which)"),
        /// No backend of the set has a usable next hop.
        ServiceBackendNotFound = ("SERVICE_BACKEND_NOT_FOUND", "service", Config,
            "tidegate get backends: their routes or interfaces are missing"),
        /// The source is outside loadBalancerSourceRanges (semantics F1).
        DeniedByLbSrcRangeCheck = ("DENIED_BY_LB_SRC_RANGE_CHECK", "service", Config,
            "add the client to loadBalancerSourceRanges if it should pass"),
        /// The flow table is full and nothing embryonic could be evicted.
        FlowTableFull = ("FLOW_TABLE_FULL", "flow", Capacity, "raise conntrack.maxFlows"),
        /// As many TCP handshakes are under way as may be, and all are of this very moment.
        EmbryonicFlowsFull = ("EMBRYONIC_FLOWS_FULL", "flow", Capacity,
            "a SYN flood, or raise conntrack.maxEmbryonicFlows; synProxy: auto needs no flow for a \
             SYN"),
        /// More new flows than a worker may begin.
        NewFlowsLimited = ("NEW_FLOWS_LIMITED", "flow", Config,
            "raise conntrack.newFlowsPerSecond, or look for a flood: tidegate get flows"),
        /// The kernel's flow map refused the entry, so the reply could not be steered.
        FlowMapFull = ("FLOW_MAP_FULL", "flow", Capacity,
            "raise conntrack.maxFlows; the XDP flow map has the same size"),
        /// TCP, no flow, not a SYN, and `conntrack.midFlow` is drop, or forward and its backend
        /// does not follow from the packet.
        TcpNotSyn = ("TCP_NOT_SYN", "flow", Traffic,
            "the flow began before tidegate or on another gateway; the peer opens it anew"),
        /// A reply whose flow has ended meanwhile.
        FlowStateInvalid = ("FLOW_STATE_INVALID", "flow", Traffic,
            "late packets of a flow that ended; harmless in small numbers"),
        /// The backend is not of the packet's family: never compiled so.
        FamilyMismatch = ("FAMILY_MISMATCH", "flow", Bug,
            "please report it, with the Service and its EndpointSlices"),
        /// No free source port to this backend: neither in the worker's slice nor in another's.
        SnatPortsExhausted = ("SNAT_PORTS_EXHAUSTED", "rewrite", Capacity,
            "more addresses: loadBalancer.snatAddresses; or a larger loadBalancer.sourcePortRange"),
        /// The node has no address of the family on the egress side to masquerade with.
        NoSnatAddress = ("NO_SNAT_ADDRESS", "rewrite", Config,
            "give the egress interface an address of the backend's family"),
        /// No route to the backend, or its interface is not attached.
        IpOutnoroutes = ("IP_OUTNOROUTES", "route", Config,
            "ip route get BACKEND; tidegate get interfaces"),
        /// The neighbour's link address is not known.
        NeighFailed = ("NEIGH_FAILED", "route", Config,
            "ip neigh show: the next hop does not answer ARP or NDP"),
        /// The packet does not fit the egress interface's MTU, and its sender may not be told: an
        /// ICMP error, or too many answers. Or IPv4 without DF, in more pieces than we cut.
        PktTooBig = ("PKT_TOO_BIG", "route", Traffic,
            "lower the sender's MTU, let it set DF, or raise the egress interface's MTU"),
        /// The transmit ring has no room.
        FullRing = ("FULL_RING", "transmit", Capacity, "raise memory.ringSize or add workers"),
        /// The egress interface went away or has no socket.
        DevReady = ("DEV_READY", "transmit", Config,
            "ip link show: the egress interface is down or detached"),
        /// No free frame.
        Nomem = ("NOMEM", "transmit", Capacity, "raise memory.framesPerQueue"),
        /// The hand-off ring to the owning worker has no room.
        HandOffFull = ("HAND_OFF_FULL", "transmit", Capacity,
            "a worker is overloaded: tidegate get workers"),
        /// The road back to the kernel is over its rate.
        RateLimited = ("RATE_LIMITED", "policy", Config,
            "too many packets per second for the kernel: see passed reasons in tidegate get \
             drops"),
        /// The kernel dropped it before our ring: no frame was free, or it did not fit.
        XskRxDropped = ("XSK_RX_DROPPED", "receive", Capacity,
            "no free frame: add workers or raise memory.framesPerQueue; or the packet exceeds \
             memory.frameSize"),
        /// The kernel dropped it: our receive ring was full.
        XskRxRingFull = ("XSK_RX_RING_FULL", "receive", Capacity,
            "raise memory.ringSize or add workers"),
        /// The worker did not beat: a packet of a live flow was dropped by the XDP program, or by a
        /// worker that would have handed it over.
        StaleWorker = ("STALE_WORKER", "receive", Bug,
            "a worker hangs: tidegate get workers, and the log"),
    }
}

reasons! {
    /// Why a packet was answered in its own frame: by an ICMP error, a TCP reset or a SYN cookie.
    RejectReason {
        /// No usable endpoint anywhere (semantics D1, D4): port unreachable.
        NoEndpoints = ("NO_ENDPOINTS", "service", Config,
            "no ready pod: kubectl get endpointslices"),
        /// TCP, no flow, not a SYN, and `conntrack.midFlow` is `reset`: a reset.
        TcpNotSyn = ("TCP_NOT_SYN", "flow", Traffic,
            "the flow began before tidegate or on another gateway; the peer opens it anew"),
        /// A SYN that was answered with a cookie (`synProxy`): the client goes on with its ACK.
        SynCookie = ("SYN_COOKIE", "flow", Traffic,
            "nothing with synProxy: always; else it is a SYN flood: see tidegate status"),
        /// TTL or hop limit is used up: time exceeded.
        TtlExceeded = ("TTL_EXCEEDED", "parse", Traffic,
            "nothing for single ones (traceroute); else look for a routing loop"),
        /// Too big for the egress interface: fragmentation needed, or packet too big.
        PktTooBig = ("PKT_TOO_BIG", "route", Traffic,
            "nothing for single ones: the sender learns the MTU of the path"),
    }
}

reasons! {
    /// Why a packet was left to, or given back to, the kernel.
    PassReason {
        /// Not IP.
        NotIp = ("NOT_IP", "xdp", Traffic, "nothing: ARP and the like belong to the kernel"),
        /// Not a front, not a flow of ours.
        NoService = ("NO_SERVICE", "xdp", Traffic, "nothing: the node's own traffic"),
        /// A fragment.
        Fragment = ("FRAGMENT", "xdp", Traffic, "nothing: the kernel reassembles"),
        /// Of a VLAN that has an interface of its own, or tagged twice, or not IP behind its tag.
        VlanTagged = ("VLAN_TAGGED", "xdp", Traffic, "nothing: the kernel's VLAN device takes it"),
        /// Too short or malformed for the XDP program.
        Malformed = ("MALFORMED", "xdp", Traffic, "nothing: the kernel drops and counts it"),
        /// The L2 destination is not this interface.
        OtherHost = ("OTHERHOST", "xdp", Traffic, "nothing: the kernel ignores it"),
        /// New flow to a front that was removed: drains (T1).
        DrainingFront = ("DRAINING_FRONT", "xdp", Config,
            "nothing: the front is gone; live TCP flows keep it"),
        /// New flow while the worker is stale or absent (T2).
        Fallback = ("FALLBACK", "xdp", Bug, "a worker hangs or is starting: tidegate get workers"),
        /// The front or flow left between the XDP program and the worker.
        FrontGone = ("FRONT_GONE", "service", Config,
            "nothing: in flight when the front was removed"),
        /// TCP without SYN and without flow: it may be the kernel's own NAT that knows it.
        TcpNotSyn = ("TCP_NOT_SYN", "flow", Traffic,
            "nothing: kube-proxy's own flow, or a peer that must reconnect"),
        /// A backend is an address of this node (T12).
        LocalBackend = ("LOCAL_BACKEND", "service", Config,
            "nothing: a host-network pod is served by the kernel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn drop_names_are_unique_and_upper_case() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        let is_upper = |c: char| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit();
        assert!(names.iter().all(|n| n.chars().all(is_upper)));
    }
}
