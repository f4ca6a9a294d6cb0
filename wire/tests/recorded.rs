//! Real clients and servers: what is found in their bytes is what they say themselves, however the bytes are cut.

mod support;

use agentrec_wire::{MessageKind, Options, Part, Protocol, Role, Scheme};
use support::{assemble, check_splits, client, recording, recordings, said};

fn is_websocket(name: &str) -> bool {
    name.starts_with("websocket")
}

#[test]
fn exchanges_are_what_both_programs_say() {
    for name in recordings().iter().filter(|name| !is_websocket(name)) {
        let found = assemble(&client(), &recording(name));
        assert_eq!(found.lost, [], "{name}");
        let said = said(name);
        let said = said.as_array().unwrap();
        assert_eq!(found.exchanges.len(), said.len(), "{name}");
        for (exchange, said) in found.exchanges.values().zip(said) {
            let text = |field: &str| said[field].as_str().unwrap().to_owned();
            let request = exchange.request.head.as_ref().unwrap();
            let response = exchange.response.head.as_ref().unwrap();
            let url = String::from_utf8(request.url.clone()).unwrap();
            assert!(url.starts_with("http://127.0.0.1:") && url.ends_with(&text("path")), "{url}");
            let what = format!("{name} {url}");
            assert_eq!(request.method.as_deref(), Some(text("method").as_bytes()), "{what}");
            assert_eq!(response.status.map(u64::from), said["status"].as_u64(), "{what}");
            assert!(exchange.request.body == text("sent").as_bytes(), "{what}");
            assert!(exchange.response.body == text("received").as_bytes(), "{what}");
            for end in [&exchange.request.end, &exchange.response.end] {
                let end = end.as_ref().unwrap();
                assert_eq!((&end.incomplete, &end.coding), (&None, &None), "{what}");
            }
            let events: Vec<_> = exchange.events.iter().map(|event| &event.data[..]).collect();
            let said = said["events"].as_array().unwrap();
            let said: Vec<_> = said.iter().map(|data| data.as_str().unwrap().as_bytes()).collect();
            assert_eq!(events, said, "{what}");
        }
    }
}

#[test]
fn websocket_messages_are_what_both_programs_say() {
    for name in recordings().iter().filter(|name| is_websocket(name)) {
        let found = assemble(&client(), &recording(name));
        assert_eq!(found.lost, [], "{name}");
        assert_eq!(found.protocols, [Protocol::Http1, Protocol::WebSocket], "{name}");
        let exchange = support::exchange(&found, 1);
        let said = said(name);
        let said: Vec<_> = said.as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
        for part in [Part::Request, Part::Response] {
            let of = |kind: MessageKind| {
                let messages = exchange.messages.iter();
                let of_kind = messages.filter(move |m| m.part == part && m.kind == kind);
                of_kind.map(|m| String::from_utf8_lossy(&m.bytes)).collect::<Vec<_>>()
            };
            assert_eq!(of(MessageKind::Text), said, "{name} {part:?}");
            let (pings, pongs) = (of(MessageKind::Ping).len(), of(MessageKind::Pong).len());
            assert_eq!(pings + pongs, 1, "{name} {part:?}");
            assert_eq!(of(MessageKind::Close), ["\u{3}\u{fffd}"], "{name} {part:?}");
        }
        assert!(exchange.messages.iter().all(|message| message.incomplete.is_none()));
        let raw: usize = exchange.messages.iter().map(|message| message.bytes.len()).sum();
        let wire: u64 = exchange.messages.iter().filter_map(|message| message.wire_len).sum();
        assert_eq!(wire < raw as u64 / 2, name != "websocket", "{name}: {wire} of {raw}");
    }
}

#[test]
fn every_way_to_cut_a_recording_gives_the_same() {
    for name in recordings() {
        check_splits(&client(), &recording(&name), &name);
    }
}

#[test]
fn a_server_sees_the_same_and_roles_are_found_out() {
    for name in recordings() {
        let pieces = recording(&name);
        let whole = assemble(&client(), &pieces);
        assert_eq!(assemble(&Options::default(), &pieces), whole, "{name}");
        let other = pieces.iter().map(|(direction, bytes)| (direction.other(), bytes.clone()));
        let other: Vec<_> = other.collect();
        let server = Options { role: Some(Role::Server), ..Options::default() };
        let mut seen = assemble(&server, &other);
        assert_eq!(seen, assemble(&Options::default(), &other), "{name}");
        // What was cut off by the end counts as cut on the side that did not end it.
        seen.lost.clear();
        assert_eq!(seen.exchanges, whole.exchanges, "{name}");
        let secure = Options { scheme: Scheme::Https, ..client() };
        let found = assemble(&secure, &pieces);
        let head = support::exchange(&found, 1).request.head.clone().unwrap();
        let scheme = if name.contains("http2") { "http:" } else { "https:" };
        assert!(head.url.starts_with(scheme.as_bytes()), "{name}");
    }
}
