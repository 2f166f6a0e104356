//! The road back: a packet that a worker gives back reaches the sockets of this host.

use crate::frames::{CLIENT_MAC, ETHERNET_BYTES, OUR_MAC, ROAD_MAC, with};
use crate::net::{
    Host, PATIENCE, Tap, enter_new_namespace, index_of, now, run, set_up, wait_until,
};
use crate::port::Port;
use crate::rig::{CONFIG, SLOT, WORKER, XSK_INDEX, front_key};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use tidegate_dataplane::engine::AttachMode;
use tidegate_dataplane::snapshot::Side;
use tidegate_dataplane::types::{IfIndex, MacAddress, Protocol};
use tidegate_dataplane::xdp::hook::AttachedProgram;
use tidegate_dataplane::xdp::layout::{METADATA_MAGIC, OWNER_NONE, RoadTrailer};
use tidegate_dataplane::xdp::program::Steering;
use tidegate_dataplane::xdp::road::{Road, RoadCounters};
use zerocopy::IntoBytes;

const MAGIC: u32 = 0x1234_5678;
const FRONT: &str = "10.99.0.1:30080";
const FRONT_V6: &str = "[fd99::1]:30080";
const IP_BYTES: usize = 20;

/// A client behind `eth0`, the front's packets redirected to a socket, and the road.
struct Rig {
    client: Host,
    eth0: IfIndex,
    steering: Steering,
    _attached: AttachedProgram,
    worker: Port,
    road: Road,
    road_port: Port,
}

impl Rig {
    fn new(mode: AttachMode) -> Self {
        enter_new_namespace();
        let client = Host::new();
        add_interfaces(&client);
        let steering = Steering::load(&CONFIG).unwrap();
        for front in [FRONT, FRONT_V6] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let front = front_key(front.parse().unwrap(), protocol);
                steering.fronts.insert(&front, 0).unwrap();
            }
        }
        let eth0 = index_of("eth0");
        let attached = steering.attach(eth0, mode).unwrap();
        assert_eq!(attached.mode, mode);
        let worker = Port::open("eth0", 0);
        steering.xsks.set(XSK_INDEX, worker.fd()).unwrap();
        steering.queues.set(eth0, 0, XSK_INDEX, WORKER).unwrap();
        steering.interfaces.set(eth0, SLOT, MacAddress(OUR_MAC), Side::Clients).unwrap();
        let road = Road::open(index_of("tidegate1"), MAGIC, MacAddress(ROAD_MAC)).unwrap();
        let road_port = Port::open("tidegate0", 0);
        Self { client, eth0, steering, _attached: attached, worker, road, road_port }
    }

    fn beat(&self) {
        self.steering.heartbeats.beat(WORKER, now());
    }

    fn give_back(&mut self, frame: &[u8], magic: u32) {
        let trailer = RoadTrailer::new(magic, self.eth0);
        self.road_port.send(&[frame, trailer.as_bytes()].concat());
    }

    fn redirected_packets(&self) -> u64 {
        self.steering.counters.read(SLOT).unwrap().redirected_packets
    }

    /// Waits until the road has counted as many frames.
    fn expect_on_road(&self, expected: RoadCounters) {
        let count = |c: RoadCounters| c.returned_packets + c.refused_packets;
        wait_until("the road counts", || count(self.road.counters().unwrap()) >= count(expected));
        assert_eq!(self.road.counters().unwrap(), expected);
    }
}

fn add_interfaces(client: &Host) {
    let (ours, theirs) = (MacAddress(OUR_MAC), MacAddress(CLIENT_MAC));
    let namespace = client.namespace();
    run(&format!(
        "ip link add eth0 address {ours} type veth peer name client address {theirs} \
         netns {namespace}"
    ));
    run("ip addr add 10.99.0.1/24 dev eth0");
    run("ip addr add fd99::1/64 dev eth0 nodad");
    set_up("eth0");
    // The trailer needs its room.
    run("ip link add tidegate0 mtu 1600 type veth peer name tidegate1 mtu 1600");
    set_up("tidegate0");
    set_up("tidegate1");
    client.call(|| {
        run("ip addr add 10.99.0.2/24 dev client");
        run("ip addr add fd99::2/64 dev client nodad");
        set_up("client");
    });
}

/// What a worker must do before it gives a pod's packet back: a full checksum where only the
/// pseudo-header's sum was filled in (T9).
fn finish_checksum(frame: &mut [u8]) {
    let (_, ip) = frame.split_at_mut(ETHERNET_BYTES);
    assert!(ip.len() >= IP_BYTES + 8);
    let protocol = ip[9];
    let at = if protocol == 6 { 16 } else { 6 };
    let addresses = ip[12..IP_BYTES].to_vec();
    let l4 = &mut ip[IP_BYTES..];
    l4[at..at + 2].fill(0);
    let length = u16::try_from(l4.len()).unwrap().to_be_bytes();
    let pseudo = [&addresses[..], &[0, protocol], &length].concat();
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = pseudo.chunks(2).chain(l4.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    l4[at..at + 2].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}

fn on_both_hooks(test: impl Fn(Rig) + Copy + Send) {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        // In a thread of its own: with it go the namespace and all that is in it.
        thread::scope(|scope| scope.spawn(move || test(Rig::new(mode))).join().unwrap());
    }
}

/// Sends a datagram from the client and returns its socket.
fn send_datagram(rig: &Rig, payload: &'static [u8]) -> UdpSocket {
    rig.beat();
    rig.client.call(move || {
        let socket = UdpSocket::bind("10.99.0.2:0").unwrap();
        socket.connect(FRONT).unwrap();
        assert_eq!(socket.send(payload).unwrap(), payload.len());
        socket
    })
}

