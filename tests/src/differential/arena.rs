//! The two worlds: rigs with taps at every place, and a way to know that all has come out.

use super::pieces::{PieceSeen, Pieces, Whole};
use super::rules;
use super::setup::{
    self, FAMILIES, FENCES, FRONT_NETWORKS, NARROW_MTU, POD_A, POD_B, POD_C, Place, SERVICES,
};
use super::tap::{Tap, mac_of};
use super::wire::{Ends, Segment, Template, Transport, flag, packet_of, parts, quoted};
use crate::lab::configure;
use crate::setting::{binary, wait_until};
use crate::spread::Spread;
use anyhow::{Context as _, Result, ensure};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io::Write as _;
use std::time::{Duration, Instant};
use tidegate_control::demo::rig::{GATEWAY, KernelNat, NetNs, Node, RigPlan, Topology};
use tidegate_control::demo::site::Site;
use tidegate_control::model::Family;
use tidegate_dataplane::types::Protocol;

/// How long tidegate may take to serve everything, and a fence to come back.
const PATIENCE: Duration = Duration::from_secs(15);

/// The clients' addresses of each family: the rig's client and those after it.
pub(super) const CLIENTS: u8 = 24;

/// The client port of all fences; no other flow has it.
pub(super) const FENCE_PORT: u16 = 9;

/// A port of the gateway that nobody serves, in neither world.
const SILENT_PORT: u16 = 7;

/// The local pods, in the order of their places.
const PODS: [&str; 3] = ["a", "b", "c"];

/// An address of a client.
pub(super) fn client_address(family: Family, index: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 10 + index).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 10 + u16::from(index)).into(),
    }
}

/// A packet that came out somewhere.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) packet: Vec<u8>,
    /// The pieces that it came in, if it did.
    pub(super) cut: Vec<PieceSeen>,
}

#[derive(Debug)]
enum Gateway {
    Kernel(Topology),
    Tidegate(Site),
}

/// One of the two.
#[derive(Debug)]
pub(super) struct World {
    gateway: Gateway,
    /// By place: the tap, and the link address of the gateway's end.
    taps: Vec<(Tap, [u8; 6])>,
    /// How each place of [`Place::INSIDE`] sees its fence's flow.
    fence_peers: [Option<Ends>; 4],
    pieces: Pieces,
    round: u32,
    /// Receive queues of each of the gateway's interfaces.
    queues: u32,
}

impl World {
    /// The kernel with kube-proxy's rules.
    pub(super) fn kernel() -> Result<Self> {
        let mut rig = RigPlan::new("test").build()?;
        for name in PODS {
            rig.add_pod(Node::Gateway, name)?;
        }
        KernelNat::Nftables.install(rig.gateway(), &setup::rules())?;
        add_rules(rig.gateway(), &rules::script())?;
        // tidegate takes TCP windows liberally, and a flow whose beginning it has not seen is none.
        for setting in ["tcp_be_liberal=1", "tcp_loose=0"] {
            rig.gateway().sysctl(&format!("net.netfilter.nf_conntrack_{setting}"))?;
        }
        Self::new(Gateway::Kernel(rig))
    }

    /// tidegate, without any rules behind it. `changes` are pairs of lines of the demo's config.
    pub(super) fn tidegate(spread: Spread, changes: &[(&str, &str)]) -> Result<Self> {
        let mut site = Site::build(&spread.plan(&RigPlan::new("test")), &binary()?)?;
        for name in PODS {
            site.add_pod(Node::Gateway, name)?;
        }
        site.files().write_manifest("nodes", &setup::node_manifest())?;
        site.files().write_manifest("services", &setup::manifests())?;
        // A SYN must reach its backend, however many handshakes the packets leave unfinished.
        let config = spread.config(configure(changes)?) + "synProxy: off\n";
        let mut world = Self { queues: spread.queues(), ..Self::new(Gateway::Tidegate(site))? };
        if let Gateway::Tidegate(site) = &mut world.gateway {
            site.start_daemon(&config)?;
            spread.apply(site.topology())?;
        }
        Ok(world)
    }

