//! A TLS ClientHello in the clear: which host the client asks for and which protocols it offers (RFC 8446, 4.1.2).

use crate::limits::MAX_HELLO;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host (RFC 6066, 3).
    pub server_name: Option<Vec<u8>>,
    /// Protocols in the client's order (RFC 7301), such as `h2` and `http/1.1`.
    pub alpn: Vec<Vec<u8>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Perhaps a ClientHello; more is needed.
    Unfinished,
    /// TLS; the hello, where it could be read.
    Tls(Option<ClientHello>),
    /// Something else.
    No,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Looks at all bytes that a client has sent so far.
pub(crate) fn look(bytes: &[u8]) -> Hello {
    let begins_as_record = match *bytes {
        [] => return Hello::Unfinished,
        [kind] => kind == HANDSHAKE,
        [kind, major] | [kind, major, _] => kind == HANDSHAKE && major == 3,
        [kind, major, _, length, ..] => kind == HANDSHAKE && major == 3 && length <= 0x48,
    };
    if !begins_as_record || bytes.get(5).is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Hello::No;
    }
    // A hello may be spread over several records (RFC 8446, 5.1).
    let mut hello = Vec::new();
    let mut rest = bytes;
    loop {
        let [kind, 3, _, high, low, after @ ..] = rest else {
            return if rest.len() < 5 { Hello::Unfinished } else { Hello::Tls(None) };
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || len == 0 {
            return Hello::Tls(None);
        }
        hello.extend_from_slice(&after[..after.len().min(len)]);
        if let [_, a, b, c, body @ ..] = hello.as_slice() {
            let wanted = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if wanted > MAX_HELLO {
                return Hello::Tls(None);
            }
            if body.len() >= wanted {
                return Hello::Tls(client_hello(&body[..wanted]));
            }
        }
        if after.len() <= len || bytes.len() > 2 * MAX_HELLO {
            return if bytes.len() > 2 * MAX_HELLO { Hello::Tls(None) } else { Hello::Unfinished };
        }
        rest = &after[len..];
    }
}

/// Whether a piece from the middle of a connection begins with a TLS record (RFC 8446, 5.1; 20 to 23 are the types).
pub(crate) fn is_record(piece: &[u8]) -> bool {
    let [20..=23, 3, 0..=4, high, low, content @ ..] = piece else { return false };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let fits = match content.get(len..) {
        Some([]) | None => true,
        Some([kind, rest @ ..]) => {
            matches!(kind, 20..=23) && rest.first().is_none_or(|major| *major == 3)
        }
    };
    fits && (1..=(16 << 10) + 2048).contains(&len)
}

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy_version, random
    body.vector8()?; // legacy_session_id
    body.vector16()?; // cipher_suites
    body.vector8()?; // legacy_compression_methods
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = Reader(extensions.vector16()?);
        match kind {
            SERVER_NAME => {
                let mut names = Reader(content.vector16()?);
                while !names.0.is_empty() {
                    let is_host = names.take(1)? == [0];
                    let name = names.vector16()?;
                    if is_host && hello.server_name.is_none() {
                        hello.server_name = Some(name.to_vec());
                    }
                }
            }
            ALPN => {
                let mut names = Reader(content.vector16()?);
                while !names.0.is_empty() {
                    hello.alpn.push(names.vector8()?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'b [u8]> {
        let len = usize::from(self.take(1)?[0]);
        self.take(len)
    }

    fn vector16(&mut self) -> Option<&'b [u8]> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn vector(len_bytes: usize, content: &[u8]) -> Vec<u8> {
        let len = (content.len() as u32).to_be_bytes();
        [&len[4 - len_bytes..], content].concat()
    }

    /// A ClientHello in records of at most `record` bytes.
    pub(crate) fn sample(record: usize) -> Vec<u8> {
        let name = vector(2, &[&[0][..], &vector(2, b"api.test")].concat());
        let alpn = vector(2, &[vector(1, b"h2"), vector(1, b"http/1.1")].concat());
        let extensions = [
            [&[0xfa, 0xfa][..], &vector(2, b"")].concat(), // grease (RFC 8701)
            [&[0, 0][..], &vector(2, &name)].concat(),
            [&[0, 16][..], &vector(2, &alpn)].concat(),
        ]
        .concat();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[1; 32]),
            &vector(2, &[0x13, 1]),
            &vector(1, &[0]),
            &vector(2, &extensions),
        ]
        .concat();
        let hello = [&[CLIENT_HELLO][..], &vector(3, &body)].concat();
        let records = hello.chunks(record);
        records.flat_map(|part| [&[HANDSHAKE, 3, 1][..], &vector(2, part)].concat()).collect()
    }

    #[test]
    fn a_hello_is_read_when_its_last_byte_is_there() {
        let expected = ClientHello {
            server_name: Some(b"api.test".to_vec()),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        for record in [1 << 14, 60, 1] {
            let bytes = sample(record);
            for len in 0..bytes.len() {
                assert_eq!(look(&bytes[..len]), Hello::Unfinished, "{len} of {}", bytes.len());
            }
            assert_eq!(look(&bytes), Hello::Tls(Some(expected.clone())));
            let more = [&bytes[..], &[23, 3, 3, 0, 1, 0]].concat();
            assert_eq!(look(&more), Hello::Tls(Some(expected.clone())));
        }
    }

    #[test]
    fn other_bytes_are_no_hello() {
        assert_eq!(look(b"GET / HTTP/1.1\r\n"), Hello::No);
        assert_eq!(look(&[22, 3, 1, 0, 80, 2]), Hello::No);
        let mut damaged = sample(1 << 14);
        damaged[45] = 200; // more cipher suites than there are bytes
        damaged[76] = 200;
        assert_eq!(look(&damaged), Hello::Tls(None));
        assert!(is_record(&[23, 3, 3, 0, 2, 9, 9]) && is_record(&[23, 3, 3, 1, 2, 9, 9]));
        assert!(!is_record(&[23, 3, 3, 0, 1, 9, 9]) && !is_record(b"\x17\x05\x03\0\x02"));
    }
}
