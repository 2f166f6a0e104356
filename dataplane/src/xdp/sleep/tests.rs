//! Both backends must behave the same.

use super::*;
use std::io::{ErrorKind, pipe};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

/// A sleep that is expected to end by time.
const SHORT: Duration = Duration::from_millis(1);

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn by_ring() -> Sleeper {
    let (sleeper, backend) = Sleeper::try_new().unwrap();
    assert_eq!(backend, SleepBackend::IoUring, "this test needs a kernel that permits io_uring");
    sleeper
}

fn on_both(test: impl Fn(Sleeper)) {
    test(by_ring());
    test(Sleeper::by_poll().unwrap());
}

fn sleeps_through(sleeper: &mut Sleeper) -> bool {
    // One wake for something dealt with already is allowed, not more.
    !sleeper.sleep(SHORT) || !sleeper.sleep(SHORT)
}

#[test]
fn data_from_before_the_watch_wakes() {
    on_both(|mut sleeper| {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"x").unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        assert!(sleeper.sleep(SLEEP_MAX));
    });
}

#[test]
fn data_between_two_sleeps_wakes() {
    on_both(|mut sleeper| {
        let (mut reader, mut writer) = pipe().unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        for _ in 0..100 {
            assert!(sleeps_through(&mut sleeper));
            writer.write_all(b"x").unwrap();
            assert!(sleeper.sleep(SLEEP_MAX));
            reader.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn data_during_the_sleep_wakes() {
    on_both(|mut sleeper| {
        let (reader, mut writer) = pipe().unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        let waker = sleeper.waker();
        thread::scope(|scope| {
            scope.spawn(move || {
                wait_until_asleep(&waker);
                writer.write_all(b"x").unwrap();
                // Open until the sleeper has woken: a closed pipe would wake it too.
                writer
            });
            sleeps_until_woken(&mut sleeper);
        });
    });
}

#[test]
fn a_poke_before_the_sleep_keeps_awake_once() {
    on_both(|mut sleeper| {
        sleeper.waker().poke();
        sleeper.waker().poke();
        assert!(sleeper.sleep(SLEEP_MAX));
        assert!(sleeps_through(&mut sleeper));
    });
}

#[test]
fn a_poke_that_rings_late_wakes_once() {
    on_both(|mut sleeper| {
        assert!(sleeps_through(&mut sleeper));
        // The poker was held up between its two steps; meanwhile the sleeper woke and took notice.
        let bell = sleeper.waker().0;
        (&bell.event).write_all(&1_u64.to_ne_bytes()).unwrap();
        assert!(sleeper.sleep(SLEEP_MAX));
        assert!(sleeps_through(&mut sleeper));
    });
}

#[test]
fn every_poke_during_the_sleep_wakes() {
    on_both(|mut sleeper| {
        let waker = sleeper.waker();
        let rounds = 200;
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..rounds {
                    wait_until_asleep(&waker);
                    waker.poke();
                }
            });
            for _ in 0..rounds {
                sleeps_until_woken(&mut sleeper);
            }
        });
    });
}

