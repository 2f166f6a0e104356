//! How long a front drains.

use super::{DEADLINE, with_engine, with_workers};
use crate::clock;
use crate::engine::Engine;
use crate::engine::observe::GIVEN_UP_AFTER;
use crate::snapshot::{Front, FrontKey, ServicePort, Snapshot};
use crate::testing::Fixture;
use crate::types::{Protocol, ServiceId, Time, WorkerId};
use core::time::Duration;
use std::sync::Arc;

/// The TCP front of service port 1, and further ones of these.
fn snapshot(further: &[u32]) -> Snapshot {
    let mut snapshot = Fixture::default().snapshot();
    let is_tcp = |front: &&Arc<Front>| front.key.protocol == Protocol::Tcp;
    let front = Arc::clone(snapshot.fronts.values().find(is_tcp).unwrap());
    for (port, id) in (1_u16..).zip(further) {
        let key = FrontKey { port: crate::types::L4Port::new(port), ..front.key };
        let service = ServicePort { id: ServiceId(*id), ..ServicePort::clone(&front.service) };
        let other = Front { key, service: Arc::new(service), ..Front::clone(&front) };
        snapshot.fronts.insert(key, Arc::new(other));
    }
    snapshot
}

/// Publishes these fronts and takes them away again.
fn drain(engine: &mut Engine, further: &[u32]) {
    engine.publish_all(snapshot(further)).unwrap();
    engine.publish_all(Snapshot::default()).unwrap();
}

fn draining(engine: &Engine) -> Vec<u32> {
    let mut of: Vec<_> =
        engine.snapshot().draining.values().map(|front| front.service.id.0).collect();
    of.sort_unstable();
    of
}

/// As if they had drained for so long more.
fn drained_for(engine: &mut Engine, time: Duration) {
    for since in engine.drained_since.values_mut() {
        since.time = since.time.checked_sub(time).unwrap();
    }
    engine.tick();
}

fn wait_until_read(engine: &Engine) {
    let version = engine.snapshot().version;
    super::wait_until("all workers have read it", || engine.versions_read().all(|v| v == version));
}

#[test]
fn each_of_a_hundred_thousand_service_ports_drains_for_its_own_flows() {
    with_engine(|engine| {
        let many = [16_383, 16_384, 20_000, 131_071];
        drain(engine, &many);
        wait_until_read(engine);
        let counters = Arc::clone(&engine.counters()[0]);
        for id in [1, 16_384, 20_000] {
            counters.service(ServiceId(id)).flows.add(1);
        }
        drained_for(engine, Duration::from_secs(1));
        assert_eq!(draining(engine), [1, 16_384, 20_000]);
        counters.service(ServiceId(20_000)).flows.sub(1);
        drained_for(engine, Duration::ZERO);
        assert_eq!(draining(engine), [1, 16_384], "the others have flows yet");
    });
}

#[test]
fn a_front_drains_until_a_worker_that_beats_has_read_so() {
    with_workers(2, |engine| {
        engine.workers[0].stop();
        let beat = |engine: &Engine| {
            engine.steering.heartbeats.beat(WorkerId(0), clock::now());
        };
        drain(engine, &[]);
        for _ in 0..3 {
            beat(engine);
            drained_for(engine, DEADLINE);
            assert_eq!(draining(engine), [1], "a burst may have begun before");
        }
        let version = engine.snapshot().version.0;
        engine.workers[0].counters.work.snapshot_version.set(version);
        beat(engine);
        super::wait_until("it ended", || {
            engine.tick();
            draining(engine).is_empty()
        });
        assert_eq!(engine.fronts_ended_unread(), 0);
    });
}

#[test]
fn a_front_does_not_drain_for_ever_for_a_worker_that_hangs() {
    with_workers(2, |engine| {
        engine.workers[0].stop();
        drain(engine, &[]);
        engine.steering.heartbeats.beat(WorkerId(0), Time(1));
        drained_for(engine, GIVEN_UP_AFTER / 2);
        assert_eq!(draining(engine), [1], "for a while it is waited for");
        drained_for(engine, GIVEN_UP_AFTER / 2);
        super::wait_until("it ended", || {
            engine.tick();
            draining(engine).is_empty()
        });
        assert_eq!(engine.fronts_ended_unread(), 1, "and that is told");
    });
}
