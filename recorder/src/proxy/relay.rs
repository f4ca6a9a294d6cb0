//! Bytes from end to end, both ways, until both ways have ended. What can't be written is not read: who sends waits, as for the
//! peer itself.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ends::{End, Got};
use super::telling::Telling;
use crate::observation::Direction;

/// One way through a tunnel.
#[derive(Default)]
struct Way {
    /// Read and told, not yet written.
    bytes: Vec<u8>,
    written: usize,
    /// Nothing more is read; whether that was said.
    ended: Option<bool>,
    /// The end was said on the other side.
    passed_on: bool,
    /// The other side's socket is shut down: nothing is left to do.
    done: bool,
}

impl Way {
    /// After bytes that were read, but not told before.
    fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn wants_input(&self) -> bool {
        self.is_empty() && self.ended.is_none()
    }

    /// Moves what can be moved; whether that was anything.
    fn step(
        &mut self,
        (from, to): (&mut End, &mut End),
        direction: Direction,
        telling: &mut Telling<'_>,
    ) -> io::Result<bool> {
        if self.done {
            return Ok(false);
        }
        let mut moved = false;
        if self.wants_input() {
            self.written = 0;
            match from.read(&mut self.bytes)? {
                Got::Nothing => {}
                Got::Bytes => {
                    telling.bytes(direction, &self.bytes);
                    moved = true;
                }
                Got::End { said } => {
                    telling.end(direction);
                    self.ended = Some(said);
                    moved = true;
                }
            }
        }
        if !self.is_empty() {
            let taken = to.write(&self.bytes[self.written..])?;
            self.written += taken;
            moved |= taken > 0;
        }
        to.flush()?;
        if let (Some(said), true) = (self.ended, self.is_empty()) {
            if said && !self.passed_on {
                to.say_end();
                to.flush()?;
            }
            self.passed_on = true;
            if !to.holds() {
                to.end();
                self.done = true;
                moved = true;
                if direction == Direction::Write {
                    telling.settled();
                }
            }
        }
        Ok(moved)
    }
}

/// Relays between both ends; `first` was read of the client's bytes before.
///
/// # Errors
/// Where one of the ends was cut: the other is to be, too.
pub(super) fn relay(
    client: &mut End,
    server: &mut End,
    first: Vec<u8>,
    telling: &mut Telling<'_>,
) -> io::Result<()> {
    telling.bytes(Direction::Write, &first);
    let (mut out, mut back) = (Way::after(first), Way::default());
    while !(out.done && back.done) {
        let sent = out.step((client, server), Direction::Write, telling)?;
        let received = back.step((server, client), Direction::Read, telling)?;
        if !sent && !received {
            wait((client, &out, &back), (server, &back, &out))?;
        }
    }
    Ok(())
}

/// Until one of the ends can go on. Each comes with the way that begins at it, and the one that ends there.
fn wait(client: (&End, &Way, &Way), server: (&End, &Way, &Way)) -> io::Result<()> {
    let wanted = |(end, from, to): (&End, &Way, &Way)| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, from.wants_input());
        flags.set(PollFlags::POLLOUT, !to.is_empty() || end.holds());
        flags
    };
    let mut fds = [client, server].map(|side| (side.0.as_fd(), wanted(side)));
    let mut fds = fds.each_mut().map(|(fd, flags)| PollFd::new(*fd, *flags));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    // An end of which nothing is wanted is gone all the same.
    let gone = fds.iter().any(|fd| {
        let seen = fd.revents().unwrap_or(PollFlags::empty());
        seen.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL)
            && !seen.intersects(PollFlags::POLLIN | PollFlags::POLLOUT)
    });
    if gone { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}
