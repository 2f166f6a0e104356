//! Which resets end a flow.

use super::*;
use crate::flow_table::FlowState;
use crate::packet::headers::tcp_flags::{ACK, FIN, RST, SYN};
use crate::testing::tcp_frame_with;
use etherparse::TcpHeader;

/// What the client has acknowledged of its backend's bytes, and its backend of the client's.
const OF_BACKEND: u32 = 0x0001_0005;
const OF_CLIENT: u32 = 0xffff_fffe;

fn header(flags: u8, sequence: u32, acknowledgment: u32) -> TcpHeader {
    let mut tcp = TcpHeader::new(0, 0, sequence, 65_000);
    tcp.acknowledgment_number = acknowledgment;
    tcp.syn = flags & SYN != 0;
    tcp.ack = flags & ACK != 0;
    tcp.fin = flags & FIN != 0;
    tcp.rst = flags & RST != 0;
    tcp
}

struct Connection {
    pipeline: Pipeline,
    snapshot: Snapshot,
    client: (String, String),
    backend: (String, String),
}

impl Connection {
    /// One that is established, with data both ways.
    fn new(family: Family) -> Self {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let client = (client(family), family.front().to_owned());
        let syn = tcp_frame_with(&client.0, &client.1, header(SYN, 1, 0), b"");
        let (snat, backend) = to_backend(&mut pipeline, &snapshot, &syn);
        let mut connection = Self { pipeline, snapshot, client, backend: (backend, snat) };
        connection.backend(header(SYN | ACK, OF_BACKEND - 1, OF_CLIENT), NOW);
        connection.client(header(ACK, OF_CLIENT, OF_BACKEND), NOW);
        assert_eq!(connection.state(), FlowState::Established);
        connection
    }

    fn client(&mut self, tcp: TcpHeader, now: Time) {
        let frame = tcp_frame_with(&self.client.0, &self.client.1, tcp, b"");
        let (verdict, _) = send(&mut self.pipeline, &self.snapshot, &frame, now);
        assert_eq!(verdict, Verdict::Forward(INNER));
    }

    fn backend(&mut self, tcp: TcpHeader, now: Time) {
        let frame = tcp_frame_with(&self.backend.0, &self.backend.1, tcp, b"");
        let (verdict, _) = send(&mut self.pipeline, &self.snapshot, &frame, now);
        assert_eq!(verdict, Verdict::Forward(OUTER));
    }

    fn state(&self) -> FlowState {
        self.pipeline.flows.scan(0, 8).0.next().unwrap().state
    }

    /// Whether the flow is there after that many seconds.
    fn lives_at(&mut self, seconds: u64) -> bool {
        // The hand looks at all entries within five seconds.
        for at in [seconds.saturating_sub(5), seconds] {
            self.pipeline.flows.expire(later(at));
        }
        !self.pipeline.flows.is_empty()
    }
}

#[test]
fn a_reset_with_the_number_that_is_awaited_closes_from_either_side() {
    for family in Family::ALL {
        let mut connection = Connection::new(family);
        connection.client(header(RST, OF_CLIENT, 0), NOW);
        assert_eq!(connection.state(), FlowState::Close);
        let mut connection = Connection::new(family);
        connection.backend(header(RST | ACK, OF_BACKEND, OF_CLIENT), NOW);
        assert_eq!(connection.state(), FlowState::Close);
    }
}

#[test]
fn a_reset_with_another_number_goes_on_to_who_can_judge_it_and_closes_nothing() {
    for family in Family::ALL {
        let mut connection = Connection::new(family);
        connection.client(header(RST, OF_CLIENT + 1, 0), NOW);
        assert_eq!(connection.state(), FlowState::Established);
        connection.backend(header(RST | ACK, OF_BACKEND - 1, OF_CLIENT), NOW);
        assert_eq!(connection.state(), FlowState::Established);
        // What a reset acknowledges counts for nothing.
        connection.client(header(RST | ACK, OF_CLIENT - 7, OF_BACKEND - 1), NOW);
        connection.backend(header(RST, OF_BACKEND, 0), NOW);
        assert_eq!(connection.state(), FlowState::Close);
    }
}

#[test]
fn a_flow_with_a_doubtful_reset_lives_on_for_two_minutes_or_as_long_as_it_speaks() {
    let mut silent = Connection::new(Family::V4);
    silent.client(header(RST, OF_CLIENT + 1, 0), NOW);
    assert!(silent.lives_at(115));
    assert!(!silent.lives_at(126));
    let mut speaking = Connection::new(Family::V4);
    speaking.client(header(RST, OF_CLIENT + 1, 0), NOW);
    speaking.backend(header(ACK, OF_BACKEND, OF_CLIENT), later(100));
    assert!(speaking.lives_at(3_600));
}

#[test]
fn a_reset_with_any_number_ends_what_is_not_established() {
    let mut closing = Connection::new(Family::V4);
    closing.client(header(FIN | ACK, OF_CLIENT, OF_BACKEND), NOW);
    closing.client(header(RST, 77, 0), NOW);
    assert_eq!(closing.state(), FlowState::Close);
}
