//! The XDP program's maps, each behind a handle that can only say what is right.
#![expect(unsafe_code, reason = "batched map calls: libbpf-rs does not tell how many it stored")]

use crate::engine::{EngineError, SteeringCounters};
use crate::snapshot::Side;
use crate::types::{FlowKey, IfIndex, InterfaceSlot, MacAddress, WorkerId};
use crate::xdp::kernel_words::{errno_of, library_refused, refused};
use crate::xdp::layout::{Counters, Interface, Queue, QueueKey, VlanKey};
use libbpf_rs::libbpf_sys::{bpf_map_delete_batch, bpf_map_update_batch};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Keys in one call on the flow map: a burst.
pub const FLOW_BATCH_MAX: usize = 64;

/// The five-tuples of replies, each with the worker that owns the flow. A handle for each worker.
#[derive(Debug, Clone)]
pub struct FlowMap(pub(crate) Arc<OwnedFd>);

impl FlowMap {
    /// Stores the first [`FLOW_BATCH_MAX`] keys for `owner` by one system call, without allocation.
    /// Returns how many were stored: the first ones; fewer than all means that the map is full.
    #[must_use]
    pub fn insert_batch(&self, keys: &[FlowKey], owner: WorkerId) -> usize {
        let keys = &keys[..keys.len().min(FLOW_BATCH_MAX)];
        let owners = [u32::from(owner.0); FLOW_BATCH_MAX];
        let Some(mut count) = batch_count(keys) else { return 0 };
        // SAFETY: `keys` and `owners` hold `count` keys and values of the map's sizes (40 and 4
        // bytes), and the kernel writes nothing but `count`.
        let _ = unsafe {
            bpf_map_update_batch(
                self.0.as_raw_fd(),
                keys.as_ptr().cast(),
                owners.as_ptr().cast(),
                &raw mut count,
                ptr::null(),
            )
        };
        // The kernel counts what it stored, also when it fails on the way.
        keys.len().min(count as usize)
    }

    /// Removes keys; those that are not there are passed over. One system call where all are there.
    pub fn remove_batch(&self, keys: &[FlowKey]) {
        let mut rest = keys;
        while let Some(mut count) = batch_count(rest) {
            // SAFETY: `rest` holds `count` keys of the map's size; the kernel writes only `count`.
            let result = unsafe {
                bpf_map_delete_batch(
                    self.0.as_raw_fd(),
                    rest.as_ptr().cast(),
                    &raw mut count,
                    ptr::null(),
                )
            };
            // The kernel stops at the first key that is not there: go on behind it.
            let done = count as usize + usize::from(result < 0);
            rest = rest.get(done.max(1)..).unwrap_or_default();
        }
    }
}

fn batch_count(keys: &[FlowKey]) -> Option<u32> {
    u32::try_from(keys.len()).ok().filter(|count| *count > 0)
}

/// A counter of an array that has one for each CPU, summed.
pub(crate) fn sum_percpu(map: &MapHandle, index: u32, what: &str) -> Result<u64, EngineError> {
    let values = map.lookup_percpu(index.as_bytes(), MapFlags::ANY);
    let values = values.map_err(|error| library_refused(what, &error))?;
    let values = values.ok_or_else(|| refused(what, libc::ENOENT, None))?;
    let numbers = values.iter().filter_map(|value| value.first_chunk());
    Ok(numbers.map(|bytes| u64::from_ne_bytes(*bytes)).sum())
}

/// The VLANs that the host has interfaces of: their packets pass to the kernel.
#[derive(Debug)]
pub struct Vlans(pub(crate) MapHandle);

impl Vlans {
    /// Leaves the packets of VLAN `id` on an interface to the kernel.
    ///
    /// # Errors
    /// The map is full ([`crate::xdp::layout::VLANS_MAX`]).
    pub fn leave(&self, interface: IfIndex, id: u16) -> Result<(), EngineError> {
        let key = VlanKey { ifindex: interface.0, id, zero: 0 };
        set(&self.0, &key, &1_u8, || format!("leave VLAN {id} of interface {}", interface.0))
    }

    /// Takes the packets of VLAN `id` again. Right also when they were not left.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn take(&self, interface: IfIndex, id: u16) -> Result<(), EngineError> {
        let key = VlanKey { ifindex: interface.0, id, zero: 0 };
        unset(&self.0, &key, || format!("take VLAN {id} of interface {}", interface.0))
    }
}

/// Which socket and worker serve a receive queue.
#[derive(Debug)]
pub struct Queues(pub(crate) MapHandle);

impl Queues {
    /// Sends the packets of a queue to the socket at `xsk_index` of [`Xsks`], owned by `worker`.
    ///
    /// # Errors
    /// The map is full ([`crate::xdp::layout::QUEUES_MAX`]).
    pub fn set(
        &self,
        interface: IfIndex,
        queue: u32,
        xsk_index: u32,
        worker: WorkerId,
    ) -> Result<(), EngineError> {
        let key = QueueKey { ifindex: interface.0, queue };
        let value = Queue { xsk_index, worker: worker.0.into() };
        set(&self.0, &key, &value, || format!("steer queue {queue} of interface {}", interface.0))
    }