#[test]
fn an_unwatched_descriptor_is_free_and_does_not_wake() {
    on_both(|mut sleeper| {
        let (reader, mut writer) = pipe().unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        assert!(sleeps_through(&mut sleeper));
        sleeper.unwatch(reader.as_fd());
        writer.write_all(b"x").unwrap();
        assert!(sleeps_through(&mut sleeper));
        drop(reader);
        // A pipe breaks when nobody holds its other end any more.
        assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// As a port that is taken from a busy worker: its wake-up is on the way when it is unwatched.
#[test]
fn a_descriptor_that_wakes_at_this_very_moment_is_freed_too() {
    on_both(|mut sleeper| {
        for _ in 0..200 {
            let (reader, mut writer) = pipe().unwrap();
            sleeper.watch(reader.as_fd()).unwrap();
            sleeper.sleep(SHORT);
            writer.write_all(b"x").unwrap();
            sleeper.unwatch(reader.as_fd());
            drop(reader);
            let broken = writer.write_all(b"x").map_err(|error| error.kind());
            assert_eq!(broken, Err(ErrorKind::BrokenPipe), "somebody still holds the reader");
            sleeper.sleep(SHORT);
        }
    });
}

#[test]
fn unwatching_one_descriptor_loses_no_event_of_another() {
    on_both(|mut sleeper| {
        let (reader, mut writer) = pipe().unwrap();
        let (other, _kept_open) = pipe().unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        sleeper.watch(other.as_fd()).unwrap();
        assert!(sleeps_through(&mut sleeper));
        writer.write_all(b"x").unwrap();
        sleeper.unwatch(other.as_fd());
        assert!(sleeper.sleep(SLEEP_MAX));
    });
}

#[test]
fn a_dropped_sleeper_holds_nothing() {
    on_both(|mut sleeper| {
        let (reader, mut writer) = pipe().unwrap();
        sleeper.watch(reader.as_fd()).unwrap();
        assert!(sleeps_through(&mut sleeper));
        drop(sleeper);
        drop(reader);
        assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn watches_are_limited_and_their_places_reused() {
    on_both(|mut sleeper| {
        let pipes: Vec<_> = (0..WATCHES_MAX - 1).map(|_| pipe().unwrap()).collect();
        for (reader, _) in &pipes {
            sleeper.watch(reader.as_fd()).unwrap();
        }
        assert!(sleeps_through(&mut sleeper));
        let (reader, mut writer) = pipe().unwrap();
        assert_eq!(sleeper.watch(reader.as_fd()).unwrap_err().errno, libc::ENOSPC);
        sleeper.unwatch(pipes[7].0.as_fd());
        sleeper.watch(reader.as_fd()).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(sleeper.sleep(SLEEP_MAX));
    });
}

#[test]
fn a_sleeper_made_elsewhere_sleeps_here() {
    let mut sleeper = thread::spawn(by_ring).join().unwrap();
    let (reader, mut writer) = pipe().unwrap();
    sleeper.watch(reader.as_fd()).unwrap();
    assert!(sleeps_through(&mut sleeper));
    writer.write_all(b"x").unwrap();
    assert!(sleeper.sleep(SLEEP_MAX));
    assert!(matches!(&sleeper.watched, Watched::Ring(ring) if ring.is_enabled()));
}

#[test]
fn where_io_uring_is_forbidden_poll_is_used_and_said() {
    let (mut sleeper, backend) = thread::spawn(|| {
        forbid_io_uring();
        Sleeper::try_new().unwrap()
    })
    .join()
    .unwrap();
    let refused = "Operation not permitted (EPERM)".to_owned();
    assert_eq!(backend, SleepBackend::Poll { refused });
    sleeper.waker().poke();
    assert!(sleeper.sleep(SLEEP_MAX));
}

/// As a container's profile does it; for this thread only.
#[expect(unsafe_code, reason = "prctl(2)")]
fn forbid_io_uring() {
    let load = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).unwrap();
    let equal = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap();
    let give = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
    let number = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    // Loads the system call's number; if it is the one, steps over the permission.
    let mut steps = [
        step(load, 0, 0),
        step(equal, 1, number),
        step(give, 0, libc::SECCOMP_RET_ALLOW),
        step(give, 0, eperm),
    ];
    let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
    // SAFETY: no pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    let (option, mode) = (libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER);
    // SAFETY: `program` and its steps outlive the call.
    let result = unsafe { libc::prctl(option, mode, &raw const program) };
    assert_eq!(result, 0);
}

fn sleeps_until_woken(sleeper: &mut Sleeper) {
    let start = Instant::now();
    while !sleeper.sleep(SLEEP_MAX) {
        assert!(start.elapsed() < PATIENCE, "nothing woke the sleeper");
    }
}

fn wait_until_asleep(waker: &Waker) {
    let start = Instant::now();
    while waker.0.state.load(Ordering::Acquire) != ASLEEP {
        assert!(start.elapsed() < PATIENCE, "the sleeper did not fall asleep");
        thread::yield_now();
    }
}
