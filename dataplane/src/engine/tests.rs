//! What the engine leaves behind when something fails: nothing. On a real veth in a namespace of
//! the test's own, so these tests need root.

mod down;
mod draining;
mod fragments;
mod hung;
mod vlans;
mod zero_copy;

use crate::clock;
use crate::engine::worker_handle::PATIENCE;
use crate::engine::{AttachMode, AttachRequest, CopyMode, Engine, EngineConfig, KernelRoad};
use crate::snapshot::Side;
use crate::stats::{Counter, FramePlace};
use crate::types::{IfIndex, InterfaceSlot, MacAddress, Time, WorkerId};
use crate::worker::Command;
use crate::xdp::layout::QUEUES_MAX;
use crate::xdp::socket::{BindRequest, BoundPair};
use core::time::Duration;
use crossbeam::channel::bounded;
use std::time::Instant;

const SLOT: InterfaceSlot = InterfaceSlot(1);
const DEADLINE: Duration = Duration::from_secs(10);

fn ip(arguments: &str) -> String {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn index(name: &str) -> IfIndex {
    let line = ip(&format!("-o link show {name}"));
    IfIndex(line.split(':').next().unwrap().parse().unwrap())
}

/// Runs a test with an engine of one worker, in a network namespace that ends with its thread.
fn with_engine(test: impl FnOnce(&mut Engine) + Send) {
    with_workers(1, test);
}

/// The same with this many workers, and as many queues.
fn with_workers(count: usize, test: impl FnOnce(&mut Engine) + Send) {
    let body = || {
        enter_empty_namespace();
        let queues = format!("numrxqueues {count} numtxqueues {count}");
        for (name, peer) in [("tidegate0", "tidegate1"), ("outer", "client")] {
            ip(&format!("link add {name} {queues} type veth peer name {peer} {queues}"));
        }
        for name in ["tidegate0", "tidegate1", "outer", "client"] {
            ip(&format!("link set {name} up"));
        }
        let road = KernelRoad {
            device: "tidegate0".into(),
            device_index: index("tidegate0"),
            peer_index: index("tidegate1"),
        };
        let worker_cpus = vec![None; count];
        let config = EngineConfig { worker_cpus, ..EngineConfig::small(road) };
        test(&mut Engine::start(config).unwrap());
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[expect(unsafe_code, reason = "unshare(2)")]
fn enter_empty_namespace() {
    // SAFETY: no pointers; concerns this thread and those that it starts.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "needs root");
}

fn request() -> AttachRequest {
    AttachRequest {
        slot: SLOT,
        name: "outer".into(),
        index: index("outer"),
        mac: MacAddress([2, 0, 0, 0, 0, 2]),
        queues: vec![0],
        attach_mode: AttachMode::Auto,
        copy_mode: CopyMode::Copy,
        is_small: true,
        side: Side::Clients,
        vlans: Vec::new(),
    }
}

fn bind(engine: &Engine) -> Result<BoundPair, crate::engine::EngineError> {
    let mode = Some(CopyMode::Copy);
    let request = BindRequest { slot: SLOT, name: "outer", queue: 0, mode, ring_size: 256 };
    BoundPair::bind(&engine.workers[0].copy_umem, &request)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what}: not so after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The queue can be bound and every frame is free; a worker that sleeps tells within a second.
fn assert_nothing_is_left(engine: &Engine) {
    wait_until("the queue can be bound again", || bind(engine).is_ok());
    let work = &engine.workers[0].counters.work;
    work.frames.iter().for_each(|count| count.set(0));
    wait_until("all frames are free", || {
        let free = work.frames[FramePlace::Free as usize].get();
        free > 0 && free == work.frames.iter().map(Counter::get).sum::<u64>()
    });
    assert_eq!(engine.workers[0].pair_count, 0);
    assert_eq!(engine.free_xsk.len(), QUEUES_MAX as usize);
}

#[test]
fn a_queue_that_cannot_be_steered_is_given_back_whole() {
    with_engine(|engine| {
        let others = || (0..QUEUES_MAX).map(|n| IfIndex(1_000 + n));
        others().for_each(|i| engine.steering.queues.set(i, 0, 0, WorkerId(0)).unwrap());
        let error = engine.attach(&request()).unwrap_err();
        assert!(error.what.starts_with("steer queue 0"), "{error:?}");
        assert_nothing_is_left(engine);
        others().for_each(|i| engine.steering.queues.remove(i, 0).unwrap());
        engine.attach(&request()).unwrap();
        engine.detach(SLOT);
        assert_nothing_is_left(engine);
    });
}

#[test]
fn a_pair_that_nobody_waits_for_is_given_up_again() {
    with_engine(|engine| {
        let (pair, nobody) = (Box::new(bind(engine).unwrap()), bounded(1).0);
        let command = Command::AddPair { pair, fill_frames: 256, zero_copy: None, reply: nobody };
        engine.workers[0].tell(command).unwrap();
        assert_nothing_is_left(engine);
    });
}

#[test]
fn a_worker_that_hangs_is_not_waited_for_and_finds_what_to_do_when_it_goes_on() {
    with_engine(|engine| {
        engine.attach(&request()).unwrap();
        engine.workers[0].tell(Command::Stop).unwrap();
        wait_until("the worker is stale", || engine.is_stale(WorkerId(0)));
        let start = Instant::now();
        engine.detach(SLOT);
        assert!(start.elapsed() < PATIENCE, "it was waited for");
        let left: Vec<Command> = core::iter::from_fn(|| engine.workers[0].commands.pop()).collect();
        let [Command::SetEgress(..), Command::RemovePair(pair, reply), Command::Reclaim(frames)] =
            &left[..]
        else {
            panic!("{left:?}")
        };
        assert_eq!(pair, frames);
        assert!(reply.try_send(None).is_err(), "nobody waits");
        assert_eq!(engine.workers[0].pair_count, 0);
    });
}

#[test]
fn a_worker_that_begins_to_hang_is_waited_for_no_longer_than_it_counts_as_alive() {
    with_engine(|engine| {
        engine.attach(&request()).unwrap();
        engine.workers[0].tell(Command::Stop).unwrap();
        assert!(!engine.is_stale(WorkerId(0)), "it has just beaten");
        let start = Instant::now();
        engine.detach(SLOT);
        let error = engine.attach(&request()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bind the queues of outer: worker 0 does not beat, nor does another"
        );
        assert!(start.elapsed() < PATIENCE, "it was waited for");
    });
}

#[test]
fn a_worker_notes_how_long_it_had_no_heartbeat() {
    with_engine(|engine| {
        let gap = || engine.workers[0].counters.work.heartbeat_gap_ns_max.get();
        wait_until("a sleep is noted", || gap() > 0);
    });
}

#[test]
fn new_queues_go_to_a_worker_that_beats() {
    with_workers(2, |engine| {
        engine.workers[0].tell(Command::Stop).unwrap();
        wait_until("the worker is stale", || engine.is_stale(WorkerId(0)));
        let granted = engine.attach(&AttachRequest { queues: vec![0, 1], ..request() }).unwrap();
        assert!(granted.queues.iter().all(|queue| queue.worker == WorkerId(1)), "{granted:?}");
    });
}

#[test]
fn an_interface_of_two_workers_is_given_up_while_either_hangs() {
    with_workers(2, |engine| {
        engine.attach(&AttachRequest { queues: vec![0, 1], ..request() }).unwrap();
        engine.workers[0].tell(Command::Stop).unwrap();
        wait_until("the worker is stale", || engine.is_stale(WorkerId(0)));
        let mut has_program_after = |age: Duration| {
            let now = clock::now().0;
            let beat = now.saturating_sub(u64::try_from(age.as_nanos()).unwrap());
            engine.steering.heartbeats.beat(WorkerId(0), Time(beat));
            engine.tick();
            engine.attached[&SLOT].program.is_some()
        };
        assert!(has_program_after(Duration::from_secs(5)), "for a while it is waited for");
        for _ in 0..3 {
            assert!(!has_program_after(Duration::from_secs(11)), "the other one beats");
        }
        assert!(!has_program_after(Duration::from_secs(5)));
        assert!(has_program_after(Duration::ZERO));
    });
}

#[test]
fn a_device_that_was_replaced_under_its_number_is_lost_and_can_be_attached_anew() {
    with_engine(|engine| {
        let before = request();
        engine.attach(&before).unwrap();
        assert_eq!(engine.lost(), []);
        ip("link del outer");
        let index = before.index.0;
        ip(&format!("link add outer index {index} type veth peer name client"));
        assert_eq!(engine.lost(), [SLOT]);
        engine.attach(&before).unwrap();
        assert_eq!(engine.lost(), []);
        engine.detach(SLOT);
        assert_nothing_is_left(engine);
    });
}

#[test]
fn an_interface_that_is_bound_otherwise_keeps_its_program_meanwhile() {
    with_workers(2, |engine| {
        let link = |engine: &Engine| engine.attached[&SLOT].program.as_ref()?.id();
        for (queues, is_small) in [(vec![0, 1], true), (vec![1], true), (vec![0, 1], false)] {
            let before = engine.attached.contains_key(&SLOT).then(|| link(engine));
            engine.attach(&AttachRequest { queues, is_small, ..request() }).unwrap();
            assert!(before.is_none_or(|before| before.is_some() && before == link(engine)));
        }
        engine.detach(SLOT);
        assert_nothing_is_left(engine);
    });
}

#[test]
fn an_interface_that_is_down_is_attached_too() {
    with_engine(|engine| {
        ip("link set outer down");
        engine.attach(&request()).unwrap();
        ip("link set outer up");
        assert_eq!(engine.lost(), []);
        ip("link set outer down");
        assert_eq!(engine.lost(), []);
        engine.detach(SLOT);
        assert_nothing_is_left(engine);
    });
}

#[test]
fn a_renamed_interface_is_bound_by_its_number() {
    with_engine(|engine| {
        let before = request();
        ip("link set outer down");
        ip("link set outer name renamed");
        ip("link add outer type veth peer name stranger");
        engine.attach(&before).unwrap();
        engine.detach(SLOT);
        ip("link del renamed");
        assert_eq!(engine.attach(&before).unwrap_err().errno, libc::ENODEV);
        assert_eq!(engine.workers[0].pair_count, 0);
    });
}