    /// Removes a queue. Right also when it is not there.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn remove(&self, interface: IfIndex, queue: u32) -> Result<(), EngineError> {
        let key = QueueKey { ifindex: interface.0, queue };
        unset(&self.0, &key, || format!("unsteer queue {queue} of interface {}", interface.0))
    }
}

/// The sockets.
#[derive(Debug)]
pub struct Xsks(pub(crate) MapHandle);

impl Xsks {
    /// Puts a bound AF_XDP socket into a slot, 0 to [`crate::xdp::layout::QUEUES_MAX`] - 1.
    ///
    /// # Errors
    /// Not an AF_XDP socket, or not bound, or no such slot.
    pub fn set(&self, index: u32, socket: BorrowedFd<'_>) -> Result<(), EngineError> {
        set(&self.0, &index, &socket.as_raw_fd(), || format!("set AF_XDP slot {index}"))
    }

    /// Empties a slot: its packets meet the rule for stale workers. Right also when it is empty.
    ///
    /// # Errors
    /// No such slot.
    pub fn clear(&self, index: u32) -> Result<(), EngineError> {
        unset(&self.0, &index, || format!("clear AF_XDP slot {index}"))
    }
}

/// The interfaces that the program works for; on any other it passes everything, uncounted.
#[derive(Debug)]
pub struct Interfaces(pub(crate) MapHandle);

impl Interfaces {
    /// Takes an interface into service; `slot` is where its packets are counted, and `side` tells
    /// whether cluster IPs are fronts there.
    ///
    /// # Errors
    /// The map is full ([`crate::types::INTERFACES_MAX`]).
    pub fn set(
        &self,
        interface: IfIndex,
        slot: InterfaceSlot,
        mac: MacAddress,
        side: Side,
    ) -> Result<(), EngineError> {
        let value = Interface::new(slot, mac, side);
        set(&self.0, &interface.0, &value, || format!("add interface {}", interface.0))
    }

    /// Takes an interface out of service: from now on its packets pass. Right also when it is not
    /// there.
    ///
    /// # Errors
    /// The kernel's, should it ever refuse.
    pub fn remove(&self, interface: IfIndex) -> Result<(), EngineError> {
        unset(&self.0, &interface.0, || format!("remove interface {}", interface.0))
    }
}

/// What the program counted.
#[derive(Debug)]
pub struct CounterMap(pub(crate) MapHandle);

impl CounterMap {
    /// The counters of an interface slot since load, all CPUs summed.
    ///
    /// # Errors
    /// No such slot.
    pub fn read(&self, slot: InterfaceSlot) -> Result<SteeringCounters, EngineError> {
        let what = || format!("read the XDP counters of slot {}", slot.0);
        let values = self.0.lookup_percpu(u32::from(slot.0).as_bytes(), MapFlags::ANY);
        let values = values.map_err(|error| library_refused(what(), &error))?;
        let values = values.ok_or_else(|| refused(what(), libc::ENOENT, None))?;
        let empty = vec![0; crate::verdict::PassReason::COUNT];
        let mut sum = SteeringCounters { slot, passed_packets: empty, ..Default::default() };
        for value in &values {
            let cpu = Counters::read_from_bytes(value);
            add(&mut sum, &cpu.map_err(|_size| refused(what(), libc::EINVAL, None))?);
        }
        Ok(sum)
    }
}

fn add(sum: &mut SteeringCounters, cpu: &Counters) {
    sum.received_packets += cpu.received_packets;
    sum.received_bytes += cpu.received_bytes;
    sum.redirected_packets += cpu.redirected_packets;
    sum.stale_dropped_packets += cpu.stale_dropped_packets;
    for (sum, cpu) in sum.passed_packets.iter_mut().zip(cpu.passed_packets) {
        *sum += cpu;
    }
}

pub(super) fn set<K, V>(
    map: &MapHandle,
    key: &K,
    value: &V,
    what: impl Fn() -> String,
) -> Result<(), EngineError>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    let result = map.update(key.as_bytes(), value.as_bytes(), MapFlags::ANY);
    result.map_err(|error| library_refused(what(), &error))
}

/// Removes what may be there.
pub(super) fn unset<K>(
    map: &MapHandle,
    key: &K,
    what: impl Fn() -> String,
) -> Result<(), EngineError>
where
    K: IntoBytes + Immutable,
{
    match map.delete(key.as_bytes()) {
        Err(error) if errno_of(&error) != libc::ENOENT => Err(library_refused(what(), &error)),
        _ => Ok(()),
    }
}

/// A second handle on the same map, for [`FlowMap`].
pub(crate) fn share(map: &MapHandle) -> Result<Arc<OwnedFd>, EngineError> {
    let fd = map.as_fd().try_clone_to_owned();
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(0);
    fd.map(Arc::new).map_err(|error| refused("share a BPF map", errno(error), None))
}
