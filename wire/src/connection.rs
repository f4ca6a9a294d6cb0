//! One connection: bytes of either direction in, items out.

use crate::classify::{Decision, Detect, Join, Protocol};
use crate::held::{Held, Input};
use crate::http1::{Http1, Next, Switch};
use crate::http2::Http2;
use crate::item::{Context, Direction, Incomplete, Item, Numbers, Part, Role, Scheme, Sink};
use crate::websocket::WebSocket;

/// What is known of a connection beforehand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the process is on it; unknown on one that existed before. Its first bytes tell then.
    pub role: Option<Role>,
    /// Whether the bytes were encrypted on their way.
    pub scheme: Scheme,
    /// The host of URLs where a request names none, such as `127.0.0.1:8080`.
    pub authority: Option<String>,
    /// The beginning was not seen. What comes before the first message is dropped then.
    pub joined: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process closed it.
    Closed,
    /// It was reset.
    Reset,
    /// It goes on, but nobody looks at it any more.
    Unwatched,
}

/// Turns the bytes of one connection into items. `out` is called in order, at once, during the calls.
pub struct Connection {
    options: Options,
    numbers: Numbers,
    state: State,
    /// Bytes that went so far, by [`Direction`].
    offsets: [u64; 2],
    /// Directions that ended, and what cut them.
    ended: [Option<Option<Incomplete>>; 2],
}

enum State {
    /// Nothing is known yet.
    Detecting(Detect),
    /// Nothing is known yet of a connection that was joined in the middle.
    Joining(Box<Join>),
    Http1(Role, Box<Http1>),
    Http2(Role, Box<Http2>),
    WebSocket(Role, Box<WebSocket>),
    /// The bytes are not looked at.
    Ignored,
}

impl Connection {
    /// One of which no byte was seen yet.
    pub fn new(options: Options) -> Self {
        let state = if options.joined {
            State::Joining(Box::new(Join::new()))
        } else {
            State::Detecting(Detect::default())
        };
        Self { options, numbers: Numbers::default(), state, offsets: [0; 2], ended: [None; 2] }
    }

    /// Whether bytes still tell something. Where not, they need not be copied, now or later.
    pub fn wants_bytes(&self) -> bool {
        !matches!(self.state, State::Ignored)
    }

    /// What the process is, if that is clear.
    pub fn role(&self) -> Option<Role> {
        match self.state {
            State::Http1(role, _) | State::Http2(role, _) | State::WebSocket(role, _) => Some(role),
            _ => self.options.role,
        }
    }

