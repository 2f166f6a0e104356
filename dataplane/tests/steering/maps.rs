//! The maps at their limits.

use crate::net::enter_new_namespace;
use crate::rig::{CONFIG, flow_key};
use std::net::SocketAddr;
use tidegate_dataplane::snapshot::Side;
use tidegate_dataplane::types::{FlowKey, IfIndex, InterfaceSlot, MacAddress, Time, WorkerId};
use tidegate_dataplane::xdp::heartbeat::Heartbeats;
use tidegate_dataplane::xdp::hook::AttachedProgram;
use tidegate_dataplane::xdp::layout::QUEUES_MAX;
use tidegate_dataplane::xdp::maps::{FLOW_BATCH_MAX, FlowMap};
use tidegate_dataplane::xdp::program::{Steering, SteeringConfig};
use tidegate_dataplane::xdp::road::Road;
use tidegate_dataplane::xdp::sleep::Sleeper;

fn keys(count: u16) -> Vec<FlowKey> {
    let to = SocketAddr::from(([10, 0, 0, 1], 15_000));
    let from = |port| SocketAddr::from(([10, 1, 0, 9], port));
    (1..=count).map(|port| flow_key((from(port), to))).collect()
}

fn load(flows_max: u32) -> Steering {
    enter_new_namespace();
    Steering::load(&SteeringConfig { flows_max, ..CONFIG }).unwrap()
}

#[test]
fn a_full_flow_map_stores_the_first_keys_and_says_how_many() {
    let flows = load(100).flows;
    let keys = keys(200);
    assert_eq!(flows.insert_batch(&keys[..0], WorkerId(0)), 0);
    assert_eq!(flows.insert_batch(&keys, WorkerId(0)), FLOW_BATCH_MAX);
    assert_eq!(flows.insert_batch(&keys[..64], WorkerId(1)), 64, "known keys take no room");
    assert_eq!(flows.insert_batch(&keys[64..128], WorkerId(0)), 36);
    assert_eq!(flows.insert_batch(&keys[100..101], WorkerId(0)), 0);
    flows.remove_batch(&keys[..10]);
    assert_eq!(flows.insert_batch(&keys[100..130], WorkerId(0)), 10);
}

#[test]
fn removal_passes_over_what_is_not_there() {
    let flows = load(8).flows;
    let keys = keys(200);
    assert_eq!(flows.insert_batch(&keys[..8], WorkerId(0)), 8);
    flows.remove_batch(&[]);
    // Missing ones before, between and behind those that are there; more than one batch.
    let mut removed: Vec<_> = keys[100..150].to_vec();
    for key in &keys[..8] {
        removed.extend([*key, *key]);
    }
    removed.extend(&keys[150..]);
    flows.remove_batch(&removed);
    assert_eq!(flows.insert_batch(&keys[8..16], WorkerId(0)), 8, "the map is empty again");
}

#[test]
fn an_update_changes_the_owner() {
    let steering = load(8);
    let flows = steering.flows.clone();
    let key = keys(1);
    assert_eq!(flows.insert_batch(&key, WorkerId(1)), 1);
    assert_eq!(steering.flows.insert_batch(&key, WorkerId(2)), 1);
    drop(steering);
    assert_eq!(flows.insert_batch(&key, WorkerId(3)), 1, "a clone outlives the program");
}

#[test]
fn handles_may_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Steering>();
    is_send::<Road>();
    is_send::<AttachedProgram>();
    is_send::<FlowMap>();
    is_send::<Heartbeats>();
    is_send::<Sleeper>();
}

#[test]
fn a_heartbeat_is_read_back_and_a_worker_too_many_is_ignored() {
    let beats = load(1).heartbeats;
    assert_eq!(beats.last(WorkerId(63)), Time(0));
    beats.beat(WorkerId(63), Time(5));
    beats.beat(WorkerId(64), Time(6));
    assert_eq!(beats.clone().last(WorkerId(63)), Time(5));
    assert_eq!(beats.last(WorkerId(64)), Time(0));
}

#[test]
fn limits_are_refused_by_name() {
    let steering = load(1);
    let (mac, slot) = (MacAddress([2; 6]), InterfaceSlot(1));
    for index in 1..=256 {
        steering.interfaces.set(IfIndex(index), slot, mac, Side::Clients).unwrap();
    }
    let error = steering.interfaces.set(IfIndex(300), slot, mac, Side::Clients).unwrap_err();
    assert_eq!((error.errno, error.what.as_str()), (libc::E2BIG, "add interface 300"));
    for queue in 0..QUEUES_MAX {
        steering.queues.set(IfIndex(1), queue, 0, WorkerId(0)).unwrap();
    }
    let error = steering.queues.set(IfIndex(1), QUEUES_MAX, 0, WorkerId(0)).unwrap_err();
    assert_eq!(error.what, "steer queue 1024 of interface 1");
    assert_eq!(steering.counters.read(InterfaceSlot(256)).unwrap_err().errno, libc::ENOENT);
}
