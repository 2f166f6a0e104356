//! What the guard lets the host send, and what it notes of it.

use crate::net::{enter_new_namespace, now};
use crate::rig::{CONFIG, OWNER};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use tidegate_dataplane::testing::{tcp_frame, udp_frame};
use tidegate_dataplane::types::{FlowKey, L4Port, PortRange, Protocol, Time};
use tidegate_dataplane::xdp::guard::Guard;
use tidegate_dataplane::xdp::program::Steering;

const ETHERNET_BYTES: usize = 14;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A backend, and an address of the node without its port.
const ENDS: [(&str, &str); 2] = [("127.0.0.9:8080", "127.0.0.1"), ("[fd00::9]:8080", "[fd00::1]")];

struct Rig {
    steering: Steering,
    guard: Guard,
}

impl Rig {
    fn new() -> Self {
        enter_new_namespace();
        let steering = Steering::load(&CONFIG).unwrap();
        let ports = PortRange::new_checked(15_000, 15_999).unwrap();
        let guard = Guard::open(&steering.flows, ports).unwrap();
        Self { steering, guard }
    }

    /// Takes a tuple for a flow of ours.
    fn take(&self, answer: FlowKey) {
        assert_eq!(self.steering.flows.insert_batch(&[answer], OWNER), 1);
    }

    fn may_send(&self, frame: &[u8]) -> bool {
        self.guard.trial(&frame[ETHERNET_BYTES..]).unwrap()
    }

    fn held_back(&self) -> u64 {
        self.guard.held_back_packets().unwrap()
    }

    /// For how many seconds the host has the tuple.
    fn seconds_left(&self, answer: &FlowKey) -> u64 {
        let is_hosts = |seconds: u64| {
            let at = Time(now().0 + seconds * 1_000_000_000);
            self.guard.host_flows().has(answer, at)
        };
        (0..20_000).find(|seconds| !is_hosts(*seconds)).unwrap()
    }
}

fn answer(protocol: Protocol, (backend, node): (&str, &str), port: u16) -> FlowKey {
    let end = |text: &str| {
        let address: SocketAddr = text.parse().unwrap();
        (address.ip().into(), L4Port::new(address.port()))
    };
    FlowKey::new(protocol, end(backend), end(&format!("{node}:{port}")))
}

#[test]
fn a_first_packet_whose_answers_would_be_ours_is_held_back_and_no_other() {
    let rig = Rig::new();
    for (number, ends) in (1..).zip(ENDS) {
        let (backend, node) = ends;
        let from = |port: u16| format!("{node}:{port}");
        rig.take(answer(Protocol::Tcp, ends, 15_001));
        rig.take(answer(Protocol::Udp, ends, 15_001));
        assert!(!rig.may_send(&tcp_frame(&from(15_001), backend, SYN, b"")));
        assert!(!rig.may_send(&udp_frame(&from(15_001), backend, b"x")));
        assert_eq!(rig.held_back(), 2 * number);
        assert!(rig.may_send(&tcp_frame(&from(15_002), backend, SYN, b"")), "another port");
        assert!(rig.may_send(&udp_frame(&from(15_002), backend, b"x")));
        let other = backend.replace("8080", "8081");
        assert!(rig.may_send(&tcp_frame(&from(15_001), &other, SYN, b"")), "another backend");
    }
}

#[test]
fn a_tuple_of_the_host_is_noted_for_as_long_as_it_may_live() {
    let rig = Rig::new();
    for ends in ENDS {
        let (backend, node) = ends;
        let send = |port: u16, flags| {
            assert!(rig.may_send(&tcp_frame(&format!("{node}:{port}"), backend, flags, b"")));
            rig.seconds_left(&answer(Protocol::Tcp, ends, port))
        };
        assert_eq!(send(14_999, SYN), 0, "no port of ours");
        for (flags, seconds) in [(SYN, 7500), (ACK, 7500), (FIN | ACK, 120), (ACK, 120)] {
            let left = send(15_003, flags);
            assert!((seconds - 1..=seconds).contains(&left), "{flags}: {left}");
        }
        assert!(send(15_003, SYN) > 7000, "opened anew");
        assert!(send(15_003, RST) <= 120);
        assert!(send(15_004, ACK) > 7000, "it began before the guard");
        assert!(rig.may_send(&udp_frame(&format!("{node}:15005"), backend, b"x")));
        let left = rig.seconds_left(&answer(Protocol::Udp, ends, 15_005));
        assert!((119..=120).contains(&left), "{left}");
    }
}

#[test]
fn a_live_flow_of_the_host_takes_its_tuple_back() {
    let rig = Rig::new();
    for ends in ENDS {
        let (backend, node) = ends;
        let from = format!("{node}:15006");
        rig.take(answer(Protocol::Tcp, ends, 15_006));
        assert!(rig.may_send(&tcp_frame(&from, backend, ACK, b"data")));
        assert!(rig.may_send(&tcp_frame(&from, backend, SYN, b"")), "it is ours no more");
        assert!(rig.may_send(&udp_frame(&from, backend, b"x")));
        rig.take(answer(Protocol::Udp, ends, 15_006));
        assert!(rig.may_send(&udp_frame(&from, backend, b"x")), "noted before it was ours");
    }
    assert_eq!(rig.held_back(), 0);
}

#[test]
fn the_kernels_reset_of_a_flow_of_ours_is_held_back_and_the_flow_stays() {
    let rig = Rig::new();
    for (number, ends) in (1..).zip(ENDS) {
        let (backend, node) = ends;
        let frame = |flags| tcp_frame(&format!("{node}:15008"), backend, flags, b"");
        rig.take(answer(Protocol::Tcp, ends, 15_008));
        assert!(!rig.may_send(&frame(RST)) && !rig.may_send(&frame(RST | ACK)));
        assert!(!rig.may_send(&frame(SYN)), "it is ours still");
        assert_eq!(rig.held_back(), 3 * number);
        let other = tcp_frame(&format!("{node}:15009"), backend, RST, b"");
        assert!(rig.may_send(&other), "none of ours");
    }
}

#[test]
fn what_cannot_be_read_may_leave() {
    let rig = Rig::new();
    for (backend, node) in ENDS {
        let frame = tcp_frame(&format!("{node}:15001"), backend, SYN, b"");
        for end in ETHERNET_BYTES + 40..frame.len() {
            assert!(rig.may_send(&frame[..end]), "{end}");
        }
    }
}

#[test]
fn the_hook_sees_what_a_socket_of_the_host_sends() {
    let rig = Rig::new();
    let ends = ENDS[0];
    rig.take(answer(Protocol::Udp, ends, 15_007));
    let send = |port: u16| {
        let socket = UdpSocket::bind((ends.1, port)).unwrap();
        socket.send_to(b"x", ends.0).map_err(|error| error.kind())
    };
    assert_eq!(send(15_007), Err(ErrorKind::PermissionDenied));
    assert_eq!(send(15_008), Ok(1));
    assert_eq!(rig.held_back(), 1);
    assert!(rig.seconds_left(&answer(Protocol::Udp, ends, 15_008)) > 0);
    drop(rig.guard);
    assert_eq!(send(15_007), Ok(1), "it goes with its guard");
}
