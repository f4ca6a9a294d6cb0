//! What a connection carries, by its first bytes.

use crate::held::{Held, Input};
use crate::http1::head::check_start;
use crate::http1::search::Search;
use crate::http2::{self, PREFACE, as_frames};
use crate::item::{Direction, Part, Role};
use crate::limits::{MAX_HELD, MAX_JOIN};
use crate::tls_hello::{self, ClientHello, Hello};

/// What a connection carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// WebSocket.
    WebSocket,
    /// TLS, with what its first message says where that was seen. No more bytes are wanted.
    Tls(Option<ClientHello>),
    /// None of these. No more bytes are wanted.
    Other,
}

/// What was decided.
pub(crate) struct Decision {
    pub(crate) protocol: Protocol,
    pub(crate) role: Role,
    /// What came so far and is to be taken by the protocol's parser, by [`Direction`].
    pub(crate) held: [Held; 2],
    /// HTTP/2 that was joined: the direction whose frames were recognised.
    pub(crate) recognised: Direction,
}

/// What the bytes of one direction look like.
enum Guess {
    /// Too little to tell.
    Unclear,
    /// They come from a client that speaks this.
    Client(Protocol),
    /// What a server may send before its client's first bytes are seen.
    Server,
    /// Nothing that is known here.
    Other,
}

/// Looks at the beginning of a connection.
#[derive(Default)]
pub(crate) struct Detect {
    held: [Held; 2],
}

impl Detect {
    /// Takes bytes until it is clear what they are.
    pub(crate) fn feed(
        &mut self,
        direction: Direction,
        input: Input<'_>,
        role: Option<Role>,
    ) -> Option<Decision> {
        self.held[direction.index()].push(input);
        let bytes = self.held[direction.index()].bytes();
        let guess = match role.map(|role| role.part(direction)) {
            Some(Part::Request) => guess_client(bytes),
            Some(Part::Response) => guess_server(bytes),
            None => match guess_client(bytes) {
                Guess::Other => guess_server(bytes),
                guess => guess,
            },
        };
        let protocol = match guess {
            Guess::Client(protocol) => protocol,
            Guess::Other => Protocol::Other,
            _ if bytes.len() > MAX_HELD => Protocol::Other,
            Guess::Unclear | Guess::Server => return None,
        };
        let client = if direction == Direction::Sent { Role::Client } else { Role::Server };
        Some(self.decide(protocol, role.unwrap_or(client), direction))
    }

    fn decide(&mut self, protocol: Protocol, role: Role, recognised: Direction) -> Decision {
        let held = std::mem::take(&mut self.held);
        Decision { protocol, role, held, recognised }
    }

    /// No more comes: what was undecided is decided. Nothing where nothing came.
    pub(crate) fn end(&mut self, role: Option<Role>) -> Option<Decision> {
        let direction = [Direction::Sent, Direction::Received]
            .into_iter()
            .find(|direction| self.held[direction.index()].len() > 0)?;
        let bytes = self.held[direction.index()].bytes();
        let is_response = matches!(check_start(Part::Response, bytes), Ok(true));
        let server = if direction == Direction::Sent { Role::Server } else { Role::Client };
        let role = role.unwrap_or(server);
        let is_server = role.part(direction) == Part::Response;
        let protocol = if is_response && is_server { Protocol::Http1 } else { Protocol::Other };
        Some(self.decide(protocol, role, direction))
    }
}

/// What a client says first.
fn guess_client(bytes: &[u8]) -> Guess {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        let is_whole = common == PREFACE.len();
        return if is_whole { Guess::Client(Protocol::Http2) } else { Guess::Unclear };
    }
    match tls_hello::look(bytes) {
        Hello::Tls(hello) => return Guess::Client(Protocol::Tls(hello)),
        Hello::Unfinished => return Guess::Unclear,
        Hello::No => {}
    }
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    match check_start(Part::Request, &bytes[blank..]) {
        Ok(true) if blank < bytes.len() => Guess::Client(Protocol::Http1),
        Ok(_) if blank <= 64 => Guess::Unclear,
        _ => Guess::Other,
    }
}

