//! What is told of a tunnel.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use agentrec_trace::event::Address;
use agentrec_wire::Role;

use super::Shared;
use crate::observation::Direction;
use crate::session::boottime;
use crate::source::{Began, Opaque, Report, Stream, StreamId, Streamed, Unwanted};

/// Tells the session, in the order in which it happens: bytes before they are passed on, so that no answer is told before what was
/// asked.
pub(super) struct Telling<'s> {
    shared: &'s Shared,
    id: StreamId,
    unwanted: Unwanted,
    sent: u64,
    received: u64,
    settled: bool,
}

impl<'s> Telling<'s> {
    pub(super) fn new(shared: &'s Shared, number: u32, unwanted: Unwanted) -> Self {
        shared.unsettled.fetch_add(1, Ordering::AcqRel);
        let id = StreamId::Proxy(number);
        Self { shared, id, unwanted, sent: 0, received: 0, settled: false }
    }

    /// Nobody else told of it.
    pub(super) fn began(&self, destination: SocketAddr, unwanted: Unwanted) {
        let began = Began {
            role: Some(Role::Client),
            peer: address(destination),
            through: None,
            joined: false,
            unwanted,
        };
        self.tell(Stream::Began(Box::new(began)));
    }

    pub(super) fn bytes(&mut self, direction: Direction, data: &[u8]) {
        match direction {
            Direction::Write => self.sent += data.len() as u64,
            Direction::Read => self.received += data.len() as u64,
        }
        if !self.unwanted.is_set() && !data.is_empty() {
            self.tell(Stream::Bytes { direction, data: data.to_vec() });
        }
    }

    pub(super) fn end(&self, direction: Direction) {
        self.tell(Stream::End { direction });
    }

    /// What follows was encrypted on its way.
    pub(super) fn decrypted(&self) {
        self.tell(Stream::Decrypted);
    }

    /// It can't be read, for this reason.
    pub(super) fn opaque(&self, why: Opaque) {
        self.tell(Stream::Opaque(why));
    }

    /// All that was written is on its way, or can't be.
    pub(super) fn settled(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.shared.unsettled.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// It is gone; whether it was cut.
    pub(super) fn over(self, reset: bool) {
        let Self { sent, received, .. } = self;
        self.tell(Stream::Sum { sent, received });
        self.tell(Stream::Over { reset });
    }

    fn tell(&self, what: Stream) {
        let (id, ts) = (self.id, boottime());
        (self.shared.report)(Report::Stream(Streamed { id, ts, proc: None, tid: None, what }));
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.settled();
    }
}

fn address(of: SocketAddr) -> Address<'static> {
    let family = if of.is_ipv4() { "inet" } else { "inet6" };
    let host = of.ip().to_string().into();
    Address { family: family.into(), host, port: of.port(), ..Address::default() }
}
