//! The line between front and recorder: JSON Lines on a socket pair, whose end of file tells that the other died.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::options::{Attached, Engine, Progress, Recording};
use crate::source::ExitStatus;

/// From the recorder to the front.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromRecorder {
    /// The tree is being read.
    Progress(Progress),
    /// The trace is open, the first snapshot taken: the command may start, watched in this way.
    Ready(Engine),
    /// Why the BPF programs did not load, that should have; comes before `Ready`.
    FellBack(String),
    /// The recorder gave up. Before `Ready` nothing was started; after it, the tree is killed.
    Failed { message: String, hint: Option<String> },
    /// What runs already is attached to.
    Attached(Attached),
    /// The answer to the first question of the front that has none yet.
    WasSent(bool),
    /// The trace is closed; how the command ended, if it did.
    Closed(Box<Recording>, Option<ExitStatus>),
}

/// From the front to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromFront {
    /// Don't wait for descendants any longer; where we only attached, not for anybody.
    Close,
    /// The front was sent this signal: was the command as well?
    Signalled(i32),
}

/// One end of the line; sends `S`, receives `R`.
pub(crate) struct Link<S, R> {
    stream: UnixStream,
    unread: Vec<u8>,
    messages: PhantomData<fn(S) -> R>,
}

impl<S: Serialize, R: DeserializeOwned> Link<S, R> {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, unread: Vec::new(), messages: PhantomData }
    }

    /// Another hold on the same end, for another thread.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.stream.try_clone()?))
    }

    /// Sends one message. An error means that the other side is gone.
    pub(crate) fn send(&self, message: &S) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        (&self.stream).write_all(&line)
    }

    /// Waits for something to arrive; `None` when the other side is gone.
    pub(crate) fn receive(&mut self) -> Option<Vec<R>> {
        let mut chunk = [0; 4096];
        let read = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) | Ok(0) => return None,
                Ok(read) => break read,
            }
        };
        self.unread.extend_from_slice(&chunk[..read]);
        let whole = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.unread.split_off(whole);
        let lines = std::mem::replace(&mut self.unread, rest);
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

impl<S, R> AsRawFd for Link<S, R> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl<S, R> AsFd for Link<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