/// What a server may say before its client: a response whose request is seen late, or HTTP/2's SETTINGS.
fn guess_server(bytes: &[u8]) -> Guess {
    // Its header, but for the length's last byte (RFC 9113, 4.1).
    const SETTINGS: [Option<u8>; 9] =
        [Some(0), Some(0), None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let fits = |(byte, expected): (&u8, &Option<u8>)| expected.is_none_or(|e| e == *byte);
    let is_settings = bytes.iter().zip(&SETTINGS).all(fits);
    let is_response = check_start(Part::Response, bytes).is_ok();
    if is_settings || is_response { Guess::Server } else { Guess::Other }
}

/// Looks for something known in a connection that was joined in the middle. What is before it is dropped.
pub(crate) struct Join {
    /// By [`Direction`], requests and responses.
    searches: [[Search; 2]; 2],
    seen: u64,
}

impl Join {
    pub(crate) fn new() -> Self {
        let both = || [Search::new(Part::Request), Search::new(Part::Response)];
        Self { searches: [both(), both()], seen: 0 }
    }

    pub(crate) fn feed(
        &mut self,
        direction: Direction,
        input: Input<'_>,
        role: Option<Role>,
    ) -> Option<Decision> {
        let is_first = self.seen == 0;
        let mut decision = Decision {
            protocol: Protocol::Other,
            role: role.unwrap_or(Role::Client),
            held: [Held::default(), Held::default()],
            recognised: direction,
        };
        self.seen += input.bytes.len() as u64;
        if input.bytes.starts_with(PREFACE) {
            decision.protocol = Protocol::Http2;
            decision.role = role.unwrap_or(client_sends(direction));
            decision.held[direction.index()].push(input);
            return Some(decision);
        }
        if let Hello::Tls(Some(hello)) = tls_hello::look(input.bytes) {
            decision.protocol = Protocol::Tls(Some(hello));
            return Some(decision);
        }
        if is_first && tls_hello::is_record(input.bytes) {
            decision.protocol = Protocol::Tls(None);
            return Some(decision);
        }
        for part in [Part::Request, Part::Response] {
            let as_role = match part {
                Part::Request => client_sends(direction),
                Part::Response => client_sends(direction.other()),
            };
            if role.is_some_and(|role| role != as_role) {
                continue;
            }
            if let Some(found) = self.searches[direction.index()][part.index()].push(input) {
                decision.protocol = Protocol::Http1;
                decision.role = as_role;
                let (first, rest) = found.bytes.split_at(1);
                let (at, offset) = (found.first_byte, found.offset);
                let held = &mut decision.held[direction.index()];
                held.push(Input { at, offset, bytes: first });
                held.push(Input { bytes: rest, offset: offset + 1, ..input });
                return Some(decision);
            }
        }
        if let Some(head) = as_frames(input.bytes) {
            let told = head.and_then(|block| http2::part_of(&block));
            let told = told.map(|part| match part {
                Part::Request => client_sends(direction),
                Part::Response => client_sends(direction.other()),
            });
            // One frame may be chance; with a head that can be read it is not.
            if let Some(role) = told.or(role.filter(|_| is_several(input.bytes))) {
                decision.protocol = Protocol::Http2;
                decision.role = role;
                decision.held[direction.index()].push(input);
                return Some(decision);
            }
        }
        (self.seen > MAX_JOIN).then_some(decision)
    }

    /// Bytes were not captured.
    pub(crate) fn missing(&mut self, direction: Direction) {
        self.searches[direction.index()].iter_mut().for_each(Search::forget);
    }
}

/// The role of a process for which the client's bytes go that way.
fn client_sends(direction: Direction) -> Role {
    match direction {
        Direction::Sent => Role::Client,
        Direction::Received => Role::Server,
    }
}

/// Whether whole frames are more than one.
fn is_several(frames: &[u8]) -> bool {
    let [a, b, c, ..] = *frames else { return false };
    frames.len() > 9 + u32::from_be_bytes([0, a, b, c]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Received, Sent};

    /// The protocol and role, and after how many pieces that was clear.
    fn detect(
        pieces: &[(Direction, &[u8])],
        role: Option<Role>,
    ) -> Option<(Protocol, Role, usize)> {
        let mut detect = Detect::default();
        for (count, (direction, bytes)) in pieces.iter().enumerate() {
            let input = Input { at: 0, offset: 0, bytes };
            if let Some(decision) = detect.feed(*direction, input, role) {
                return Some((decision.protocol, decision.role, count + 1));
            }
        }
        None
    }

    fn join(pieces: &[(Direction, &[u8])], role: Option<Role>) -> Option<(Protocol, Role, usize)> {
        let mut join = Join::new();
        for (count, (direction, bytes)) in pieces.iter().enumerate() {
            let input = Input { at: 0, offset: 0, bytes };
            if let Some(decision) = join.feed(*direction, input, role) {
                return Some((decision.protocol, decision.role, count + 1));
            }
        }
        None
    }

    #[test]
    fn first_bytes_tell_protocol_and_role() {
        let get: &[u8] = b"GET / HTTP/1.1\r\n";
        assert_eq!(detect(&[(Sent, get)], None), Some((Protocol::Http1, Role::Client, 1)));
        assert_eq!(detect(&[(Received, get)], None), Some((Protocol::Http1, Role::Server, 1)));
        let halves = [(Sent, &get[..9]), (Sent, &get[9..])];
        assert_eq!(detect(&halves, None), Some((Protocol::Http1, Role::Client, 2)));
        let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        let late = [(Received, settings), (Sent, PREFACE)];
        for role in [None, Some(Role::Client)] {
            assert_eq!(detect(&late, role), Some((Protocol::Http2, Role::Client, 2)));
        }
        let late = [(Received, &b"HTTP/1.1 200 OK\r\n"[..]), (Sent, get)];
        assert_eq!(detect(&late, None), Some((Protocol::Http1, Role::Client, 2)));
        let hello = tls_hello::tests::sample(1000);
        let (protocol, _, _) = detect(&[(Sent, &hello)], Some(Role::Client)).unwrap();
        let Protocol::Tls(Some(hello)) = protocol else { panic!("{protocol:?}") };
        assert_eq!(hello.server_name.as_deref(), Some(&b"api.test"[..]));
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9\r\n"[..],
            b"220 mail.test ESMTP\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            &[0, 0, 0, 8, 4, 210, 22, 47],
            b"GET key\r\n",
            b"\0",
        ] {
            for (direction, role) in [(Sent, None), (Sent, Some(Role::Client)), (Received, None)] {
                let found = detect(&[(direction, bytes)], role);
                let is_prefix = *bytes == *b"\0" && role.is_none();
                let expected = if is_prefix { None } else { Some(Protocol::Other) };
                assert_eq!(found.map(|found| found.0), expected, "{bytes:?}");
            }
        }
        assert_eq!(Detect::default().end(None).map(|decision| decision.protocol), None);
    }

    #[test]
    fn a_joined_connection_is_known_by_the_first_message_or_frame() {
        let request: &[u8] = b"...}POST / HTTP/1.1\r\nHost: a\r\n\r\n{";
        let rest: &[u8] = b"5\r\nhello\r\n";
        let found = join(&[(Received, rest), (Sent, request)], None);
        assert_eq!(found, Some((Protocol::Http1, Role::Client, 2)));
        let response: &[u8] = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        assert_eq!(join(&[(Sent, response)], None), Some((Protocol::Http1, Role::Server, 1)));
        assert_eq!(join(&[(Sent, response)], Some(Role::Client)), None);
        assert_eq!(
            join(&[(Sent, &[23, 3, 3, 0, 1, 9])], None),
            Some((Protocol::Tls(None), Role::Client, 1))
        );
        // HEADERS with :method GET and an unknown index; with :status 200.
        let head: &[u8] = &[0, 0, 2, 1, 5, 0, 0, 0, 7, 0x82, 0xc5];
        assert_eq!(join(&[(Sent, head)], None), Some((Protocol::Http2, Role::Client, 1)));
        let status: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 7, 0x88];
        assert_eq!(join(&[(Sent, status)], None), Some((Protocol::Http2, Role::Server, 1)));
        let update: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(join(&[(Sent, update)], Some(Role::Client)), None);
        let twice = update.repeat(2);
        let found = join(&[(Sent, &twice)], Some(Role::Client));
        assert_eq!(found, Some((Protocol::Http2, Role::Client, 1)));
    }
}
