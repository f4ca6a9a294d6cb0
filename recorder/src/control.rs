//! The client's side of the local socket, for the commands that talk to a session from another terminal.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How long an answer may take that needs no work.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a session that is being recorded.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
    path: PathBuf,
    requests: u64,
}

/// How a session goes.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// Session id.
    pub session: String,
    /// Name given with `--name`.
    pub name: Option<String>,
    /// The trace.
    pub trace: PathBuf,
    /// Process id of the command, once it was started.
    pub pid: Option<u32>,
    /// Whether events are still written; not so on a full disk.
    pub recording: bool,
    /// Nanoseconds since the start.
    pub duration: u64,
    /// Events so far.
    pub events: u64,
    /// Processes that are alive.
    pub processes: u32,
    /// Snapshots so far.
    pub snapshots: u32,
    /// Events that were lost, as far as they could be counted.
    pub lost: u64,
    /// Whether the asking process belongs to the recorded tree.
    pub inside: bool,
}

/// A copy of a trace that is still being written.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Export {
    /// The copy.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Events in it.
    pub events: u64,
}

/// A trace whose recording was ended.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Stopped {
    /// The trace.
    pub trace: PathBuf,
    /// Its seal in hexadecimal.
    pub seal: Option<String>,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where nobody listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let unreachable = |source| Error::Unreachable { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(unreachable)?;
        Ok(Self { lines: BufReader::new(stream), path: path.to_owned(), requests: 0 })
    }

    /// Takes a snapshot; returns its number when the files are saved, however long that takes.
    ///
    /// # Errors
    /// [`Error::Refused`] where it could not be taken.
    pub fn snapshot(&mut self, description: &str) -> Result<u32> {
        #[derive(Deserialize)]
        struct Taken {
            snapshot: u32,
        }
        let request = json!({"type": "snapshot", "description": description, "trigger": "command"});
        self.request::<Taken>(request, None).map(|taken| taken.snapshot)
    }

    /// How the session goes.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where no answer comes.
    pub fn status(&mut self) -> Result<Status> {
        self.request(json!({"type": "status"}), Some(TIMEOUT))
    }

    /// Copies the trace so far to the new file `path`, an absolute path.
    ///
    /// # Errors
    /// [`Error::Refused`] where the file can't be written, or exists.
    pub fn export(&mut self, path: &Path) -> Result<Export> {
        // A JSON line is text.
        let Some(text) = path.to_str() else {
            return Err(Error::Refused(format!("{} is not UTF-8", path.display())));
        };
        self.request(json!({"type": "export", "path": text}), None)
    }

    /// Ends the recording and leaves the command running; returns when the trace is sealed.
    ///
    /// # Errors
    /// [`Error::Refused`] where the trace could not be sealed.
    pub fn stop(&mut self) -> Result<Stopped> {
        self.request(json!({"type": "stop"}), None)
    }

    fn request<T: DeserializeOwned>(
        &mut self,
        mut request: Value,
        timeout: Option<Duration>,
    ) -> Result<T> {
        self.requests += 1;
        request["req"] = self.requests.into();
        let reply = self
            .exchange(&request, timeout)
            .map_err(|source| Error::Unreachable { path: self.path.clone(), source })?;
        if reply["ok"] == true {
            return serde_json::from_value(reply).map_err(|e| Error::Refused(e.to_string()));
        }
        let error = reply["error"].as_str().unwrap_or("the recorder gave no reason");
        Err(Error::Refused(error.to_owned()))
    }

    fn exchange(&mut self, request: &Value, timeout: Option<Duration>) -> std::io::Result<Value> {
        let stream = self.lines.get_mut();
        stream.set_read_timeout(timeout)?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let reply: Value = serde_json::from_str(&line)?;
            if reply["req"] == self.requests {
                return Ok(reply);
            }
        }
    }
}
