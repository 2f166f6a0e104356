//! Somebody's TCP sessions with the gateway itself, one of each family, as an operator's ssh: they
//! must never notice.

use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tidegate_control::demo::rig::{Topology, gateway_of};
use tidegate_control::model::Family;

/// Not a front: the stack of the gateway serves it.
const PORT: u16 = 2222;

/// How long one line may take there and back.
const LINE_MAX: Duration = Duration::from_secs(5);

/// Both families.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Sessions that send a line and read it back, again and again, until they are asked to end.
#[derive(Debug)]
pub struct Bystander {
    stop: Arc<AtomicBool>,
    sessions: Vec<Session>,
}

#[derive(Debug)]
struct Session {
    lines: Arc<AtomicU32>,
    thread: JoinHandle<Result<()>>,
}

impl Bystander {
    /// Begins the sessions from the client to the gateway of `rig`.
    ///
    /// # Errors
    /// The server cannot listen, or the client cannot connect.
    pub fn begin(rig: &Topology) -> Result<Self> {
        // A socket belongs to the namespace in which it was made, whoever uses it.
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT));
        let listener = rig.gateway().enter(listen)?.context("listen on the gateway")?;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || echo(stream));
            }
        });
        let stop = Arc::<AtomicBool>::default();
        let session = |family| -> Result<Session> {
            let stream = connect(rig, family)?;
            let lines = Arc::<AtomicU32>::default();
            let (asked, counted) = (Arc::clone(&stop), Arc::clone(&lines));
            let thread = std::thread::spawn(move || talk(stream, &asked, &counted));
            Ok(Session { lines, thread })
        };
        let sessions = FAMILIES.into_iter().map(session).collect::<Result<_>>()?;
        Ok(Self { stop, sessions })
    }

    /// Lines that came back so far, of the session that had the fewest.
    pub fn lines(&self) -> u32 {
        let lines = self.sessions.iter().map(|session| session.lines.load(Ordering::Relaxed));
        lines.min().unwrap_or(0)
    }

    /// Ends the sessions.
    ///
    /// # Errors
    /// One broke, or a line came back wrong or late, or none came at all.
    pub fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        ensure!(self.lines() > 0, "a session of the bystander never said a line");
        for session in self.sessions.drain(..) {
            let joined = session.thread.join();
            let result = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.context("the bystander's session")?;
        }
        Ok(())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A new connection to the gateway itself, proven by one line there and back.
///
/// # Errors
/// It is refused, or the line does not come back.
pub fn connect(rig: &Topology, family: Family) -> Result<TcpStream> {
    let address = SocketAddr::new(gateway_of(family), PORT);
    let dial = || TcpStream::connect_timeout(&address, LINE_MAX);
    let mut stream = rig.client().enter(dial)?.context("connect to the gateway itself")?;
    stream.set_read_timeout(Some(LINE_MAX))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"hello\n")?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).context("hear from the gateway itself")?;
    Ok(stream)
}

fn echo(stream: TcpStream) -> std::io::Result<u64> {
    let mut reader = stream.try_clone()?;
    let mut writer = stream;
    std::io::copy(&mut reader, &mut writer)
}

fn talk(mut stream: TcpStream, stop: &AtomicBool, lines: &AtomicU32) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while !stop.load(Ordering::Relaxed) {
        let line = format!("line {}\n", lines.load(Ordering::Relaxed));
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        reader.read_line(&mut answer)?;
        ensure!(answer == line, "sent {line:?}, heard {answer:?}");
        lines.fetch_add(1, Ordering::Relaxed);
        // As a person types: the session must live, not fill the wire.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
