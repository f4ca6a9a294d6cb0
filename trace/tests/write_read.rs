//! What is written is read again: events, objects, a trace that still grows, one that is cut.

use agentrec_trace::event::{FileOpen, Payload, ProcessExec, TermOutput, ToolCall};
use agentrec_trace::{
    Event, ObjectHint, ObjectId, ProcId, Reader, Seq, Source, Status, TraceFile, Value, Writer,
    WriterOptions,
};

fn open(number: u64) -> Event<'static> {
    let path = format!("/src/file{number}.c").into_bytes();
    let data = FileOpen { path: path.into(), flags: 0o2000000, fd: Some(3), ..FileOpen::default() };
    Event { proc: Some(ProcId(1)), ..Event::new(1_000 * number, Source::Kernel, data) }
}

fn write(events: u64, options: WriterOptions) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    for number in 1..=events {
        assert_eq!(writer.append(&open(number)).unwrap(), Seq(number));
    }
    writer.seal().unwrap();
    writer.into_inner()
}

#[test]
fn events_come_back_in_order_and_by_number() {
    let options = WriterOptions { frame_bytes: 2_000, ..WriterOptions::default() };
    let reader = Reader::from_bytes(write(5_000, options)).unwrap();
    assert!(matches!(reader.status(), Status::Complete(seal) if seal.events == 5_000));
    assert_eq!(reader.len(), 5_000);
    let all: Vec<_> = reader.iter().collect::<Result<_, _>>().unwrap();
    let expected: Vec<_> =
        (1..=5_000).map(|number| Event { seq: Seq(number), ..open(number) }).collect();
    assert_eq!(all, expected);
    for seq in [1, 2, 77, 2_500, 4_999, 5_000] {
        assert_eq!(reader.event(Seq(seq)).unwrap().as_ref(), Some(&expected[seq as usize - 1]));
    }
    assert_eq!(reader.event(Seq(5_001)).unwrap(), None);
    assert_eq!(reader.tail(10).unwrap(), expected[4_990..]);
    assert_eq!(reader.tail(6_000).unwrap(), expected);
}

#[test]
fn a_growing_file_is_followed_to_its_seal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.zst");
    let file = TraceFile::create(&path, false).unwrap();
    let mut writer = Writer::new(file, WriterOptions::default()).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!((reader.status(), reader.len()), (&Status::Recording, 0));
    writer.append(&open(1)).unwrap();
    assert!(!reader.refresh().unwrap());
    writer.flush().unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.len(), 1);
    writer.append(&open(2)).unwrap();
    let content = b"x".repeat(100_000);
    let id = writer.put_object(&content, ObjectHint::Single).unwrap();
    writer.flush().unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.tail(1).unwrap()[0].seq, Seq(2));
    assert_eq!(reader.object(&id).unwrap(), Some(content.clone()));
    let seal = writer.seal().unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.status(), &Status::Complete(seal));
    assert_eq!(reader.object(&id).unwrap(), Some(content));
    assert!(!reader.refresh().unwrap());
}

#[test]
fn an_unsealed_file_without_its_writer_is_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.zst");
    let mut writer =
        Writer::new(TraceFile::create(&path, false).unwrap(), WriterOptions::default()).unwrap();
    writer.append(&open(1)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let reader = Reader::open(&path).unwrap();
    assert!(matches!(reader.status(), Status::Incomplete { .. }));
    assert_eq!(reader.tail(1).unwrap(), [Event { seq: Seq(1), ..open(1) }]);
}

#[test]
fn a_trace_is_private_and_not_overwritten_unasked() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.zst");
    let first = TraceFile::create(&path, false).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(TraceFile::create(&path, false).unwrap_err().to_string().ends_with("exists"));
    let recording = TraceFile::create(&path, true).unwrap_err().to_string();
    assert!(recording.ends_with("is being recorded"), "{recording}");
    drop(first);
    TraceFile::create(&path, true).unwrap();
    assert!(TraceFile::create(dir.path(), true).is_err());
}

