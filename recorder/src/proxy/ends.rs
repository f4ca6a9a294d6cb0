//! One end of a tunnel: a socket, with or without TLS on it. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustls::Connection;

/// How much is read at a time: a record of TLS.
const CHUNK: usize = 16 << 10;

pub(super) struct End {
    socket: TcpStream,
    tls: Option<Connection>,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes,
    Nothing,
    /// No more comes; whether TLS said so, or the connection was cut, as an attacker could.
    End {
        said: bool,
    },
}

impl End {
    pub(super) fn new(socket: TcpStream, tls: Option<Connection>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls })
    }

    /// Takes what is there into `bytes`, which is emptied before.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<Got> {
        bytes.resize(CHUNK, 0);
        let got = match &mut self.tls {
            None => self.socket.read(bytes),
            Some(tls) => decrypt(tls, &mut self.socket, bytes),
        };
        bytes.truncate(got.as_ref().map_or(0, |got| *got));
        match got {
            Ok(0) => Ok(Got::End { said: true }),
            Ok(_) => Ok(Got::Bytes),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Got::Nothing),
                ErrorKind::UnexpectedEof => Ok(Got::End { said: false }),
                _ => Err(error),
            },
        }
    }

    /// Takes as much of `bytes` as there is room for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => or_nothing(self.socket.write(bytes)),
            Some(tls) => {
                let taken = tls.writer().write(bytes)?;
                self.flush()?;
                Ok(taken)
            }
        }
    }

    /// Hands the kernel what it takes of what was encrypted.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && or_nothing(tls.write_tls(&mut self.socket))? > 0 {}
        }
        Ok(())
    }

    /// Whether something waits for [`flush`](Self::flush).
    pub(super) fn holds(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Says that no more comes, as far as TLS says that.
    pub(super) fn say_end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// No more comes.
    pub(super) fn end(&self) {
        // A peer that is gone knows.
        self.socket.shutdown(Shutdown::Write).unwrap_or_default();
    }

    /// Has its peer see that the connection was cut.
    pub(super) fn reset(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        let linger = nix::sys::socket::sockopt::Linger;
        // Else it only ends.
        nix::sys::socket::setsockopt(&self.socket, linger, &at_once).unwrap_or_default();
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn decrypt(tls: &mut Connection, socket: &mut TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
        let read = tls.read_tls(socket)?;
        if let Err(error) = tls.process_new_packets() {
            // The peer is told what is wrong.
            tls.write_tls(socket).unwrap_or_default();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        if read == 0 {
            return match tls.reader().read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Err(ErrorKind::UnexpectedEof.into())
                }
                done => done,
            };
        }
    }
}

fn or_nothing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        result => result,
    }
}
