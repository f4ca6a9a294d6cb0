//! Where the command's process waits between fork and exec until the recorder is its tracer.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::unistd::{Pid, getpid};

use crate::error::{Error, Result};

/// The child's side.
pub(crate) struct ChildGate(UnixStream);

/// The recorder's side. Dropping it turns the child away: it ends without exec.
pub(crate) struct RecorderGate(UnixStream);

/// The two sides.
pub(crate) fn pair() -> Result<(ChildGate, RecorderGate)> {
    let (child, recorder) = UnixStream::pair().map_err(|e| Error::io("make a socket pair", e))?;
    Ok((ChildGate(child), RecorderGate(recorder)))
}

impl ChildGate {
    /// Says who is here and waits for the recorder.
    ///
    /// # Errors
    /// `ECANCELED` where the recorder is gone or does not want us.
    pub(crate) fn pass(&self) -> std::result::Result<(), Errno> {
        let closed = |_| Errno::ECANCELED;
        (&self.0).write_all(&getpid().as_raw().to_ne_bytes()).map_err(closed)?;
        (&self.0).read_exact(&mut [0]).map_err(closed)
    }
}

impl RecorderGate {
    /// Waits for the child; `None` where it ended before it came here.
    pub(crate) fn wait(&self) -> Option<Pid> {
        let mut pid = [0; size_of::<i32>()];
        (&self.0).read_exact(&mut pid).ok()?;
        Some(Pid::from_raw(i32::from_ne_bytes(pid)))
    }

    /// The descriptor.
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Lets the child go on to its exec.
    pub(crate) fn open(self) {
        // A child that was killed meanwhile is reported by the tracer.
        (&self.0).write_all(&[1]).ok();
    }
}
