//! The worker's sleep on real AF_XDP sockets, by both backends.

use crate::frames::{Family, OUR_MAC, Segment, tcp};
use crate::net::{enter_new_namespace, index_of, now, run, set_up};
use crate::port::Port;
use crate::rig::{CONFIG, SLOT, WORKER, XSK_INDEX, client, front, front_key};
use std::thread;
use tidegate_dataplane::engine::AttachMode;
use tidegate_dataplane::snapshot::Side;
use tidegate_dataplane::types::{MacAddress, Protocol};
use tidegate_dataplane::xdp::program::Steering;
use tidegate_dataplane::xdp::sleep::{SLEEP_MAX, SleepBackend, Sleeper};

fn by_ring() -> Sleeper {
    let (sleeper, backend) = Sleeper::try_new().unwrap();
    assert_eq!(backend, SleepBackend::IoUring, "this test needs a kernel that permits io_uring");
    sleeper
}

fn on_both(test: impl Fn(Sleeper) + Copy + Send) {
    // In a thread of its own: with it go the namespace and all that is in it.
    thread::scope(|scope| scope.spawn(move || test(by_ring())).join().unwrap());
    thread::scope(|scope| scope.spawn(move || test(Sleeper::by_poll().unwrap())).join().unwrap());
}

#[test]
fn a_packet_wakes_and_an_unwatched_socket_frees_its_queue() {
    on_both(|mut sleeper| {
        enter_new_namespace();
        run(&format!("ip link add eth0 address {} type veth peer name eth1", MacAddress(OUR_MAC)));
        set_up("eth0");
        set_up("eth1");
        let steering = Steering::load(&CONFIG).unwrap();
        let eth0 = index_of("eth0");
        let _attached = steering.attach(eth0, AttachMode::Native).unwrap();
        steering.fronts.insert(&front_key(front(Family::V4), Protocol::Tcp), 0).unwrap();
        steering.queues.set(eth0, 0, XSK_INDEX, WORKER).unwrap();
        steering.interfaces.set(eth0, SLOT, MacAddress(OUR_MAC), Side::Clients).unwrap();
        let mut sender = Port::open("eth1", 0);
        // Twice: the second bind finds the queue free, or fails with EBUSY.
        for _ in 0..2 {
            let mut worker = Port::open("eth0", 0);
            steering.xsks.set(XSK_INDEX, worker.fd()).unwrap();
            sleeper.watch(worker.fd()).unwrap();
            for _ in 0..20 {
                while sleeper.sleep(SLEEP_MAX / 100) {}
                steering.heartbeats.beat(WORKER, now());
                sender.send(&tcp(client(Family::V4), front(Family::V4), Segment::Syn));
                assert!(sleeper.sleep(SLEEP_MAX), "the packet did not wake the sleeper");
                worker.receive();
            }
            sleeper.unwatch(worker.fd());
            steering.xsks.clear(XSK_INDEX).unwrap();
        }
    });
}
