//! The `.hlog` file, written by a thread of its own: intervals come by a bounded ring, so that a
//! disk that is slow or full holds up nobody and loses records, which are counted (T15). Workers
//! are two rings away from it. One write for each interval: nothing that io_uring would make
//! cheaper.

use crate::latency::hlog::{self, Subject};
use crate::latency::interval::Interval;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Intervals that wait for the disk at most: a minute at the default second. Longer only keeps more
/// of what a disk that hangs loses anyway.
const WAITING_MAX: usize = 60;

/// A file that is larger gets a number, and a new one is begun. At the default second a worker
/// writes some 30 MiB in a day.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Files with numbers that are kept beside it: `.1` is the newest.
const KEPT_FILES: u32 = 3;

/// How long the end of the daemon waits for a disk.
const END_MAX: Duration = Duration::from_secs(2);

/// The control loop's end.
#[derive(Debug)]
pub struct HistogramLog {
    intervals: Option<Sender<Arc<Interval>>>,
    shared: Arc<Shared>,
    /// Why the last record was not written.
    error: watch::Receiver<Option<String>>,
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    lost_records: AtomicU64,
}

impl Shared {
    fn lose(&self, interval: &Interval) {
        self.lost_records.fetch_add(interval.workers.len() as u64, Ordering::Relaxed);
    }
}

impl HistogramLog {
    /// Opens or goes on with the file at `path`, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened, or there can be no thread.
    pub fn open(path: &Path, sampled_every: u32) -> io::Result<Self> {
        Self::with_limit(path, sampled_every, FILE_BYTES_MAX)
    }

    fn with_limit(path: &Path, sampled_every: u32, bytes_max: u64) -> io::Result<Self> {
        let file = LogFile::open(path, sampled_every)?;
        let (intervals, waiting) = bounded(WAITING_MAX);
        let (tell, error) = watch::channel(None);
        let (ends, ended) = bounded(0);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            path: path.to_owned(),
            sampled_every,
            bytes_max,
            file: Some(file),
            shared: Arc::clone(&shared),
            error: tell,
        };
        let thread = std::thread::Builder::new().name("histogram-log".into());
        thread.spawn(move || {
            writer.run(&waiting);
            // Tells the end by being dropped.
            drop(ends);
        })?;
        Ok(Self { intervals: Some(intervals), shared, error, ended })
    }

    /// Gives an interval to the thread. Never waits: where too many wait already, it is lost.
    pub fn hand_over(&self, interval: Arc<Interval>) {
        let Some(intervals) = &self.intervals else { return };
        match intervals.try_send(interval) {
            Ok(()) => {}
            Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) => {
                self.shared.lose(&lost);
            }
        }
    }

    /// Records, one for each worker and interval, that are in no file.
    pub fn lost_records(&self) -> u64 {
        self.shared.lost_records.load(Ordering::Relaxed)
    }

    /// Why the last ones are not, where that is still so.
    pub fn error(&self) -> Option<String> {
        self.error.borrow().clone()
    }
}

impl Drop for HistogramLog {
    fn drop(&mut self) {
        self.intervals = None;
        // Either way: it has ended, or the disk hangs and nobody waits longer.
        self.ended.recv_timeout(END_MAX).ok();
    }
}

struct Writer {
    path: PathBuf,
    sampled_every: u32,
    bytes_max: u64,
    file: Option<LogFile>,
    shared: Arc<Shared>,
    error: watch::Sender<Option<String>>,
}

impl Writer {
    fn run(mut self, intervals: &Receiver<Arc<Interval>>) {
        while let Ok(interval) = intervals.recv() {
            let outcome = self.write(&interval);
            if outcome.is_err() {
                self.shared.lose(&interval);
                // Opened anew for the next one: somebody may have made room.
                self.file = None;
            }
            self.tell(outcome.err());
        }
    }

    fn tell(&self, refused: Option<io::Error>) {
        let path = self.path.display();
        let words = refused.map(|error| format!("latency is not written to {path}: {error}"));
        self.error.send_if_modified(|before| {
            let is_new = *before != words;
            if let Some(words) = words.as_ref().filter(|_| is_new) {
                tracing::warn!("{words}");
            }
            *before = words;
            is_new
        });
    }

