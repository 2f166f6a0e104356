//! Keeping the host's own flows and ours from one tuple towards one backend (T5): the netfilter
//! programs of `bpf/guard.bpf.c`, which hold back what would collide and note all else.

use crate::engine::EngineError;
use crate::host_flows::{HOST_SLOTS, HostFlows};
use crate::types::PortRange;
use crate::xdp::kernel_words::{library_refused, listen};
use crate::xdp::layout::GuardConfig;
use crate::xdp::mapping::Mapping;
use crate::xdp::maps::{FlowMap, sum_percpu};
use crate::xdp::object::{self, Elf};
use libbpf_rs::{
    Link, MapHandle, NF_INET_POST_ROUTING, NFPROTO_IPV4, NFPROTO_IPV6, NetfilterOpts, Object,
    ProgramInput,
};
use std::os::fd::AsFd;
use std::sync::Arc;

static GUARD: &Elf<[u8]> = &Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/guard.bpf.o")));

/// Behind the source NAT (`NF_IP_PRI_NAT_SRC`, 100) and all that may still change a packet, and
/// before conntrack confirms its flow (the last of all).
const PRIORITY: i32 = 400;

/// Each family's program.
const PROGRAMS: [(&str, i32); 2] = [("guard_v4", NFPROTO_IPV4), ("guard_v6", NFPROTO_IPV6)];

/// The loaded programs. Dropping it ends them.
#[derive(Debug)]
pub struct Guard {
    object: Object,
    _links: Vec<Link>,
    host_flows: HostFlows,
    held_back: MapHandle,
}

impl Guard {
    /// Guards the flows of `flows`, whose source ports are of `ports`, in this network namespace.
    ///
    /// # Errors
    /// A kernel older than 6.4 has no such hook; or a missing capability.
    pub fn open(flows: &FlowMap, ports: PortRange) -> Result<Self, EngineError> {
        let config = GuardConfig { first_port: ports.first(), last_port: ports.last() };
        let mut open = object::open(GUARD, &config)?;
        if let Some(mut map) = open.maps_mut().find(|map| map.name() == "flows") {
            let shared = map.reuse_fd(flows.0.as_fd());
            shared.map_err(|error| library_refused("share the flow map", &error))?;
        }
        let object = object::load(open)?;
        let links = PROGRAMS.map(|(name, family)| attach(&object, name, family));
        let marks = object::map(&object, "host_flows")?;
        let marks = Mapping::<HOST_SLOTS>::try_new(marks.as_fd(), "map the host's flows")?;
        Ok(Self {
            _links: links.into_iter().collect::<Result<_, _>>()?,
            host_flows: HostFlows::new(Arc::new(marks)),
            held_back: object::map(&object, "held_back")?,
            object,
        })
    }

    /// What the host has; clone one for each worker.
    pub fn host_flows(&self) -> &HostFlows {
        &self.host_flows
    }

    /// Packets of the host that were dropped because their answers would be taken for ours.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn held_back_packets(&self) -> Result<u64, EngineError> {
        sum_percpu(&self.held_back, 0, "read what the guard held back")
    }

    /// Runs a program over an IP packet as if the host sent it. Whether it may leave.
    ///
    /// # Errors
    /// A packet shorter than an IPv4 header.
    pub fn trial(&self, packet: &[u8]) -> Result<bool, EngineError> {
        let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        let (name, _) = PROGRAMS[usize::from(!is_v4)];
        let input = ProgramInput { data_in: Some(packet), ..ProgramInput::default() };
        let result = object::program(&self.object, name)?.test_run(input);
        let result = result.map_err(|error| library_refused("try a packet", &error))?;
        Ok(result.return_value == NF_ACCEPT)
    }
}

const NF_ACCEPT: u32 = 1;

fn attach(object: &Object, name: &str, family: i32) -> Result<Link, EngineError> {
    let program = object::program(object, name)?;
    let options = NetfilterOpts {
        protocol_family: family,
        hooknum: NF_INET_POST_ROUTING,
        priority: PRIORITY,
        ..NetfilterOpts::default()
    };
    let (link, heard) = listen(|| program.attach_netfilter_with_opts(options));
    link.map_err(|error| object::failure("guard the host's own flows", &error, &heard))
}