    fn new(gateway: Gateway) -> Result<Self> {
        let rig = match &gateway {
            Gateway::Kernel(rig) => rig,
            Gateway::Tidegate(site) => site.topology(),
        };
        for (pod, expected) in rig.pods().iter().zip([POD_A, POD_B, POD_C]) {
            let is_same = |family| expected.address(family) == pod.address_of(family);
            ensure!(FAMILIES.into_iter().all(is_same), "{} has another address", pod.name());
        }
        let taps = Place::ALL.map(|place| {
            let (inside, interface) = link(rig, place);
            Ok((Tap::open(inside)?, mac_of(rig.gateway(), interface)?))
        });
        let taps: Vec<_> = taps.into_iter().collect::<Result<_>>()?;
        introduce(rig, &taps)?;
        let (_, narrow) = link(rig, Place::PodC);
        rig.gateway().ip(&format!("link set {narrow} mtu {NARROW_MTU}"))?;
        // What no world translates ends here: how often a missing route is told is random.
        for network in FRONT_NETWORKS {
            rig.gateway().ip(&format!("route add blackhole {network}"))?;
        }
        // Each error must come, at once.
        rig.gateway().sysctl("net.ipv4.icmp_ratemask=0")?;
        rig.gateway().sysctl("net.ipv4.icmp_msgs_per_sec=1000000")?;
        rig.gateway().sysctl("net.ipv6.icmp.ratelimit=0")?;
        let pieces = Pieces::default();
        Ok(Self { gateway, taps, fence_peers: [None; 4], pieces, round: 0, queues: 1 })
    }

    /// tidegate's site, if this is its world.
    pub(super) fn site(&self) -> Option<&Site> {
        match &self.gateway {
            Gateway::Tidegate(site) => Some(site),
            Gateway::Kernel(_) => None,
        }
    }

    /// Sends an IP packet from a place to the gateway.
    pub(super) fn send(&mut self, place: Place, packet: &[u8]) -> Result<()> {
        let (tap, gateway) = &mut self.taps[place as usize];
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let protocol = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let frame = [&gateway[..], &tap.mac, &protocol, packet].concat();
        tap.send(&frame)
    }

    /// Forgets datagrams that came out in part, and returns a line for each piece.
    pub(super) fn give_up_pieces(&mut self) -> Vec<String> {
        self.pieces.give_up()
    }

