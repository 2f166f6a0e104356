//! Network namespaces, the `ip` command, the kernel's clock.
#![expect(unsafe_code, reason = "unshare(2), clock_gettime(2)")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tidegate_dataplane::testing::Link;
use tidegate_dataplane::types::{IfIndex, Time};

/// Moves this thread into a new network namespace; it goes with the thread.
pub(crate) fn enter_new_namespace() {
    // SAFETY: no pointers.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "these tests need root: {}", std::io::Error::last_os_error());
    run("ip link set lo up");
}

/// Runs a command in this thread's namespace and returns what it printed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sets an interface up, without the IPv6 chatter that would count as packets.
pub(crate) fn set_up(name: &str) {
    run(&format!("ip link set dev {name} addrgenmode none"));
    run(&format!("ip link set dev {name} up"));
}

/// The number of an interface of this thread's namespace.
pub(crate) fn index_of(name: &str) -> IfIndex {
    let line = run(&format!("ip -o link show dev {name}"));
    IfIndex(line.split(':').next().unwrap().parse().unwrap())
}

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a condition that must come true.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "timed out: {what}");
        thread::yield_now();
    }
}

/// `CLOCK_MONOTONIC` now.
pub(crate) fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0);
    Time(u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap())
}

/// Sees the frames of an interface as a packet capture does.
pub(crate) struct Tap(Link);

impl Tap {
    pub(crate) fn open(interface: IfIndex) -> Self {
        Self(Link::open(interface))
    }

    /// The next frame that `is_wanted`.
    pub(crate) fn next(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut seen = None;
        wait_until("the frame is seen", || {
            seen = self.0.receive().filter(|frame| is_wanted(frame));
            seen.is_some()
        });
        seen.unwrap()
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Another host: a thread in a namespace of its own.
pub(crate) struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (sender, namespace) = channel();
        let thread = thread::spawn(move || {
            enter_new_namespace();
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            sender.send(PathBuf::from("/proc").join(thread).join("ns/net")).unwrap();
            for job in inbox {
                job();
            }
        });
        let namespace = namespace.recv().unwrap();
        Self { jobs: Some(jobs), thread: Some(thread), namespace }
    }

    /// Where `ip link set … netns` finds it.
    pub(crate) fn namespace(&self) -> String {
        self.namespace.display().to_string()
    }

    /// Starts something there.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
    }

    /// Does something there, and waits for its result.
    pub(crate) fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        self.start(move || sender.send(job()).unwrap());
        result.recv().expect("the job on the other host failed")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking(), "a job on the other host failed");
        }
    }
}