    /// Bytes went over the connection, in one piece of any size, at `at` nanoseconds.
    pub fn feed(
        &mut self,
        direction: Direction,
        at: u64,
        bytes: &[u8],
        out: &mut dyn FnMut(Item<'_>),
    ) {
        let offset = self.offsets[direction.index()];
        self.offsets[direction.index()] += bytes.len() as u64;
        if !bytes.is_empty() && self.ended[direction.index()].is_none() {
            self.input(direction, Input { at, offset, bytes }, out);
        }
    }

    fn input(&mut self, direction: Direction, input: Input<'_>, out: &mut Sink<'_>) {
        let at = input.at;
        let role = self.options.role;
        match &mut self.state {
            State::Detecting(detect) => {
                if let Some(decision) = detect.feed(direction, input, role) {
                    self.decided(at, decision, false, out);
                }
            }
            State::Joining(join) => {
                if let Some(decision) = join.feed(direction, input, role) {
                    self.decided(at, decision, true, out);
                }
            }
            State::Http1(role, http) => {
                let role = *role;
                let mut cx = Context { numbers: &mut self.numbers, out };
                if let Some(switch) = http.feed(role.part(direction), input, &mut cx) {
                    self.switch(at, role, switch, out);
                }
            }
            State::Http2(role, http) => {
                let mut cx = Context { numbers: &mut self.numbers, out };
                http.feed(role.part(direction), input, &mut cx);
            }
            State::WebSocket(role, socket) => {
                socket.feed(*role, role.part(direction), input, out);
            }
            State::Ignored => {}
        }
    }

    /// It is clear what the connection carries.
    fn decided(&mut self, at: u64, decision: Decision, joined: bool, out: &mut Sink<'_>) {
        let Decision { protocol, role, held, recognised } = decision;
        let scheme = self.options.scheme;
        let authority = self.options.authority.clone().map(String::into_bytes);
        self.state = match protocol {
            Protocol::Http1 if joined => {
                State::Http1(role, Box::new(Http1::joined(role, scheme, authority)))
            }
            Protocol::Http1 => State::Http1(role, Box::new(Http1::new(role, scheme, authority))),
            Protocol::Http2 if joined && !held[recognised.index()].bytes().starts_with(b"PRI") => {
                let part = role.part(recognised);
                State::Http2(role, Box::new(Http2::joined(role, scheme, authority, part)))
            }
            Protocol::Http2 => State::Http2(role, Box::new(Http2::new(role, scheme, authority))),
            _ => State::Ignored,
        };
        out(Item::Protocol { at, protocol });
        // A client's bytes first: what a server sent before them answers them.
        let client = role.direction(Part::Request);
        for direction in [client, client.other()] {
            self.replay(direction, &held[direction.index()], out);
        }
        for direction in [client, client.other()] {
            if let Some(cut) = self.ended[direction.index()] {
                self.finish(direction, at, cut, out);
            }
        }
    }

    fn replay(&mut self, direction: Direction, held: &Held, out: &mut Sink<'_>) {
        for piece in held.pieces() {
            self.input(direction, piece, out);
        }
    }

    /// The connection goes over to something else.
    fn switch(&mut self, at: u64, role: Role, switch: Switch, out: &mut Sink<'_>) {
        let Switch { to, held } = switch;
        let scheme = self.options.scheme;
        let authority = self.options.authority.clone().map(String::into_bytes);
        self.state = match to {
            Next::Tunnel => {
                self.options.role = Some(role);
                // Inside a tunnel somebody else is spoken to.
                self.options.authority = None;
                State::Detecting(Detect::default())
            }
            Next::WebSocket(exchange, fields) => {
                out(Item::Protocol { at, protocol: Protocol::WebSocket });
                State::WebSocket(role, Box::new(WebSocket::new(exchange, &fields)))
            }
            Next::Http2(exchange) => {
                out(Item::Protocol { at, protocol: Protocol::Http2 });
                let http = Http2::new(role, scheme, authority).upgraded(exchange);
                State::Http2(role, Box::new(http))
            }
        };
        for part in [Part::Request, Part::Response] {
            self.replay(role.direction(part), &held[part.index()], out);
        }
    }

    /// So many bytes went that way and were not captured.
    pub fn missing(
        &mut self,
        direction: Direction,
        at: u64,
        count: u64,
        out: &mut dyn FnMut(Item<'_>),
    ) {
        let offset = self.offsets[direction.index()];
        self.offsets[direction.index()] += count;
        let place = (at, offset);
        let mut cx = Context { numbers: &mut self.numbers, out };
        match &mut self.state {
            State::Http1(role, http) => http.missing(role.part(direction), place, count, &mut cx),
            State::Http2(role, http) => http.missing(role.part(direction), place, count, &mut cx),
            State::WebSocket(role, socket) => {
                socket.missing(*role, role.part(direction), place, count, cx.out);
            }
            State::Joining(join) => join.missing(direction),
            // What comes next is as good as the middle of a connection.
            State::Detecting(_) => self.state = State::Joining(Box::new(Join::new())),
            State::Ignored => {}
        }
    }

    /// A direction ended in order: shutdown(2) for writing, or a read that returned 0.
    pub fn eof(&mut self, direction: Direction, at: u64, out: &mut dyn FnMut(Item<'_>)) {
        self.end(direction, at, None, out);
    }

    /// The connection is over. Without an [`eof`](Self::eof) of what it received, that was cut.
    pub fn close(&mut self, at: u64, ending: Ending, out: &mut dyn FnMut(Item<'_>)) {
        let (sent, received) = match ending {
            Ending::Closed => (None, Incomplete::Closed),
            Ending::Reset => (Some(Incomplete::Reset), Incomplete::Reset),
            Ending::Unwatched => (Some(Incomplete::Unwatched), Incomplete::Unwatched),
        };
        self.end(Direction::Sent, at, sent, out);
        self.end(Direction::Received, at, Some(received), out);
        self.state = State::Ignored;
    }

    fn end(&mut self, direction: Direction, at: u64, cut: Option<Incomplete>, out: &mut Sink<'_>) {
        if self.ended[direction.index()].is_some() {
            return;
        }
        self.ended[direction.index()] = Some(cut);
        let State::Detecting(detect) = &mut self.state else {
            return self.finish(direction, at, cut, out);
        };
        // As long as one direction goes on, that may tell.
        if self.ended.iter().all(Option::is_some)
            && let Some(decision) = detect.end(self.options.role)
        {
            self.decided(at, decision, false, out);
        }
    }

    /// Tells the protocol's parser of an end.
    fn finish(
        &mut self,
        direction: Direction,
        at: u64,
        cut: Option<Incomplete>,
        out: &mut Sink<'_>,
    ) {
        let offset = self.offsets[direction.index()];
        let mut cx = Context { numbers: &mut self.numbers, out };
        match &mut self.state {
            State::Http1(role, http) => {
                let role = *role;
                let part = role.part(direction);
                if let Some(switch) = http.end(part, (at, offset), cut, &mut cx) {
                    self.switch(at, role, switch, out);
                }
            }
            State::Http2(role, http) => http.end(role.part(direction), at, cut, &mut cx),
            State::WebSocket(role, socket) => socket.end(role.part(direction), at, cut, cx.out),
            _ => {}
        }
    }
}