    /// Waits until every fence's flow goes there and back.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        let mut last = Ok(());
        let warm = wait_until("every place hears and answers", PATIENCE, || {
            last = self.gather(Duration::from_millis(500)).map(drop);
            last.is_ok()
        });
        last.and(warm).with_context(|| format!("warm up {}{}", self.name(), self.log()))
    }

    fn log(&self) -> String {
        let Some(site) = self.site() else { return String::new() };
        let log = std::fs::read_to_string(site.files().log()).unwrap_or_default();
        let drops = site.daemon().and_then(|daemon| daemon.get("/api/v1/services").ok());
        format!("; its log:\n{log}\n{}", drops.unwrap_or_default())
    }

    /// What the world is called in errors.
    pub(super) const fn name(&self) -> &'static str {
        match self.gateway {
            Gateway::Kernel(_) => "the kernel",
            Gateway::Tidegate(_) => "tidegate",
        }
    }

    /// Everything that has come out since the last time: sends a fence on every way, and reads
    /// until all have arrived. What was sent before them has arrived by then: no way overtakes.
    pub(super) fn drain(&mut self) -> Result<Vec<Seen>> {
        self.gather(PATIENCE)
    }

    /// What has come out since the last time, and comes within `max`.
    pub(super) fn linger(&mut self, max: Duration) -> Result<Vec<Seen>> {
        let deadline = Instant::now() + max;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            self.read(&mut seen, &mut Fences::default())?;
            std::thread::yield_now();
        }
        Ok(seen)
    }

    fn gather(&mut self, max: Duration) -> Result<Vec<Seen>> {
        self.round += 1;
        let mut fences = Fences { round: self.round, ..Fences::default() };
        for queue in 0..self.queues {
            self.send_fences(queue)?;
        }
        let (mut seen, deadline) = (Vec::new(), Instant::now() + max);
        while !fences.are_complete(self.queues) {
            let is_idle = !self.read(&mut seen, &mut fences)?;
            if is_idle {
                std::thread::yield_now();
            }
            let name = self.name();
            ensure!(Instant::now() < deadline, "{name} has lost a fence: {fences:?}");
        }
        Ok(seen)
    }

    /// Reads all taps once. Returns whether anything came.
    fn read(&mut self, seen: &mut Vec<Seen>, fences: &mut Fences) -> Result<bool> {
        let mut has_come = false;
        for place in Place::ALL {
            while let Some(frame) = self.taps[place as usize].0.receive()? {
                has_come = true;
                let Some(packet) = packet_of(&frame) else { continue };
                let Some(whole) = self.pieces.take(place, packet)? else { continue };
                let Whole { packet, cut } = whole;
                if !self.is_fence(place, &packet, fences)? {
                    seen.push(Seen { place, packet, cut });
                }
            }
        }
        Ok(has_come)
    }

    /// To every backend place; to the stack of the gateway; to a front, but of no flow.
    fn send_fences(&mut self, queue: u32) -> Result<()> {
        self.choose_queue(Some(queue))?;
        let number = fence_number(self.round, queue);
        let client = SocketAddr::new(client_address(Family::V4, 0), FENCE_PORT);
        let to = |port| Ends { source: client, destination: (GATEWAY, port).into() };
        for fence in FENCES {
            self.send_fence(Place::Client, &datagram(number), to(fence.node_port))?;
        }
        for (place, ends) in Place::INSIDE.into_iter().zip(self.fence_peers) {
            if let Some(ends) = ends {
                self.send_fence(place, &datagram(number), ends.reversed())?;
            }
        }
        self.send_fence(Place::Client, &datagram(number), to(SILENT_PORT))?;
        self.send_fence(Place::Client, &stray(number), to(SERVICES[0].node_port))?;
        self.choose_queue(None)
    }

    fn send_fence(&mut self, place: Place, template: &Template, ends: Ends) -> Result<()> {
        let packet = template.write(0, ends)?;
        self.send(place, &packet)
    }

    /// From now on packets go to this queue of the gateway, or to any.
    fn choose_queue(&self, queue: Option<u32>) -> Result<()> {
        self.taps.iter().try_for_each(|(tap, _)| tap.choose_queue(queue))
    }

    /// Whether a packet is a fence's; if so, it is noted. The first one at a backend is answered.
    fn is_fence(&mut self, place: Place, packet: &[u8], fences: &mut Fences) -> Result<bool> {
        let Some(found) = parts(packet) else { return Ok(false) };
        let round = fences.round;
        if let Some(index) = Place::INSIDE.iter().position(|inside| *inside == place) {
            let is_ours = found.protocol == 17
                && FENCES[index].has(place, Protocol::Udp, found.ends.destination);
            // Other Services have the same backends; by the marker 0 fences are told apart.
            if !is_ours || found.marker != 0 {
                return Ok(false);
            }
            if self.fence_peers[index].replace(found.ends).is_none() {
                let number = fence_number(round, 0);
                self.send_fence(place, &datagram(number), found.ends.reversed())?;
            }
            fences.heard[index] |= queue_of(packet, found.transport + 8, round);
            return Ok(true);
        }
        if found.ends.destination.port() == FENCE_PORT {
            let index = FENCES.iter().position(|f| f.node_port == found.ends.source.port());
            match index {
                Some(at) => fences.answered[at] |= queue_of(packet, found.transport + 8, round),
                None => fences.reset |= queue_of(packet, found.transport + 4, round),
            }
            return Ok(true);
        }
        let quote = quoted(packet).and_then(|quote| Some((quote, parts(quote)?)));
        let Some((quote, inner)) = quote else { return Ok(false) };
        let is_ours = inner.ends.source.port() == FENCE_PORT;
        if is_ours {
            fences.refused |= queue_of(quote, inner.transport + 8, round);
        }
        Ok(is_ours)
    }
}

