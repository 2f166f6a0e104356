//! A prototype, not tidegate: established flows forwarded by the XDP program itself, with full NAT
//! from a table that is filled before. What that gains, and what it leaves out, tells
//! `bench/README.md`.

use super::{Forwarder, Session};
use crate::bpf;
use crate::generator::{FLOW_PORT_FIRST, FLOW_PORTS};
use crate::rivals::bed::napi::Placement;
use crate::rivals::bed::rig::{BACKEND_PORT, NODE_PORT, Rig};
use crate::rivals::scenario::{Scenario, Work};
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, Ipv4Addr};
use libbpf_rs::{MapCore as _, MapFlags, Object};
use tidegate_control::demo::rig::GATEWAY;
use tidegate_dataplane::packet::checksum::{address_sum, difference, port_sum};
use tidegate_dataplane::types::{FlowKey, IpAddress, L4Port, MacAddress, Protocol};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

static PROTOTYPE: &bpf::Elf =
    &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/prototype.bpf.o")));

/// Flows that one masquerading address has ports for here.
const FLOWS_MAX: u32 = 60_000;

/// The first masqueraded source port; each flow has its own.
const SOURCE_PORT_FIRST: u32 = 2_048;

/// The prototype.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prototype;

/// `struct flow_tuple` of `bpf/prototype.bpf.c`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct FlowTuple {
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    protocol: u32,
}

/// `struct rewrite` there.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Rewrite {
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    addresses: u16,
    ports: u16,
    macs: [[u8; 6]; 2],
    ifindex: u32,
}

/// `struct prototype_state` there.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PrototypeState {
    missed: u64,
}

/// An IPv4 address and a port.
type End = (Ipv4Addr, u16);

/// Where a packet of a flow goes.
#[derive(Debug, Clone, Copy)]
struct Exit {
    source_mac: MacAddress,
    destination_mac: MacAddress,
    ifindex: u32,
}

impl Forwarder for Prototype {
    fn name(&self) -> &'static str {
        "xdp-prototype"
    }

    /// As a NIC's interrupt on the CPU of whoever forwards: that is all it needs.
    fn placement(&self) -> Placement {
        Placement::Forwarder
    }

    fn can(&self, scenario: &Scenario) -> bool {
        matches!(scenario.work, Work::Stream(flows) if flows <= FLOWS_MAX)
    }

    fn keeps_flows(&self) -> bool {
        false
    }

    fn serve(&self, rig: &Rig, scenario: &Scenario, session: &Session) -> Result<()> {
        let object = bpf::load(PROTOTYPE, None)?;
        fill(&object, rig, scenario.tuples())?;
        // What is redirected arrives at a veth only where it has a NAPI.
        rig.backends_ns().run("ethtool -K eth0 gro on")?;
        let program = bpf::program(&object, "prototype")?;
        let index = rig.outer.index.0.cast_signed();
        let _link = program.attach_xdp(index).context("attach the prototype")?;
        session.ready();
        session.wait(|| ());
        let missed = bpf::state::<PrototypeState>(&object)?.missed;
        ensure!(missed == 0, "the prototype had no entry for {missed} packets");
        Ok(())
    }
}

/// An entry for each flow that the generator makes.
fn fill(object: &Object, rig: &Rig, flows: u32) -> Result<()> {
    let first = rig.route(core::net::SocketAddrV4::new(GATEWAY, NODE_PORT)).source;
    let exit = Exit {
        source_mac: rig.inner.mac,
        destination_mac: rig.backend.mac,
        ifindex: rig.inner.index.0,
    };
    for (number, backend) in (0..flows).zip(rig.backends.iter().cycle()) {
        let address = Ipv4Addr::from(u32::from(first) + number / FLOW_PORTS);
        let port = u16::try_from(FLOW_PORT_FIRST + number % FLOW_PORTS)?;
        let source_port = u16::try_from(SOURCE_PORT_FIRST + number)?;
        let before = [(address, port), (GATEWAY, NODE_PORT)];
        let after = [(rig.gateway_inside(), source_port), (*backend, BACKEND_PORT)];
        insert(object, (before, after), Protocol::Udp, exit)?;
    }
    Ok(())
}

