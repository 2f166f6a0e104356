//! TCP states as Linux conntrack has them: net/netfilter/nf_conntrack_proto_tcp.c,
//! `tcp_conntracks`. Windows are not checked (`nf_conntrack_tcp_be_liberal`).

use crate::engine::FlowTimeouts;
use crate::flow_table::Direction;
use crate::packet::headers::tcp_flags;

/// A flow's state. UDP uses the last two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowState {
    /// SYN seen.
    SynSent,
    /// SYN and SYN-ACK seen.
    SynRecv,
    /// The handshake is complete.
    Established,
    /// FIN of one side seen.
    FinWait,
    /// That FIN acknowledged.
    CloseWait,
    /// FINs of both sides seen.
    LastAck,
    /// Both acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// SYNs of both sides seen.
    SynSent2,
    /// UDP, no reply yet.
    UdpNew,
    /// UDP, reply seen.
    UdpStream,
}

use FlowState as S;

/// Columns: SynSent SynRecv Established FinWait CloseWait LastAck TimeWait Close SynSent2.
/// "Ignore" and "invalid" of the kernel's table both keep the state here: the packet is forwarded
/// all the same, since a liberal tracker cannot tell a stray from a retransmission.
type Row = [FlowState; 9];

const STAY: Row = [
    S::SynSent,
    S::SynRecv,
    S::Established,
    S::FinWait,
    S::CloseWait,
    S::LastAck,
    S::TimeWait,
    S::Close,
    S::SynSent2,
];

const FIN: Row = [
    S::SynSent,
    S::FinWait,
    S::FinWait,
    S::LastAck,
    S::LastAck,
    S::LastAck,
    S::TimeWait,
    S::Close,
    S::SynSent2,
];

const RST: Row = [S::Close; 9];

/// SYN, SYN-ACK, FIN, ACK, RST from the client.
const FORWARD: [Row; 5] =
    [STAY, with(STAY, 8, S::SynRecv), FIN, ack(S::SynSent, S::Established, S::SynSent2), RST];

/// SYN, SYN-ACK, FIN, ACK, RST from the backend.
const REPLY: [Row; 5] = [
    with(STAY, 0, S::SynSent2),
    with(with(STAY, 0, S::SynRecv), 8, S::SynRecv),
    FIN,
    ack(S::SynSent, S::SynRecv, S::SynSent2),
    RST,
];

const fn with(mut row: Row, column: usize, state: FlowState) -> Row {
    row[column] = state;
    row
}

const fn ack(syn_sent: FlowState, syn_recv: FlowState, syn_sent2: FlowState) -> Row {
    [
        syn_sent,
        syn_recv,
        S::Established,
        S::CloseWait,
        S::CloseWait,
        S::TimeWait,
        S::TimeWait,
        S::Close,
        syn_sent2,
    ]
}

impl FlowState {
    /// The state after a TCP packet with these control bits.
    #[inline]
    #[must_use]
    pub fn after_tcp(self, direction: Direction, flags: u8) -> Self {
        let rows = match direction {
            Direction::Forward => &FORWARD,
            Direction::Reply => &REPLY,
        };
        let Some(row) = row_of(flags).and_then(|index| rows.get(index)) else { return self };
        row.get(self as usize).copied().unwrap_or(self)
    }

    /// The state after a UDP packet.
    #[inline]
    #[must_use]
    pub fn after_udp(self, direction: Direction) -> Self {
        match direction {
            Direction::Forward => self,
            Direction::Reply => Self::UdpStream,
        }
    }

    /// Whether a client's SYN on such a flow begins a new one (conntrack's sSS entries;
    /// kubernetes#81775: it must not inherit the old backend).
    #[inline]
    pub fn is_reopened_by_syn(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// Whether a TCP handshake is under way: neither side has seen it complete.
    #[inline]
    pub fn is_handshake(self) -> bool {
        matches!(self, Self::SynSent | Self::SynRecv | Self::SynSent2)
    }

    /// Whether the flow may be evicted for another: nobody relies on it yet.
    #[inline]
    pub fn is_embryonic(self) -> bool {
        self.is_handshake() || matches!(self, Self::UdpNew | Self::Close)
    }

    /// conntrack's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
            Self::UdpNew => "UNREPLIED",
            Self::UdpStream => "ASSURED",
        }
    }
}

/// The row that the kernel's `get_conntrack_index` picks: RST, then SYN, FIN, ACK.
#[inline]
fn row_of(flags: u8) -> Option<usize> {
    if flags & tcp_flags::RST != 0 {
        Some(4)
    } else if flags & tcp_flags::SYN != 0 {
        Some(usize::from(flags & tcp_flags::ACK != 0))
    } else if flags & tcp_flags::FIN != 0 {
        Some(2)
    } else {
        (flags & tcp_flags::ACK != 0).then_some(3)
    }
}

/// Idle times in milliseconds, by state.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutTable([u32; 11]);

