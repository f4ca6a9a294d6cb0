//! Golden traces: every version of the format stays readable, and the present one is written as it was.
//!
//! Beside each trace in `tests/golden/v1` stands what must be read from it, as JSON Lines. Those that `bound` lists are
//! never written again: what is written otherwise now, or has types and fields that they lack, gets a name of its own.
//! `UPDATE_GOLDEN=1` writes the others.

#[path = "../examples/dump.rs"]
#[allow(dead_code, reason = "an example has a main function")]
mod dump;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use agentrec_trace::event::{EVENT_TYPES, HttpRequest, HttpResponse, Payload, ToolResult};
use agentrec_trace::{Event, ObjectHint, Reader, Source, Value, Writer, WriterOptions, json};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/v1")
}

fn listing(name: &str) -> String {
    let path = dir().join(format!("{name}.jsonl"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The events of a listing.
fn events(name: &str) -> Vec<Event<'static>> {
    let listing = listing(name);
    let lines = listing.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|json: &serde_json::Value| json.get("type").is_some())
        .map(|json| json::parse(&json).unwrap())
        .collect()
}

/// The traces that bind: names, with the BLAKE3 hashes of the trace and of its listing.
fn bound() -> Vec<(String, [String; 2])> {
    let list = fs::read_to_string(dir().join("bound")).unwrap();
    let entry = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().expect("a name and two hashes");
        (word(), [word(), word()])
    };
    list.lines().map(entry).collect()
}

fn writer(frame_bytes: usize) -> Writer<Vec<u8>> {
    let wall_clock = || 1_700_000_000_000_000_000;
    let options = WriterOptions { frame_bytes, wall_clock, ..WriterOptions::default() };
    Writer::new(Vec::new(), options).unwrap()
}

/// A trace of the events in a listing.
fn of_listing(name: &str, frame_bytes: usize) -> Writer<Vec<u8>> {
    let mut writer = writer(frame_bytes);
    for event in events(name) {
        assert_eq!(writer.append(&event).unwrap(), event.seq);
    }
    writer
}

fn sealed(mut writer: Writer<Vec<u8>>) -> Vec<u8> {
    writer.seal().unwrap();
    writer.into_inner()
}

/// The first frames of a trace and half of the next, as `kill -9` leaves them.
fn incomplete() -> Vec<u8> {
    let mut bytes = sealed(of_listing("every-event", 2_000));
    let whole = Reader::from_bytes(bytes.as_slice()).unwrap().len();
    let mut len = bytes.len() / 2;
    // Ends inside a frame whose predecessor ends with the last event of the listing.
    loop {
        let cut = Reader::from_bytes(&bytes[..len]).unwrap();
        if cut.len() < whole {
            break;
        }
        len -= 1;
    }
    bytes.truncate(len);
    bytes
}

/// Text that repeats no long part of itself.
fn text(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 24) as u8 % 26
    };
    (0..len).map(|_| next()).collect()
}

