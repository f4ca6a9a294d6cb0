//! One connection: bytes to lines with their senders, and replies that never wait.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, send, setsockopt, sockopt,
};

use super::{Incoming, Line, Refusal};

/// Longest line, bytes.
const MAX_LINE: usize = 16 << 20;

/// Bytes that are read from one connection before the next one has its turn.
const TURN: usize = 1 << 20;

/// The write side, shared with whoever owes a reply.
#[derive(Debug)]
pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Sends one line if the peer has room for it: who does not read is not waited for.
    pub(crate) fn reply(&self, reply: &serde_json::Value) {
        let mut line = reply.to_string().into_bytes();
        line.push(b'\n');
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.0.as_raw_fd(), &line, flags) {
            // Half a line would spoil all that follow.
            Ok(sent) if sent < line.len() => {
                self.0.shutdown(std::net::Shutdown::Both).ok();
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn too_long() -> Refusal {
    "it is longer than 16 MiB".to_owned().into()
}

/// The read side.
pub(super) struct Reader {
    connection: Arc<Connection>,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// The line is too long; its rest is skipped.
    skipping: bool,
    /// Who sent the last bytes.
    sender: u32,
    lines: u64,
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn new(stream: UnixStream, peer: u32) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        // A connection may be inherited by another process, so each message is asked for its sender.
        setsockopt(&stream, sockopt::PassCred, &true)?;
        Ok(Self {
            connection: Arc::new(Connection(stream)),
            partial: Vec::new(),
            skipping: false,
            sender: peer,
            lines: 0,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Hands on the lines that have arrived; returns whether more may come.
    pub(super) fn read(&mut self, mut hand_on: impl FnMut(Incoming) -> bool) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut turn = 0;
        let open = loop {
            let received = self.receive(&mut buffer);
            match received {
                Ok(0) => {
                    // A last line without its end: `printf` in a shell.
                    let rest = std::mem::take(&mut self.partial);
                    if !self.skipping && !rest.is_empty() {
                        self.line(&rest, &mut hand_on);
                    }
                    break false;
                }
                Ok(len) => {
                    if !self.take(&buffer[..len], &mut hand_on) {
                        break false;
                    }
                    turn += len;
                    if turn >= TURN {
                        break true;
                    }
                }
                Err(Errno::EAGAIN) => break true,
                Err(Errno::EINTR) => {}
                Err(_) => break false,
            }
        };
        self.buffer = buffer;
        open
    }

    /// One recvmsg(2). The kernel does not merge what different processes sent.
    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize> {
        let mut iov = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.connection.0.as_raw_fd();
        let message = recvmsg::<UnixAddr>(fd, &mut iov, Some(&mut control), flags)?;
        for control in message.cmsgs()? {
            // The pid is 0 where the sender's has no number in our pid namespace.
            if let ControlMessageOwned::ScmCredentials(credentials) = control
                && credentials.pid() > 0
            {
                self.sender = credentials.pid() as u32;
            }
        }
        Ok(message.bytes)
    }

    fn take(&mut self, mut bytes: &[u8], hand_on: &mut impl FnMut(Incoming) -> bool) -> bool {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let mut whole = std::mem::take(&mut self.partial);
            let line = if whole.is_empty() {
                line
            } else {
                whole.extend_from_slice(line);
                &whole
            };
            if !line.trim_ascii().is_empty() && !self.line(line, hand_on) {
                return false;
            }
        }
        if !self.skipping {
            self.partial.extend_from_slice(bytes);
            if self.partial.len() > MAX_LINE {
                self.partial = Vec::new();
                self.skipping = true;
                return self.incoming(Err(too_long()), hand_on);
            }
        }
        true
    }

    fn line(&mut self, line: &[u8], hand_on: &mut impl FnMut(Incoming) -> bool) -> bool {
        let line = if line.len() > MAX_LINE { Err(too_long()) } else { Line::parse(line) };
        self.incoming(line, hand_on)
    }

    fn incoming(
        &mut self,
        line: Result<Line, Refusal>,
        hand_on: &mut impl FnMut(Incoming) -> bool,
    ) -> bool {
        self.lines += 1;
        let connection = Arc::clone(&self.connection);
        hand_on(Incoming { sender: self.sender, number: self.lines, line, connection })
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.0.as_fd()
    }
}
