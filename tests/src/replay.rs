//! Sends recorded answers again, byte for byte, chunk for chunk.

use anyhow::{Context as _, Result, ensure};
use core::net::{Ipv4Addr, SocketAddr};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A list, or a page of one.
    List,
    /// A watch from a version on.
    Watch,
    /// A watch that begins with a list.
    Streaming,
}

impl Asked {
    fn of(path: &str) -> Self {
        match (path.contains("watch=true"), path.contains("sendInitialEvents=true")) {
            (true, true) => Self::Streaming,
            (true, false) => Self::Watch,
            (false, _) => Self::List,
        }
    }
}

/// A recorded answer.
#[derive(Debug, Clone)]
pub struct Answer {
    head: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    is_chunked: bool,
}

impl Answer {
    /// The recording `name`, as `services.list` or `errors/429.list`.
    ///
    /// # Errors
    /// There is none, or its chunks do not fit its body.
    pub fn recorded(name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        let read = |path: PathBuf| fs::read(&path).with_context(|| format!("{}", path.display()));
        let head = read(file("headers"))?;
        let body = ["jsonl", "json", "txt"].map(file).into_iter().find(|path| path.is_file());
        let body = read(body.with_context(|| format!("a body of {name}"))?)?;
        let is_chunked = String::from_utf8_lossy(&head).contains("Transfer-Encoding: chunked");
        let chunks = match fs::read_to_string(file("chunks")) {
            Ok(text) => split(&body, &text).with_context(|| format!("the chunks of {name}"))?,
            Err(_none) => vec![body],
        };
        Ok(Self { head, chunks, is_chunked })
    }

    async fn send(&self, stream: &mut TcpStream) -> Result<()> {
        stream.write_all(&self.head).await?;
        for chunk in &self.chunks {
            if !self.is_chunked {
                stream.write_all(chunk).await?;
                continue;
            }
            let mut framed = format!("{:x}\r\n", chunk.len()).into_bytes();
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
            stream.write_all(&framed).await?;
        }
        if self.is_chunked {
            stream.write_all(b"0\r\n\r\n").await?;
        }
        Ok(())
    }
}

/// The body in pieces of the sizes that `text` tells: `MILLISECONDS SIZE` per line.
fn split(body: &[u8], text: &str) -> Result<Vec<Vec<u8>>> {
    let mut rest = body;
    let mut chunks = Vec::new();
    for line in text.lines() {
        let size: usize = line.split(' ').nth(1).context("a size")?.parse()?;
        let (chunk, tail) = rest.split_at_checked(size).context("a body as long as its chunks")?;
        chunks.push(chunk.to_vec());
        rest = tail;
    }
    ensure!(rest.is_empty(), "{} bytes more than chunks", rest.len());
    Ok(chunks)
}

/// A kind's plural, what is asked of it, and the answer.
#[derive(Debug)]
struct Line {
    plural: &'static str,
    asked: Asked,
    answer: Answer,
}

#[derive(Debug, Default)]
struct Script {
    lines: VecDeque<Line>,
}

/// Answers each request with the first line of its script that fits, once. Requests that none fits
/// are left without an answer, as a silent server leaves them.
#[derive(Debug)]
pub struct Replay {
    address: SocketAddr,
    script: Arc<RwLock<Script>>,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Replay {
    /// Listens on the loopback. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// No socket, or no temporary folder.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let script = Arc::new(RwLock::new(Script::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&script)));
        Ok(Self { address, script, folder: tempfile::tempdir()?, task })
    }

    /// Adds a line to the script: the recording `name` answers one request.
    ///
    /// # Errors
    /// See [`Answer::recorded`].
    pub fn answer(&self, plural: &'static str, asked: Asked, name: &str) -> Result<&Self> {
        let line = Line { plural, asked, answer: Answer::recorded(name)? };
        let mut script = self.script.write().unwrap_or_else(PoisonError::into_inner);
        script.lines.push_back(line);
        Ok(self)
    }

    /// Lines that no request met yet.
    pub fn remaining(&self) -> usize {
        self.script.read().unwrap_or_else(PoisonError::into_inner).lines.len()
    }

    /// A kubeconfig for it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  \
             cluster: {{server: 'http://{}'}}\nusers:\n- name: test\n  user: {{}}\ncontexts:\n\
             - name: test\n  context: {{cluster: test, user: test}}\n",
            self.address
        );
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, script: Arc<RwLock<Script>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        // A client that goes away ends its connection.
        tokio::spawn(async move { serve(stream, &script).await.ok() });
    }
}

async fn serve(mut stream: TcpStream, script: &RwLock<Script>) -> Result<()> {
    while let Some(path) = request(&mut stream).await? {
        let found = find(script, &path);
        match found {
            Some(answer) => answer.send(&mut stream).await?,
            None => std::future::pending().await,
        }
    }
    Ok(())
}

/// Reads a request without a body and returns its path; `None`: the client went.
async fn request(stream: &mut TcpStream) -> Result<Option<String>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next_line().await? else { return Ok(None) };
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    Ok(first.split(' ').nth(1).map(str::to_owned))
}

fn find(script: &RwLock<Script>, path: &str) -> Option<Answer> {
    let asked = Asked::of(path);
    let mut script = script.write().unwrap_or_else(PoisonError::into_inner);
    let is_of = |plural: &str| path.contains(&format!("/{plural}?"));
    let fits = |line: &Line| line.asked == asked && is_of(line.plural);
    let place = script.lines.iter().position(fits)?;
    script.lines.remove(place).map(|line| line.answer)
}