/// Bodies that grow, a file twice, a payload and bytes that are just short enough to stay in the record.
fn objects() -> Vec<u8> {
    let mut writer = writer(8_000);
    let mut after = None;
    let mut body = text(1, 9_000);
    let end = text(2, 3_000);
    // Long enough a series for its recipes to be flattened once.
    for turn in 0..40u64 {
        body.extend(text(turn as u32 + 10, 150));
        let whole = [body.as_slice(), end.as_slice()].concat();
        let id = writer.put_object(&whole, ObjectHint::Series { after }).unwrap();
        after = Some(id);
        let len = whole.len() as u64;
        let content = agentrec_trace::event::Content::Object { id, len };
        let request = HttpRequest { body: content, wire_len: len, ..HttpRequest::default() };
        writer.append(&Event::new(turn * 1_000_000, Source::Wire, request)).unwrap();
    }
    let mut file = text(3, 100_000);
    writer.put_object(&file, ObjectHint::Single).unwrap();
    file.splice(50_000..50_010, *b"in the middle");
    writer.put_object(&file, ObjectHint::Single).unwrap();
    writer.put_object(b"", ObjectHint::Single).unwrap();
    let value = Value::Array((0..3_000).map(Value::from).collect());
    let result = writer.payload(value, ObjectHint::Single).unwrap();
    let result = ToolResult { result, ..ToolResult::default() };
    writer.append(&Event::new(41_000_000, Source::Sdk, result)).unwrap();
    let body = br#"{"model":"m","messages":["a",{"b":[1,2.5,null]}]}"#;
    let id = writer.put_object(body, ObjectHint::Single).unwrap();
    let result = Payload::Json { id, at: 24, len: body.len() as u64 - 25 };
    let result = ToolResult { result, ..ToolResult::default() };
    writer.append(&Event::new(41_500_000, Source::Sdk, result)).unwrap();
    for len in [4_096, 4_097] {
        let bytes = text(4, len);
        let body = writer.content(&bytes, ObjectHint::Single).unwrap();
        let response = HttpResponse { body, ..HttpResponse::default() };
        writer.append(&Event::new(42_000_000, Source::Wire, response)).unwrap();
    }
    sealed(writer)
}

/// The golden traces and how they are written.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("every-event", sealed(of_listing("every-event", 2_000))),
        ("unknown-types", sealed(of_listing("unknown-types", 256 << 10))),
        ("agent-state", sealed(of_listing("agent-state", 256 << 10))),
        ("incomplete", incomplete()),
        ("objects", objects()),
        ("empty", sealed(writer(2_000))),
    ]
}

#[test]
fn golden_traces_are_written_as_they_were() {
    for (name, bytes) in golden() {
        let path = dir().join(format!("{name}.zst"));
        let binds = bound().iter().any(|(bound, _)| bound == name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !binds {
            fs::write(&path, &bytes).unwrap();
            // Three listings are what their traces are made of.
            if !["every-event", "unknown-types", "agent-state"].contains(&name) {
                let mut listing = Vec::new();
                dump::dump(&Reader::from_bytes(bytes.as_slice()).unwrap(), &mut listing).unwrap();
                fs::write(dir().join(format!("{name}.jsonl")), listing).unwrap();
            }
        }
        let golden = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(golden == bytes, "{name} is written differently than it was");
    }
}

#[test]
fn traces_that_bind_are_what_they_were() {
    let bound = bound();
    assert!(!bound.is_empty());
    for (name, hashes) in bound {
        let found = ["zst", "jsonl"].map(|extension| {
            let path = dir().join(format!("{name}.{extension}"));
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            blake3::hash(&bytes).to_hex().to_string()
        });
        assert_eq!(found, hashes, "{name} binds: give what is new a name of its own");
    }
}

#[test]
fn golden_traces_read_as_they_did() {
    let mut seen = 0;
    for entry in fs::read_dir(dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zst") {
            continue;
        }
        let mut listed = Vec::new();
        dump::dump(&Reader::open(&path).unwrap(), &mut listed).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected = listing(name);
        let listed = String::from_utf8(listed).unwrap();
        for (number, (found, expected)) in listed.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{name}, line {}", number + 1);
        }
        assert_eq!(listed.lines().count(), expected.lines().count(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, golden().len());
}

#[test]
fn every_type_and_every_field_is_in_a_golden_trace() {
    let files = fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().path());
    let listings = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let listing: String = listings.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut missing: BTreeSet<(&str, &str)> = EVENT_TYPES
        .iter()
        .flat_map(|known| known.fields.iter().map(|field| (known.name, *field)))
        .collect();
    for line in listing.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(name) = json.get("type").and_then(|name| name.as_str()) else { continue };
        // Those of a type that is not known may be anything.
        for field in json["data"].as_object().into_iter().flat_map(|data| data.keys()) {
            missing.retain(|(known, of)| (*known, *of) != (name, field.as_str()));
        }
    }
    assert_eq!(missing, BTreeSet::new());
}