impl TimeoutTable {
    /// The table for these times; states that kube-proxy does not set have the kernel's.
    pub fn new(timeouts: &FlowTimeouts) -> Self {
        const SYN_SENT_MS: u32 = 120_000;
        const SYN_RECV_MS: u32 = 60_000;
        const LAST_ACK_MS: u32 = 30_000;
        const TIME_WAIT_MS: u32 = 120_000;
        const CLOSE_MS: u32 = 10_000;
        // Idle times are compared as signed differences.
        let ms = |d: core::time::Duration| {
            i32::try_from(d.as_millis()).unwrap_or(i32::MAX).cast_unsigned()
        };
        Self([
            SYN_SENT_MS,
            SYN_RECV_MS,
            ms(timeouts.tcp_established),
            ms(timeouts.tcp_fin),
            ms(timeouts.tcp_close_wait),
            LAST_ACK_MS,
            TIME_WAIT_MS,
            CLOSE_MS,
            SYN_SENT_MS,
            ms(timeouts.udp),
            ms(timeouts.udp_stream),
        ])
    }

    /// The idle time of a state in milliseconds.
    #[inline]
    pub fn of(&self, state: FlowState) -> u32 {
        self.0.get(state as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reply};
    use tcp_flags::{ACK, FIN, RST, SYN};

    fn run(packets: &[(Direction, u8)]) -> FlowState {
        packets.iter().fold(S::SynSent, |state, (d, flags)| state.after_tcp(*d, *flags))
    }

    #[test]
    fn a_connection_lives_and_closes() {
        let handshake = [(Reply, SYN | ACK), (Forward, ACK)];
        assert_eq!(run(&handshake[..1]), S::SynRecv);
        assert_eq!(run(&handshake), S::Established);
        let closing = |tail: &[(Direction, u8)]| run(&[&handshake[..], tail].concat());
        assert_eq!(closing(&[(Forward, FIN | ACK)]), S::FinWait);
        assert_eq!(closing(&[(Forward, FIN | ACK), (Reply, ACK)]), S::CloseWait);
        let both = [(Forward, FIN | ACK), (Reply, FIN | ACK), (Forward, ACK)];
        assert_eq!(closing(&both[..2]), S::LastAck);
        assert_eq!(closing(&both), S::TimeWait);
        assert!(closing(&both).is_reopened_by_syn());
    }

    #[test]
    fn a_reset_closes_from_every_state() {
        for state in STAY {
            assert_eq!(state.after_tcp(Reply, RST | ACK), S::Close);
        }
    }

    #[test]
    fn a_repeated_syn_does_not_disturb_an_established_flow() {
        assert_eq!(S::Established.after_tcp(Forward, SYN), S::Established);
        assert!(!S::Established.is_reopened_by_syn());
    }

    #[test]
    fn packets_without_control_bits_change_nothing() {
        assert!(STAY.iter().all(|s| s.after_tcp(Forward, 0) == *s));
    }

    #[test]
    fn g9_every_state_has_conntracks_or_kube_proxys_time() {
        let seconds = [
            (S::SynSent, 120),
            (S::SynRecv, 60),
            (S::Established, 86_400),
            (S::FinWait, 120),
            (S::CloseWait, 3_600),
            (S::LastAck, 30),
            (S::TimeWait, 120),
            (S::Close, 10),
            (S::SynSent2, 120),
            (S::UdpNew, 30),
            (S::UdpStream, 120),
        ];
        let table = TimeoutTable::new(&FlowTimeouts::default());
        for (state, seconds) in seconds {
            assert_eq!(table.of(state), seconds * 1_000, "{}", state.name());
        }
    }

    /// The kernel's `tcp_conntracks`, row by row, as far as it moves at all.
    #[test]
    fn g9_each_control_bit_moves_each_state_as_the_kernels_table_says() {
        let moves = |direction, flags| STAY.map(|state| state.after_tcp(direction, flags));
        let ack = [
            S::SynSent,
            S::Established,
            S::Established,
            S::CloseWait,
            S::CloseWait,
            S::TimeWait,
            S::TimeWait,
            S::Close,
            S::SynSent2,
        ];
        let mut reply_ack = ack;
        reply_ack[1] = S::SynRecv;
        assert_eq!((moves(Forward, ACK), moves(Reply, ACK)), (ack, reply_ack));
        let (mut syn, mut syn_ack) = (STAY, STAY);
        syn[0] = S::SynSent2;
        (syn_ack[0], syn_ack[8]) = (S::SynRecv, S::SynRecv);
        assert_eq!((moves(Forward, SYN), moves(Reply, SYN)), (STAY, syn));
        assert_eq!(moves(Reply, SYN | ACK), syn_ack);
        syn_ack[0] = S::SynSent;
        assert_eq!(moves(Forward, SYN | ACK), syn_ack, "of a simultaneous open");
        for direction in [Forward, Reply] {
            let fin = moves(direction, FIN | ACK);
            assert_eq!(fin[1..6], [S::FinWait, S::FinWait, S::LastAck, S::LastAck, S::LastAck]);
            assert_eq!(fin[6..], [S::TimeWait, S::Close, S::SynSent2]);
            assert_eq!(moves(direction, RST), [S::Close; 9]);
        }
    }
}
