//! The configuration in the packet path's words.

use super::conntrack::{Conntrack, MidFlow, SynProxy};
use super::cpu_list::Cpus;
use super::file::{Config, Fallback};
use super::scalars::AutoCount;
use std::num::NonZeroU32;
use tidegate_dataplane::admission::{self, Admission, SynProxyMode};
use tidegate_dataplane::engine::{self, EngineConfig, FlowTimeouts, KernelRoad};
use tidegate_dataplane::types::WORKERS_MAX;

/// (interface, queue) pairs that a worker's UMEM has frames for: a NIC's queue and some dozen
/// veths, whose share is an eighth of a NIC's (T7). 64 MiB a worker with the default frames.
const QUEUES_PER_WORKER_MAX: u32 = 8;

/// Packets per second that may return to the kernel (T8): enough for the node's own services,
/// and far below what would starve the workers on the same cores.
const KERNEL_ROAD_RATE_PPS: u32 = 100_000;

/// What the host has, as far as defaults depend on it.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The CPUs that this process may run on.
    pub cpus: Vec<usize>,
    /// The most receive queues that a configured interface has.
    pub queue_count_max: usize,
}

impl Config {
    /// What the packet path is started with.
    pub fn to_engine(&self, host: &HostFacts, kernel_road: KernelRoad) -> EngineConfig {
        EngineConfig {
            worker_cpus: self.worker_cpus(host),
            poll_mode: self.workers.poll_mode,
            idle_spin: self.workers.idle_spin.0,
            frames_per_queue: self.memory.frames_per_queue,
            frame_size_bytes: self.memory.frame_size,
            ring_size: self.memory.ring_size,
            queues_per_worker_max: QUEUES_PER_WORKER_MAX,
            flows_max: self.conntrack.max_flows,
            admission: self.admission(),
            timeouts: self.conntrack.timeouts(),
            source_ports: self.load_balancer.source_port_range.0,
            fallback: match self.fallback {
                Fallback::Kernel => engine::Fallback::Kernel,
                Fallback::Drop => engine::Fallback::Drop,
            },
            latency_sample: self.latency.sample.0.map_or(0, Into::into),
            kernel_road,
            kernel_road_rate_pps: KERNEL_ROAD_RATE_PPS,
        }
    }

    /// The CPU of each worker. `auto`: one worker per queue of the widest interface, and never on
    /// CPU 0 where there is another, since the kernel's own work gathers there.
    pub fn worker_cpus(&self, host: &HostFacts) -> Vec<Option<usize>> {
        match &self.workers.cpus {
            Cpus::List(list) => list.numbers().iter().map(|n| Some(*n as usize)).collect(),
            Cpus::Auto => auto_cpus(host),
        }
    }
}

fn auto_cpus(host: &HostFacts) -> Vec<Option<usize>> {
    let spare_first = |cpu: &&usize| host.cpus.len() == 1 || **cpu != 0;
    let count = host.queue_count_max.clamp(1, WORKERS_MAX);
    let cpus: Vec<_> =
        host.cpus.iter().filter(spare_first).take(count).copied().map(Some).collect();
    if cpus.is_empty() { vec![None] } else { cpus }
}

impl Config {
    /// What a new flow must pass.
    pub fn admission(&self) -> Admission {
        let conntrack = &self.conntrack;
        let defaults = Admission::for_flows(conntrack.max_flows);
        Admission {
            embryonic_flows_max: match conntrack.max_embryonic_flows {
                AutoCount::Auto => defaults.embryonic_flows_max,
                AutoCount::Count(count) => count,
            },
            new_flows_per_second: NonZeroU32::new(conntrack.new_flows_per_second),
            syn_proxy: match self.syn_proxy {
                SynProxy::Off => SynProxyMode::Off,
                SynProxy::Auto => SynProxyMode::Auto,
                SynProxy::Always => SynProxyMode::Always,
            },
            mid_flow: match conntrack.mid_flow {
                MidFlow::Pass => admission::MidFlow::Pass,
                MidFlow::Drop => admission::MidFlow::Drop,
                MidFlow::Reset => admission::MidFlow::Reset,
                MidFlow::Forward => admission::MidFlow::Forward,
            },
        }
    }
}

impl Conntrack {
    /// The idle times.
    pub fn timeouts(&self) -> FlowTimeouts {
        FlowTimeouts {
            tcp_established: self.tcp_established_timeout.0,
            tcp_close_wait: self.tcp_close_wait_timeout.0,
            tcp_fin: self.tcp_fin_timeout.0,
            udp: self.udp_timeout.0,
            udp_stream: self.udp_stream_timeout.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_flows_may_be_handshakes_unless_a_number_is_given() {
        let embryonic = |conntrack: Conntrack| {
            Config { conntrack, ..Config::default() }.admission().embryonic_flows_max
        };
        assert_eq!(embryonic(Conntrack::default()), 131_072);
        let max_embryonic_flows = AutoCount::Count(5_000);
        assert_eq!(embryonic(Conntrack { max_embryonic_flows, ..Conntrack::default() }), 5_000);
    }

    #[test]
    fn auto_leaves_cpu_0_where_it_can() {
        let config = Config::default();
        let cpus = |cpus: &[usize], queue_count_max| {
            config.worker_cpus(&HostFacts { cpus: cpus.to_vec(), queue_count_max })
        };
        assert_eq!(cpus(&[0, 1, 2, 3], 2), [Some(1), Some(2)]);
        assert_eq!(cpus(&[0], 4), [Some(0)]);
        assert_eq!(cpus(&[0, 1], 0), [Some(1)]);
        assert_eq!(cpus(&[], 1), [None]);
    }
}
