//! The program with everything set up on `lo` of a fresh namespace, and what to expect of it.

use crate::frames::{Family, OUR_MAC, ROAD_MAC, address};
use crate::net::{enter_new_namespace, now};
use crate::port::Port;
use core::time::Duration;
use std::net::SocketAddr;
use tidegate_dataplane::engine::{Fallback, SteeringCounters};
use tidegate_dataplane::snapshot::{FrontKey, Side};
use tidegate_dataplane::types::{
    FlowKey, IfIndex, InterfaceSlot, L4Port, MacAddress, Protocol, Time, WorkerId,
};
use tidegate_dataplane::verdict::PassReason;
use tidegate_dataplane::xdp::layout::{FRONT_DRAINING, OWNER_NONE};
use tidegate_dataplane::xdp::program::{Action, Steering, SteeringConfig, Trial};

pub(crate) const LO: IfIndex = IfIndex(1);
pub(crate) const SLOT: InterfaceSlot = InterfaceSlot(5);
pub(crate) const WORKER: WorkerId = WorkerId(3);
/// Owns the reply flow; not the worker of the queue.
pub(crate) const OWNER: WorkerId = WorkerId(9);
pub(crate) const XSK_INDEX: u32 = 7;

pub(crate) const CONFIG: SteeringConfig = SteeringConfig {
    flows_max: 64,
    latency_sample: 0,
    fallback: Fallback::Kernel,
    stale_after: Duration::from_secs(1),
    road_mac: MacAddress(ROAD_MAC),
};

pub(crate) fn client(family: Family) -> SocketAddr {
    address(family.pick("192.0.2.7:40000", "[2001:db8:7::7]:40000"))
}

/// A front of both protocols.
pub(crate) fn front(family: Family) -> SocketAddr {
    address(family.pick("10.0.0.1:30080", "[2001:db8::1]:30080"))
}

pub(crate) fn draining_front(family: Family) -> SocketAddr {
    address(family.pick("10.0.0.1:30081", "[2001:db8::1]:30081"))
}

/// The source and destination of a reply of a TCP flow.
pub(crate) fn reply(family: Family) -> (SocketAddr, SocketAddr) {
    let (v4, v6) = (("10.1.0.9:8080", "10.0.0.1:15000"), ("[fd00::9]:8080", "[fd00::1]:15000"));
    let (backend, snat) = family.pick(v4, v6);
    (address(backend), address(snat))
}

pub(crate) fn front_key(address: SocketAddr, protocol: Protocol) -> FrontKey {
    FrontKey { address: address.ip().into(), port: L4Port::new(address.port()), protocol }
}

pub(crate) fn flow_key((from, to): (SocketAddr, SocketAddr)) -> FlowKey {
    let end = |a: SocketAddr| (a.ip().into(), L4Port::new(a.port()));
    FlowKey::new(Protocol::Tcp, end(from), end(to))
}

/// What the program does with a frame, counters included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Redirected { owner: u16 },
    Passed(PassReason),
    StaleDropped,
    PassedUncounted,
}

pub(crate) const TO_FRONT: Expected = Expected::Redirected { owner: OWNER_NONE };

pub(crate) struct Rig {
    pub(crate) steering: Steering,
    _port: Port,
}

impl Rig {
    pub(crate) fn new(config: &SteeringConfig) -> Self {
        enter_new_namespace();
        let steering = Steering::load(config).unwrap();
        steering.interfaces.set(LO, SLOT, MacAddress(OUR_MAC), Side::Clients).unwrap();
        steering.queues.set(LO, 0, XSK_INDEX, WORKER).unwrap();
        for family in Family::ALL {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let (active, draining) = (front(family), draining_front(family));
                steering.fronts.insert(&front_key(active, protocol), 0).unwrap();
                steering.fronts.insert(&front_key(draining, protocol), FRONT_DRAINING).unwrap();
            }
            assert_eq!(steering.flows.insert_batch(&[flow_key(reply(family))], OWNER), 1);
        }
        let port = Port::open("lo", 0);
        steering.xsks.set(XSK_INDEX, port.fd()).unwrap();
        let rig = Self { steering, _port: port };
        rig.beat(now());
        rig
    }

    pub(crate) fn beat(&self, at: Time) {
        self.steering.heartbeats.beat(WORKER, at);
    }

    /// Makes the worker look as if it had not beaten for longer than `stale_after`.
    pub(crate) fn stop_beating(&self) {
        self.beat(Time(now().0 - 1_100_000_000));
    }

    /// Gives a frame to the program and compares verdict, metadata and counters.
    pub(crate) fn expect(&self, what: &str, frame: &[u8], expected: Expected) -> Trial {
        let before = self.steering.counters.read(SLOT).unwrap();
        let trial = self.steering.trial((LO, 0), frame).unwrap();
        let after = self.steering.counters.read(SLOT).unwrap();
        let action = match expected {
            Expected::Redirected { .. } => Action::Redirect,
            Expected::StaleDropped => Action::Drop,
            Expected::Passed(_) | Expected::PassedUncounted => Action::Pass,
        };
        assert_eq!(trial.action, action, "{what}");
        assert_eq!(after, count(before, frame.len() as u64, expected), "{what}");
        let (metadata, rest) = trial.output.split_at(trial.metadata_bytes);
        assert_eq!(rest, frame, "{what}: the frame was changed");
        match expected {
            Expected::Redirected { owner } => assert_eq!(metadata[4..6], owner.to_ne_bytes()),
            _ => assert!(metadata.is_empty(), "{what}"),
        }
        trial
    }
}

/// The counters after one more frame.
fn count(mut counters: SteeringCounters, bytes: u64, expected: Expected) -> SteeringCounters {
    if expected == Expected::PassedUncounted {
        return counters;
    }
    counters.received_packets += 1;
    counters.received_bytes += bytes;
    match expected {
        Expected::Redirected { .. } => counters.redirected_packets += 1,
        Expected::StaleDropped => counters.stale_dropped_packets += 1,
        Expected::Passed(reason) => counters.passed_packets[reason as usize] += 1,
        Expected::PassedUncounted => {}
    }
    counters
}