/// An entry that makes packets between the ends `before` into packets between the ends `after`.
fn insert(
    object: &Object,
    (before, after): ([End; 2], [End; 2]),
    protocol: Protocol,
    exit: Exit,
) -> Result<()> {
    let key = |ends: [End; 2]| {
        let [source, destination] =
            ends.map(|(address, port)| (IpAddress::from(IpAddr::V4(address)), L4Port::new(port)));
        FlowKey::new(protocol, source, destination)
    };
    let (old, new) = (key(before), key(after));
    let tuple = FlowTuple {
        source: before[0].0.octets(),
        destination: before[1].0.octets(),
        source_port: before[0].1.to_be_bytes(),
        destination_port: before[1].1.to_be_bytes(),
        protocol: protocol as u32,
    };
    let rewrite = Rewrite {
        source: after[0].0.octets(),
        destination: after[1].0.octets(),
        source_port: after[0].1.to_be_bytes(),
        destination_port: after[1].1.to_be_bytes(),
        addresses: difference(address_sum(&new), address_sum(&old)),
        ports: difference(port_sum(&new), port_sum(&old)),
        macs: [exit.destination_mac.0, exit.source_mac.0],
        ifindex: exit.ifindex,
    };
    let flows = object.maps().find(|map| map.name() == "flows").context("find the flows")?;
    flows.update(tuple.as_bytes(), rewrite.as_bytes(), MapFlags::ANY).context("add a flow")
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::ProgramInput;
    use tidegate_dataplane::testing::{
        BACKEND_MAC, FRONT, Fixture, GATEWAY_INNER_MAC, ends, send, tcp_frame, udp_frame,
    };
    use tidegate_dataplane::types::Time;
    use tidegate_dataplane::verdict::Verdict;

    const ACK: u8 = 16;

    fn end(text: &str) -> End {
        let address: core::net::SocketAddrV4 = text.parse().unwrap();
        (*address.ip(), address.port())
    }

    /// What the prototype makes of a frame: its return value and the frame.
    fn run(object: &Object, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut output = vec![0; 256];
        let input = ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ..Default::default()
        };
        let result = bpf::program(object, "prototype").unwrap().test_run(input).unwrap();
        let value = result.return_value;
        (value, result.data.unwrap().to_vec())
    }

    #[test]
    fn its_frames_are_those_of_the_pipeline() {
        let fixture = Fixture::default();
        let (mut pipeline, snapshot) = (fixture.pipeline(0, None), fixture.snapshot());
        let object = bpf::load(PROTOTYPE, None).unwrap();
        let exit = Exit {
            source_mac: MacAddress(GATEWAY_INNER_MAC),
            destination_mac: MacAddress(BACKEND_MAC),
            ifindex: 1,
        };
        for (port, protocol) in (4_000..4_100)
            .flat_map(|port| [Protocol::Udp, Protocol::Tcp].map(|protocol| (port, protocol)))
        {
            let client = format!("10.1.7.{}:{port}", port % 250);
            let (opening, frame) = match protocol {
                Protocol::Udp => {
                    (udp_frame(&client, FRONT, b"first"), udp_frame(&client, FRONT, b"ab"))
                }
                Protocol::Tcp => {
                    (tcp_frame(&client, FRONT, 2, &[]), tcp_frame(&client, FRONT, ACK, b"text"))
                }
            };
            let (verdict, _) = send(&mut pipeline, &snapshot, &opening, Time(1));
            assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
            let (_, expected) = send(&mut pipeline, &snapshot, &frame, Time(2));
            let of = |frame: &[u8]| {
                let (from, to) = ends(frame);
                [end(&from), end(&to)]
            };
            let (before, after) = (of(&frame), of(&expected));
            assert_eq!(run(&object, &frame).0, 1, "XDP_DROP: not there yet");
            insert(&object, (before, after), protocol, exit).unwrap();
            assert_eq!(run(&object, &frame), (4, expected), "XDP_REDIRECT");
        }
        assert_eq!(bpf::state::<PrototypeState>(&object).unwrap().missed, 200);
    }
}