/// Which fences have arrived: a bit for each queue that they went to.
#[derive(Debug, Default)]
struct Fences {
    round: u32,
    heard: [u32; 4],
    answered: [u32; 4],
    refused: u32,
    reset: u32,
}

impl Fences {
    fn are_complete(&self, queues: u32) -> bool {
        let all = self.heard.iter().chain(&self.answered).chain([&self.refused, &self.reset]);
        all.into_iter().all(|have_come| have_come.count_ones() == queues)
    }
}

/// What a fence says: its round, and the queue that it goes to.
const fn fence_number(round: u32, queue: u32) -> u32 {
    round << 1 | queue
}

/// The bit of the queue that a fence of this round went to; 0 if it is of another round.
fn queue_of(packet: &[u8], at: usize, round: u32) -> u32 {
    let number = packet.get(at..).and_then(|rest| rest.first_chunk()).copied();
    let number = number.map(u32::from_be_bytes).filter(|number| number >> 1 == round);
    number.map_or(0, |number| 1 << (number & 1))
}

fn datagram(number: u32) -> Template {
    let payload = number.to_be_bytes().to_vec();
    let transport = Transport::Udp { has_checksum: true };
    Template { ttl: 64, tos: 0, is_df: false, options: Vec::new(), transport, payload }
}

/// Its acknowledgment is the reset's sequence number.
fn stray(number: u32) -> Template {
    let segment = Segment {
        sequence: 1,
        acknowledgment: number,
        flags: flag::ACK,
        window: 1,
        urgent: 0,
        options: Vec::new(),
    };
    Template { transport: Transport::Tcp(segment), payload: Vec::new(), ..datagram(number) }
}

/// The namespace at a place, and the gateway's interface towards it.
fn link(rig: &Topology, place: Place) -> (&NetNs, &str) {
    match place {
        Place::Client => (rig.client(), "eth0"),
        Place::Node2 => (rig.node2(), "eth1"),
        Place::PodA => (rig.pods()[0].netns(), rig.pods()[0].host_interface()),
        Place::PodB => (rig.pods()[1].netns(), rig.pods()[1].host_interface()),
        Place::PodC => (rig.pods()[2].netns(), rig.pods()[2].host_interface()),
    }
}

fn add_rules(gateway: &NetNs, script: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(script.as_bytes())?;
    let done = gateway.run(&format!("nft -f {}", file.path().display()));
    done.map(drop).with_context(|| format!("install\n{script}"))
}

/// Tells the gateway every neighbour, so that no packet waits for one.
fn introduce(rig: &Topology, taps: &[(Tap, [u8; 6])]) -> Result<()> {
    let hex = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let tell = |place: Place, address: IpAddr| {
        let (mac, (_, interface)) = (hex(taps[place as usize].0.mac), link(rig, place));
        let neighbour = format!("{address} lladdr {mac} dev {interface} nud permanent");
        rig.gateway().ip(&format!("neigh replace {neighbour}")).context("tell a neighbour")
    };
    for family in FAMILIES {
        for index in 0..CLIENTS {
            tell(Place::Client, client_address(family, index))?;
        }
        tell(Place::PodA, POD_A.address(family))?;
        tell(Place::PodB, POD_B.address(family))?;
        tell(Place::PodC, POD_C.address(family))?;
    }
    tell(Place::Node2, rig.plan().node2().into())?;
    tell(Place::Node2, rig.plan().node2_v6().into())?;
    Ok(())
}
