//! WebSocket: fragments, control frames between them, compression of both kinds, and how the place is found again.

mod support;

use agentrec_wire::{
    Assembler, Connection, Direction, Incomplete, Item, Message, MessageKind, Part, Why,
};
use flate2::{Compress, Compression, FlushCompress};
use support::{assemble, check_splits, client, exchange, sides};

const ASK: &str = "GET /s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn agree(extensions: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Extensions: {extensions}\r\n\r\n"
    )
}

fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(masked | len as u8),
        len @ 126..65536 => {
            frame.push(masked | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(masked | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

fn deflate(compress: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 100);
    compress.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

fn texts(found: &Assembler) -> Vec<(MessageKind, String, Option<Incomplete>)> {
    let text = |m: &Message| (m.kind, String::from_utf8_lossy(&m.bytes).into_owned(), m.incomplete);
    exchange(found, 1).messages.iter().map(text).collect()
}

#[test]
fn fragments_and_control_frames() {
    let mask = Some([1, 2, 3, 4]);
    let long = "long ".repeat(20_000);
    let sent = [
        ASK.as_bytes().to_vec(),
        frame(0x01, mask, b"one "),
        frame(0x89, mask, b"?"),
        frame(0x00, mask, b""),
        frame(0x80, mask, b"message"),
        frame(0x82, Some([9; 4]), long.as_bytes()),
        frame(0x88, mask, &[3, 232]),
    ]
    .concat();
    let received =
        [agree("").into_bytes(), frame(0x8a, None, b"?"), frame(0x81, None, b"")].concat();
    let found = check_splits(&client(), &sides(sent, received), "fragments");
    assert_eq!(found.lost, []);
    let messages = exchange(&found, 1).messages.clone();
    let sent: Vec<_> = messages.iter().filter(|m| m.part == Part::Request).collect();
    let kinds: Vec<_> = sent.iter().map(|m| (m.kind, m.bytes.len(), m.wire_len)).collect();
    let (text, binary) = (MessageKind::Text, MessageKind::Binary);
    let expected = [
        (text, 11, Some(11)),
        (MessageKind::Ping, 1, Some(1)),
        (binary, 100_000, Some(100_000)),
        (MessageKind::Close, 2, Some(2)),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(sent[0].bytes, b"one message");
    assert_eq!(messages.len(), 6);
}

#[test]
fn compression_with_and_without_a_common_context() {
    let text = b"all is well that ends well and all is well";
    for (extensions, takeover) in [
        ("permessage-deflate", true),
        ("x, permessage-deflate; server_no_context_takeover; client_max_window_bits=12", false),
    ] {
        let mut compress = Compress::new(Compression::default(), false);
        let mut received = agree(extensions).into_bytes();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let packed = deflate(&mut compress, text);
            let (a, b) = packed.split_at(packed.len() / 2);
            received.extend([frame(0x41, None, a), frame(0x80, None, b)].concat());
            received.extend(frame(0x81, None, b"plain"));
            sizes.push(packed.len());
            if !takeover {
                compress.reset();
            }
        }
        assert_eq!(sizes[1] < sizes[0], takeover);
        let found = check_splits(&client(), &sides(ASK, received), extensions);
        let well = String::from_utf8(text.to_vec()).unwrap();
        for pair in texts(&found).chunks(2) {
            assert_eq!(pair[0], (MessageKind::Text, well.clone(), None));
            assert_eq!(pair[1], (MessageKind::Text, "plain".into(), None));
        }
        assert_eq!(texts(&found).len(), 6);
    }
}

#[test]
fn frames_are_found_again_at_the_beginning_of_a_piece() {
    for (wrong, why) in [
        (vec![0xf1, 1, 7], "reserved bits"),
        (vec![0x83, 0], "unknown opcode"),
        (vec![0xc1, 1, 7], "compressed though that was not agreed"),
        (vec![0x81, 0x81, 1, 2, 3, 4, 5], "masked by the wrong side"),
        (vec![0x80, 0], "continues no message"),
        (vec![0x81, 126, 0, 5], "length longer than needed"),
        (vec![0x89, 126, 0, 200], "long or fragmented control frame"),
        ([frame(1, None, b"a"), frame(0x81, None, b"b")].concat(), "message within a message"),
    ] {
        let begin = [agree("").into_bytes(), frame(0x81, None, b"one"), wrong].concat();
        let pieces = [
            sides(ASK, begin),
            sides("", b"\x01not whole frames"),
            sides("", [frame(0x81, None, b"two"), frame(0x8a, None, b"")].concat()),
        ]
        .concat();
        let found = assemble(&client(), &pieces);
        assert_eq!(found.lost.len(), 1, "{why}");
        assert_eq!(found.lost[0].why, Why::WebSocket(why));
        let found = texts(&found);
        assert_eq!(found.first().unwrap().1, "one", "{why}");
        assert_eq!(found[found.len() - 2].1, "two", "{why}");
    }
}

#[test]
fn after_a_gap_a_common_context_is_gone_and_said_to_be() {
    let mut compress = Compress::new(Compression::default(), false);
    let [one, two, three] = [&b"first first"[..], b"second first", b"third first"]
        .map(|text| frame(0xc1, None, &deflate(&mut compress, text)));
    let mut connection = Connection::new(client());
    let mut found = Assembler::default();
    let mut out = |item: Item<'_>| found.push(item);
    connection.feed(Direction::Sent, 0, ASK.as_bytes(), &mut out);
    let agreed = [agree("permessage-deflate").into_bytes(), one].concat();
    connection.feed(Direction::Received, 1, &agreed, &mut out);
    connection.missing(Direction::Received, 2, two.len() as u64, &mut out);
    connection.feed(Direction::Received, 3, &three, &mut out);
    connection.feed(Direction::Received, 4, &frame(0x81, None, b"plain"), &mut out);
    assert_eq!(found.lost.len(), 1);
    let undecodable = Some(Incomplete::Undecodable);
    let expected = [
        (MessageKind::Text, "first first".into(), None),
        (MessageKind::Text, String::new(), undecodable),
        (MessageKind::Text, "plain".into(), None),
    ];
    assert_eq!(texts(&found), expected);
}