fn server() -> UdpSocket {
    let server = UdpSocket::bind(FRONT).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server
}

#[test]
fn a_datagram_that_is_given_back_reaches_its_socket() {
    // As long as the link permits: the trailer must find room behind it.
    static PAYLOAD: [u8; 1472] = [0x5a; 1472];
    on_both_hooks(|mut rig| {
        let server = server();
        let client = send_datagram(&rig, &PAYLOAD);
        let (metadata, mut frame) = rig.worker.receive();
        assert_eq!((metadata.magic, metadata.owner), (METADATA_MAGIC, OWNER_NONE));
        assert_eq!(frame.len(), 1514);
        finish_checksum(&mut frame);
        let tap = Tap::open(rig.eth0);
        rig.give_back(&frame, MAGIC);
        let seen = tap.next(|frame| frame.get(12..14) == Some(&[8, 0]));
        // As it came, but for its source address: without the trailer.
        assert_eq!(seen, with(frame, 6, &ROAD_MAC));
        let mut buffer = [0; 2000];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], PAYLOAD);
        assert_eq!(from, client.local_addr().unwrap());
        rig.expect_on_road(RoadCounters { returned_packets: 1, refused_packets: 0 });
        assert_eq!(rig.redirected_packets(), 1, "the frame was redirected again");
        server.send_to(b"answer", from).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    });
}

/// The packet path's own hand finishes the checksum here; without it the kernel would refuse.
#[test]
fn an_ipv6_datagram_that_is_given_back_reaches_its_socket() {
    on_both_hooks(|mut rig| {
        let server = UdpSocket::bind(FRONT_V6).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        rig.beat();
        let client = rig.client.call(|| {
            let socket = UdpSocket::bind("[fd99::2]:0").unwrap();
            assert_eq!(socket.send_to(b"over six", FRONT_V6).unwrap(), 8);
            socket.local_addr().unwrap()
        });
        let (_, mut frame) = rig.worker.receive();
        let unfinished = frame.clone();
        tidegate_dataplane::pipeline::finish_checksum(&mut frame);
        assert_ne!(frame, unfinished, "a veth no longer leaves the checksum to the device");
        rig.give_back(&frame, MAGIC);
        let mut buffer = [0; 100];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"over six"[..], client));
    });
}

#[test]
fn a_tcp_connection_whose_packets_are_given_back_works() {
    on_both_hooks(|mut rig| {
        let listener = TcpListener::bind(FRONT).unwrap();
        rig.beat();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
        });
        let (sender, answer) = std::sync::mpsc::channel();
        rig.client.start(move || {
            let mut stream = TcpStream::connect_timeout(&FRONT.parse().unwrap(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).unwrap();
            sender.send(reply).unwrap();
        });
        let mut reply = None;
        wait_until("the client has its answer", || {
            rig.beat();
            if let Some((_, mut frame)) = rig.worker.receive_within(20) {
                finish_checksum(&mut frame);
                rig.give_back(&frame, MAGIC);
            }
            reply = answer.try_recv().ok();
            reply.is_some()
        });
        assert_eq!(reply.unwrap(), b"hello");
        echo.join().unwrap();
    });
}

#[test]
fn the_kernel_refuses_an_unfinished_checksum() {
    on_both_hooks(|mut rig| {
        let server = server();
        let _client = send_datagram(&rig, b"partial");
        let (_, frame) = rig.worker.receive();
        let mut finished = frame.clone();
        finish_checksum(&mut finished);
        assert_ne!(frame, finished, "a veth no longer leaves the checksum to the device");
        rig.give_back(&frame, MAGIC);
        rig.give_back(&finished, MAGIC);
        let mut buffer = [0; 100];
        assert_eq!(server.recv(&mut buffer).unwrap(), 7);
        rig.expect_on_road(RoadCounters { returned_packets: 2, refused_packets: 0 });
        server.set_nonblocking(true).unwrap();
        assert!(server.recv(&mut buffer).is_err(), "both were delivered");
    });
}

#[test]
fn frames_without_the_right_trailer_are_refused() {
    let test = |mut rig: Rig| {
        let server = server();
        let _client = send_datagram(&rig, b"x");
        let (_, mut frame) = rig.worker.receive();
        finish_checksum(&mut frame);
        rig.give_back(&frame, MAGIC ^ 1);
        rig.road_port.send(&[0; 21]);
        rig.expect_on_road(RoadCounters { returned_packets: 0, refused_packets: 2 });
        rig.give_back(&frame, MAGIC);
        rig.expect_on_road(RoadCounters { returned_packets: 1, refused_packets: 2 });
        assert_eq!(server.recv(&mut [0; 100]).unwrap(), 1);
    };
    thread::scope(|scope| scope.spawn(|| test(Rig::new(AttachMode::Native))).join().unwrap());
}

#[test]
fn a_road_left_behind_is_replaced_and_a_closed_one_is_gone() {
    enter_new_namespace();
    run("ip link add tidegate0 type veth peer name tidegate1");
    let peer = index_of("tidegate1");
    let filters = || run("tc filter show dev tidegate1 ingress");
    let left_behind = Road::open(peer, MAGIC, MacAddress(ROAD_MAC)).unwrap();
    std::mem::forget(left_behind);
    let road = Road::open(peer, MAGIC, MacAddress(ROAD_MAC)).unwrap();
    assert_eq!(filters().matches("handle 0x1 ").count(), 1, "{}", filters());
    drop(road);
    assert_eq!(filters(), "");
    assert_eq!(
        Road::open(IfIndex(9999), MAGIC, MacAddress(ROAD_MAC)).unwrap_err().errno,
        libc::ENODEV
    );
}