    fn write(&mut self, interval: &Interval) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| file.bytes >= self.bytes_max) {
            self.file = None;
            roll(&self.path)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(LogFile::open(&self.path, self.sampled_every)?),
        };
        file.append(&hlog::lines(interval, Subject::ALL, file.base))
    }
}

/// Gives the file a number, and each that has one the next. The last one goes.
fn roll(path: &Path) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEPT_FILES).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

/// An open file. Times in it count from `base`, which its last head tells.
#[derive(Debug)]
struct LogFile {
    file: File,
    bytes: u64,
    base: SystemTime,
}

impl LogFile {
    /// A file that is there already goes on: with a head of its own, as its readers expect.
    fn open(path: &Path, sampled_every: u32) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        // To the millisecond, as it is written.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let base = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let mut log = Self { file, bytes, base };
        log.append(&hlog::head(Subject::ALL, sampled_every, base))?;
        Ok(log)
    }

    /// All of `text` or nothing: half a line would spoil the rest of the file.
    fn append(&mut self, text: &str) -> io::Result<()> {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            self.file.set_len(self.bytes).ok();
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::interval::tests::interval;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::time::Instant;

    /// The intervals of a file.
    fn count(path: &Path) -> usize {
        let text = fs::read(path).unwrap();
        let entries = IntervalLogIterator::new(&text).map(Result::unwrap);
        entries.filter(|entry| matches!(entry, LogEntry::Interval(_))).count()
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "too late");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn large_files_are_put_aside_by_number_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latency.hlog");
        let log = HistogramLog::with_limit(&path, 64, 1).unwrap();
        (1..=7).for_each(|number| log.hand_over(Arc::new(interval(number, 2, &[1_000]))));
        drop(log);
        // The first head alone is above the limit, so each interval begins a file.
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let names: Vec<_> = names.iter().map(|e| e.file_name().into_string().unwrap()).collect();
        let expected = ["latency.hlog", "latency.hlog.1", "latency.hlog.2", "latency.hlog.3"];
        assert_eq!(names, expected);
        assert!(names.iter().all(|name| count(&folder.path().join(name)) == 2));
    }

    #[test]
    fn a_restart_goes_on_in_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latency.hlog");
        for number in [1, 2] {
            let log = HistogramLog::open(&path, 64).unwrap();
            log.hand_over(Arc::new(interval(number, 1, &[1_000])));
        }
        assert_eq!(count(&path), 2);
        assert_eq!(fs::read_to_string(&path).unwrap().matches("#[BaseTime").count(), 2);
    }

    /// A pipe that nobody reads is a disk that hangs.
    #[test]
    fn a_slow_disk_loses_records_and_counts_them_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let log = HistogramLog::open(&path, 64).unwrap();
        let interval = Arc::new(interval(1, 64, &[1, 1_000, 1_000_000]));
        let mut told = 0;
        wait_until(|| {
            log.hand_over(Arc::clone(&interval));
            log.lost_records() > 0
        });
        told += log.lost_records();
        assert_eq!(told % 64, 0, "a record for each worker");
        drop(reader);
    }

    #[test]
    fn a_refused_write_is_told_until_one_succeeds() {
        let full = HistogramLog::open(Path::new("/dev/full"), 64);
        let words = full.map(drop).unwrap_err().to_string();
        assert!(words.contains("No space left"), "{words}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/latency.hlog");
        assert!(HistogramLog::open(&path, 64).is_err(), "no folder");
        fs::create_dir(folder.path().join("logs")).unwrap();
        let log = HistogramLog::with_limit(&path, 64, 1).unwrap();
        fs::remove_dir_all(folder.path().join("logs")).unwrap();
        // The file is full, and what it is put aside to has no folder.
        log.hand_over(Arc::new(interval(1, 3, &[1])));
        wait_until(|| log.error().is_some());
        assert_eq!(log.lost_records(), 3);
        fs::create_dir(folder.path().join("logs")).unwrap();
        log.hand_over(Arc::new(interval(2, 3, &[1])));
        wait_until(|| log.error().is_none() && count(&path) == 3);
    }
}