/// Bytes in which nothing repeats.
fn noise(len: usize, state: &mut u64) -> Vec<u8> {
    let next = || {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Writes a series in which each content is 2,000 bytes longer than the one before: in at most so many bytes, and all comes back.
fn costs_its_growth(contents: impl Iterator<Item = Vec<u8>>) {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
    let mut all = Vec::new();
    let mut after = None;
    for content in contents {
        let id = writer.put_object(&content, ObjectHint::Series { after }).unwrap();
        after = Some(id);
        all.push((id, content));
    }
    writer.seal().unwrap();
    let bytes = writer.into_inner();
    assert!(bytes.len() < 300_000, "{} bytes", bytes.len());
    let reader = Reader::from_bytes(bytes).unwrap();
    for (id, content) in all.iter().rev() {
        assert_eq!(reader.object(id).unwrap().as_deref(), Some(content.as_slice()));
    }
    assert_eq!(reader.objects().unwrap().len(), all.len());
    assert_eq!(reader.object(&ObjectId([9; 32])).unwrap(), None);
}

#[test]
fn a_series_of_growing_objects_costs_its_growth() {
    let mut state = 1;
    let tail = noise(1_000, &mut state);
    let mut body = noise(50_000, &mut state);
    costs_its_growth((0..100).map(move |_| {
        body.extend(noise(2_000, &mut state));
        [body.as_slice(), tail.as_slice()].concat()
    }));
}

#[test]
fn a_series_of_growing_lists_costs_its_growth() {
    let mut state = 1;
    let mut list = vec![Value::Binary(noise(50_000, &mut state))];
    // It begins with its length: in one byte at first, and in three from 16 on.
    costs_its_growth((0..100).map(move |_| {
        list.push(Value::Binary(noise(2_000, &mut state)));
        let mut content = Vec::new();
        rmpv::encode::write_value(&mut content, &Value::Array(list.clone())).unwrap();
        content
    }));
}

#[test]
fn a_value_may_stand_inside_of_another_content() {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
    let body = br#"{"model":"m","messages":["a",{"b":[1,2.5,null]}]}"#;
    let id = writer.put_object(body, ObjectHint::Single).unwrap();
    writer.seal().unwrap();
    let reader = Reader::from_bytes(writer.into_inner()).unwrap();
    let value = |at, len| reader.payload(&Payload::Json { id, at, len });
    let map = |key: &str, value| Value::Map(vec![(Value::from(key), value)]);
    let list = Value::Array(vec![Value::from(1), Value::from(2.5), Value::Nil]);
    let messages = Value::Array(vec![Value::from("a"), map("b", list)]);
    assert_eq!(value(24, 24).unwrap(), messages);
    for (at, len) in [(23, 24), (24, 23), (24, 26), (90, 1), (u64::MAX, 2), (2, u64::MAX)] {
        let error = value(at, len).unwrap_err().to_string();
        assert!(error.starts_with("cannot decode a value inside of an object: "), "{error}");
    }
    let nowhere = reader.payload(&Payload::Json { id: ObjectId([9; 32]), at: 0, len: 1 });
    assert!(nowhere.unwrap_err().to_string().ends_with("is not in the trace"));
}

#[test]
fn long_values_become_objects_and_come_back() {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
    let long = Value::from("long ".repeat(2_000));
    let short = Value::Map(vec![(Value::from("a"), Value::from(-1))]);
    let data = ToolCall {
        arguments: writer.payload(long.clone(), ObjectHint::Single).unwrap(),
        ..ToolCall::default()
    };
    writer.append(&Event::new(5_000, Source::Sdk, data)).unwrap();
    let data = ToolCall {
        arguments: writer.payload(short.clone(), ObjectHint::Single).unwrap(),
        ..ToolCall::default()
    };
    writer.append(&Event::new(4_000, Source::Sdk, data)).unwrap();
    let text = b"\xff\x00".repeat(4_000);
    let data = TermOutput { fd: 1, data: writer.content(&text, ObjectHint::Single).unwrap() };
    writer.append(&Event::new(9_000, Source::Kernel, data)).unwrap();
    writer.append(&Event::new(9_000, Source::Kernel, ProcessExec::default())).unwrap();
    writer.flush().unwrap();
    let reader = Reader::from_bytes(writer.into_inner()).unwrap();
    let events = reader.tail(10).unwrap();
    assert_eq!(
        events.iter().map(|event| event.ts).collect::<Vec<_>>(),
        [5_000, 4_000, 9_000, 9_000]
    );
    let value = |event: &Event<'_>| match &event.data {
        agentrec_trace::Data::ToolCall(call) => reader.payload(&call.arguments).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(&events[0]), long);
    assert_eq!(value(&events[1]), short);
    match &events[2].data {
        agentrec_trace::Data::TermOutput(output) => {
            assert_eq!(reader.content(&output.data).unwrap().as_slice(), text);
        }
        other => panic!("{other:?}"),
    }
}

/// Fails as often as it is told to, as a full disk does.
struct Full {
    bytes: Vec<u8>,
    failures: usize,
}

impl std::io::Write for Full {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if !self.bytes.is_empty() && self.failures > 0 {
            self.failures -= 1;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_loses_nothing_that_was_accepted() {
    let options = WriterOptions { frame_bytes: 500, ..WriterOptions::default() };
    let mut writer = Writer::new(Full { bytes: Vec::new(), failures: 5 }, options).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for number in 1..=100 {
        match writer.append(&open(number)) {
            Ok(seq) => {
                accepted += 1;
                assert_eq!(seq, Seq(accepted));
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!((accepted, refused), (95, 5));
    let content = b"y".repeat(9_000);
    let id = writer.put_object(&content, ObjectHint::Single).unwrap();
    writer.seal().unwrap();
    let bytes = writer.into_inner().bytes;
    assert!(agentrec_trace::verify_bytes(bytes.as_slice()).unwrap().ok());
    let reader = Reader::from_bytes(bytes).unwrap();
    assert_eq!(reader.len(), 95);
    assert_eq!(reader.object(&id).unwrap(), Some(content));
}

#[test]
fn a_long_series_is_flattened_before_readers_refuse_it() {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
    let mut content = Vec::new();
    let mut after = None;
    for number in 0..300u32 {
        content.extend(
            format!("turn {number} of a conversation that goes on and on; ").repeat(3).bytes(),
        );
        after = Some(writer.put_object(&content, ObjectHint::Series { after }).unwrap());
    }
    writer.seal().unwrap();
    let reader = Reader::from_bytes(writer.into_inner()).unwrap();
    assert_eq!(reader.object(&after.unwrap()).unwrap(), Some(content));
}
