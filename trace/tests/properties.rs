//! Properties: what is written is read, through MessagePack and through JSON; arbitrary bytes never panic.

use agentrec_trace::event::{
    FileClose, FileOpen, Link, Message, NetConnect, Payload, ProcessExec, TermOutput, ToolResult,
};
use agentrec_trace::{
    Bytes, Data, Event, Layer, ObjectHint, ObjectId, ProcId, Reader, Seq, Source, Value, Writer,
    WriterOptions, json, verify_bytes,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes<'static>> {
    prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        "/[a-zé/]{0,30}".prop_map(|text| Bytes::from(text.into_bytes())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("equal to itself", |f| !f.is_nan()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        r"\$(bytes|map|ext|float|str)".prop_map(Value::from),
        vec(any::<u8>(), 0..12).prop_map(Value::Binary),
        (any::<i8>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key =
            prop_oneof![".{0,6}".prop_map(Value::from), Just(Value::from("$map")), inner.clone()];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            vec((key, inner), 0..5).prop_map(Value::Map),
        ]
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        value().prop_map(Payload::Inline),
        (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(id, len)| Payload::Object { id: ObjectId(id), len }),
        (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(|(id, at, len)| Payload::Json {
            id: ObjectId(id),
            at,
            len
        }),
    ]
}

fn data() -> impl Strategy<Value = Data<'static>> {
    let text = ".{0,12}".prop_map(std::borrow::Cow::<str>::from);
    prop_oneof![
        (bytes(), any::<u32>(), option::of(any::<i32>()), option::of(any::<i32>()), any::<bool>())
            .prop_map(|(path, flags, fd, errno, created)| {
                FileOpen { path, flags, fd, errno, created, ..FileOpen::default() }.into()
            }),
        (option::of(any::<u64>().prop_map(Seq)), option::of(bytes()), any::<u64>())
            .prop_map(|(open, path, read)| FileClose { open, path, read, written: 0 }.into()),
        (bytes(), vec(bytes(), 0..5), vec((bytes(), option::of(bytes())), 0..4), any::<u32>())
            .prop_map(|(path, argv, env, pid)| {
                ProcessExec { path, argv, env, pid, ..ProcessExec::default() }.into()
            }),
        (any::<u64>(), any::<u64>(), text.clone()).prop_map(|(from, to, kind)| {
            Link { from: Seq(from), to: Seq(to), kind, ..Link::default() }.into()
        }),
        (any::<i32>(), bytes()).prop_map(|(fd, path)| {
            let peer = agentrec_trace::event::Address { path, port: 8, ..Default::default() };
            NetConnect { fd, peer, ..NetConnect::default() }.into()
        }),
        bytes().prop_map(|data| {
            TermOutput { fd: 1, data: agentrec_trace::event::Content::Inline(data) }.into()
        }),
        (text.clone(), payload(), payload()).prop_map(|(role, content, extra)| {
            Message { role, content, extra, ..Message::default() }.into()
        }),
        (payload(), option::of(any::<u64>())).prop_map(|(result, call)| {
            ToolResult { result, call: call.map(Seq), ..ToolResult::default() }.into()
        }),
        ("[a-z]{1,8}", 0..3usize, value()).prop_map(|(name, layer, fields)| Data::Other {
            layer: [Layer::Sys, Layer::Tool, Layer::Agent][layer],
            name: format!("other.{name}").into(),
            fields,
        }),
    ]
}

fn event() -> impl Strategy<Value = Event<'static>> {
    let source = prop_oneof![
        Just(Source::Kernel),
        Just(Source::Sdk),
        "[a-z]{1,9}".prop_map(|name| Source::from_name(&name)),
    ];
    // Times go back and forth, and are whole microseconds.
    let ts = (0..1u64 << 50).prop_map(|micros| micros * 1_000);
    let proc = option::of((1..=u32::MAX).prop_map(ProcId));
    let cause = option::of(any::<u64>().prop_map(Seq));
    (ts, proc, option::of(any::<u32>()), cause, source, data()).prop_map(
        |(ts, proc, tid, cause, source, data)| Event {
            seq: Seq(0),
            ts,
            proc,
            tid,
            cause,
            source,
            data,
        },
    )
}

fn write(events: &mut [Event<'static>], frame_bytes: usize) -> Vec<u8> {
    let options = WriterOptions { frame_bytes, ..WriterOptions::default() };
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    for event in events.iter_mut() {
        event.seq = writer.append(event).unwrap();
    }
    writer.seal().unwrap();
    writer.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_survive_the_trace(mut events in vec(event(), 1..30), frame_bytes in 1..4_000usize) {
        let bytes = write(&mut events, frame_bytes);
        let reader = Reader::from_bytes(bytes.as_slice()).unwrap();
        let read: Vec<_> = reader.iter().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, &events);
        let mut borrowed = Vec::new();
        reader.for_each(|event| borrowed.push(event.into_owned())).unwrap();
        prop_assert_eq!(&borrowed, &events);
        for event in &events {
            let found = reader.event(event.seq).unwrap();
            prop_assert_eq!(found.as_ref(), Some(event));
        }
        prop_assert!(verify_bytes(bytes).unwrap().ok());
    }

    #[test]
    fn events_survive_json(event in event()) {
        let text = json::to_json(&event).unwrap().to_string();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json::parse(&json).unwrap(), event);
    }

    #[test]
    fn times_keep_their_microseconds(ts in any::<u64>(), next in any::<u64>()) {
        let mut events: Vec<_> =
            [ts, next].map(|ts| Event::new(ts, Source::Kernel, FileOpen::default())).into();
        let reader = Reader::from_bytes(write(&mut events, 1 << 20)).unwrap();
        let read: Vec<u64> = reader.iter().map(|event| event.unwrap().ts).collect();
        prop_assert_eq!(read, [ts, next].map(|ts| ts / 1_000 * 1_000));
    }

    #[test]
    fn objects_survive_whatever_they_resemble(
        seed in vec(any::<u8>(), 1..3_000),
        edits in vec((any::<prop::sample::Index>(), vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..8), any::<bool>()), 1..60),
    ) {
        let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
        let mut content = seed;
        let mut after = None;
        let mut put = Vec::new();
        for (place, inserted, head, series) in edits {
            let at = place.index(content.len() + 1);
            content.splice(at..(at + inserted.len() / 3).min(content.len()), inserted);
            let hint = if series { ObjectHint::Series { after } } else { ObjectHint::Single };
            let whole = [head.as_slice(), content.as_slice()].concat();
            let id = writer.put_object(&whole, hint).unwrap();
            after = Some(id);
            put.push((id, whole));
        }
        writer.seal().unwrap();
        let bytes = writer.into_inner();
        prop_assert!(verify_bytes(bytes.as_slice()).unwrap().ok());
        let reader = Reader::from_bytes(bytes).unwrap();
        for (id, content) in put {
            prop_assert_eq!(reader.object(&id).unwrap(), Some(content));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(noise in vec(any::<u8>(), 0..400), records in vec(any::<u8>(), 0..400)) {
        let mut bytes = Writer::new(Vec::new(), WriterOptions::default()).unwrap().into_inner();
        bytes.extend(zstd::bulk::compress(&records, 1).unwrap());
        bytes.extend(noise);
        if let Ok(reader) = Reader::from_bytes(bytes.as_slice()) {
            let _ = reader.for_each(|_| ());
            let _ = reader.objects();
        }
        prop_assert!(!verify_bytes(bytes).unwrap().ok());
    }
}
