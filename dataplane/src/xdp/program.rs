//! Loading the steering program and attaching it to interfaces.
use crate::engine::{AttachMode, EngineError, Fallback};
use crate::types::{IfIndex, MacAddress};
use crate::xdp::front_map::FrontMap;
use crate::xdp::heartbeat::Heartbeats;
use crate::xdp::hook::{self, AttachedProgram};
use crate::xdp::kernel_words::library_refused;
use crate::xdp::layout::SteerConfig;
use crate::xdp::maps::{CounterMap, FlowMap, Interfaces, Queues, Vlans, Xsks, share};
use crate::xdp::object::{self, Elf};
use core::time::Duration;
use libbpf_rs::{Object, ProgramInput, libbpf_sys};
use std::os::fd::AsFd;
use zerocopy::IntoBytes;

static STEER: &Elf<[u8]> = &Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o")));

/// What the program is told once, at load.
#[derive(Debug, Clone, Copy)]
pub struct SteeringConfig {
    /// Entries of the flow map, at least 1: flows of all workers together.
    pub flows_max: u32,
    /// Stamp one packet in this many; 0 = none.
    pub latency_sample: u32,
    /// What a new flow to a front meets while its worker is stale.
    pub fallback: Fallback,
    /// A heartbeat older than this is stale. One second (T2).
    pub stale_after: Duration,
    /// Source address that the road gives to frames that it brings back: the same that the road's
    /// program is loaded with, random, unicast, locally administered. Never all zero.
    pub road_mac: MacAddress,
}

/// The loaded program and its maps. Dropping it leaves attached programs running until their
/// [`AttachedProgram`] goes.
#[derive(Debug)]
pub struct Steering {
    object: Object,
    /// The published fronts.
    pub fronts: FrontMap,
    /// The workers' flows; clone one for each.
    pub flows: FlowMap,
    /// Which socket serves which queue.
    pub queues: Queues,
    /// The sockets.
    pub xsks: Xsks,
    /// The interfaces in service.
    pub interfaces: Interfaces,
    /// The VLANs on them that are the kernel's.
    pub vlans: Vlans,
    /// What the program counted.
    pub counters: CounterMap,
    /// The workers' signs of life; clone one for each.
    pub heartbeats: Heartbeats,
}

impl Steering {
    /// Loads the program into the kernel. It does nothing before it is attached.
    ///
    /// # Errors
    /// A missing capability, or a kernel too old.
    pub fn load(config: &SteeringConfig) -> Result<Self, EngineError> {
        let mut open = object::open(STEER, &SteerConfig::from(config))?;
        if let Some(mut flows) = open.maps_mut().find(|map| map.name() == "flows") {
            let result = flows.set_max_entries(config.flows_max);
            result.map_err(|error| library_refused("size the flow map", &error))?;
        }
        let object = object::load(open)?;
        Ok(Self {
            fronts: FrontMap(object::map(&object, "fronts")?),
            flows: FlowMap(share(&object::map(&object, "flows")?)?),
            queues: Queues(object::map(&object, "queues")?),
            xsks: Xsks(object::map(&object, "xsks")?),
            interfaces: Interfaces(object::map(&object, "interfaces")?),
            vlans: Vlans(object::map(&object, "vlans")?),
            counters: CounterMap(object::map(&object, "counters")?),
            heartbeats: Heartbeats::try_new(object::map(&object, "heartbeats")?.as_fd())?,
            object,
        })
    }

    /// Attaches the program to an interface; it passes everything until the interface stands in
    /// [`Steering::interfaces`].
    ///
    /// # Errors
    /// The driver or another attached program stands in the way; the kernel's words say which.
    pub fn attach(
        &self,
        interface: IfIndex,
        mode: AttachMode,
    ) -> Result<AttachedProgram, EngineError> {
        let program = object::program(&self.object, "steer")?;
        hook::attach(program.as_fd(), interface, mode)
    }

    /// Runs the program over one frame as if `from` had received it, and returns its verdict. The
    /// frame is counted, and is sent nowhere.
    ///
    /// # Errors
    /// No such interface or queue, or a frame shorter than an Ethernet header.
    pub fn trial(&self, from: (IfIndex, u32), frame: &[u8]) -> Result<Trial, EngineError> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut context = [0, length, 0, from.0.0, from.1, 0];
        let mut context_out = context;
        let mut output = vec![0; frame.len() + TRIAL_HEADROOM_BYTES];
        let input = ProgramInput {
            context_in: Some(context.as_mut_bytes()),
            context_out: Some(context_out.as_mut_bytes()),
            data_in: Some(frame),
            data_out: Some(&mut output),
            ..Default::default()
        };
        let program = object::program(&self.object, "steer")?;
        let result = program.test_run(input);
        let result = result.map_err(|error| library_refused("try a frame", &error))?;
        let action = Action::from(result.return_value);
        let length = result.data.map_or(0, |data| data.len());
        output.truncate(length);
        let metadata_bytes = context_out[0].saturating_sub(context_out[2]) as usize;
        Ok(Trial { action, output, metadata_bytes })
    }
}

/// Room for the metadata that the program may put before the frame.
const TRIAL_HEADROOM_BYTES: usize = 256;

impl From<&SteeringConfig> for SteerConfig {
    fn from(config: &SteeringConfig) -> Self {
        Self {
            stale_ns: u64::try_from(config.stale_after.as_nanos()).unwrap_or(u64::MAX >> 1),
            latency_sample: config.latency_sample,
            fallback_drop: (config.fallback == Fallback::Drop).into(),
            road_mac: config.road_mac.0,
            zero: [0; 2],
        }
    }
}

/// What the program would have done with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Its verdict.
    pub action: Action,
    /// The metadata and the frame as the program left them.
    pub output: Vec<u8>,
    /// How many bytes of the output are metadata.
    pub metadata_bytes: usize,
}

/// The verdict of an XDP program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The program failed.
    Aborted,
    /// Dropped.
    Drop,
    /// Left to the kernel.
    Pass,
    /// Sent on, for us to a worker's socket.
    Redirect,
    /// Anything else; our program never says it.
    Other,
}

impl From<u32> for Action {
    fn from(action: u32) -> Self {
        match action {
            libbpf_sys::XDP_ABORTED => Self::Aborted,
            libbpf_sys::XDP_DROP => Self::Drop,
            libbpf_sys::XDP_PASS => Self::Pass,
            libbpf_sys::XDP_REDIRECT => Self::Redirect,
            _ => Self::Other,
        }
    }
}
