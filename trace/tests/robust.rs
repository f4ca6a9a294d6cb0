//! Cut, damaged and hostile traces: what is whole is read, what is wrong is named, nothing panics or grows.

use agentrec_trace::event::{FileOpen, TermOutput};
use agentrec_trace::{
    Error, Event, ObjectHint, ProcId, Reader, Seq, Source, Status, Value, Writer, WriterOptions,
    verify_bytes,
};

fn open(number: u64) -> Event<'static> {
    let path = format!("/src/file{}.c", number * number).into_bytes();
    let data = FileOpen { path: path.into(), fd: Some(3), ..FileOpen::default() };
    Event { proc: Some(ProcId(1)), ..Event::new(1_000 * number, Source::Kernel, data) }
}

fn writer() -> Writer<Vec<u8>> {
    let options = WriterOptions {
        frame_bytes: 300,
        wall_clock: || 1_700_000_000,
        ..WriterOptions::default()
    };
    Writer::new(Vec::new(), options).unwrap()
}

/// A sealed trace with a few frames of events and of objects, and the ends of its frames with the events up to there.
fn sample() -> (Vec<u8>, Vec<(usize, u64)>) {
    let mut writer = writer();
    let mut ends = Vec::new();
    for number in 1..=24 {
        let before = writer.bytes_written();
        if number % 10 == 0 {
            let content = vec![number as u8; 500];
            let after = None;
            writer.put_object(&content, ObjectHint::Series { after }).unwrap();
        }
        writer.append(&open(number)).unwrap();
        if number % 6 == 0 {
            writer.flush().unwrap();
        }
        if writer.bytes_written() != before {
            let reader = Reader::from_bytes(writer.get_ref().as_slice()).unwrap();
            ends.push((writer.get_ref().len(), reader.len()));
        }
    }
    writer.seal().unwrap();
    (writer.into_inner(), ends)
}

#[test]
fn a_trace_cut_anywhere_gives_every_whole_frame() {
    let (bytes, ends) = sample();
    assert!(ends.len() >= 4 && ends.last().unwrap().1 == 24, "{ends:?}");
    for len in 0..bytes.len() {
        let reader = Reader::from_bytes(&bytes[..len]).unwrap();
        assert!(matches!(reader.status(), Status::Incomplete { .. }), "cut at {len}");
        let whole = ends.iter().rev().find(|(end, _)| *end <= len).map_or(0, |(_, events)| *events);
        assert!(reader.len() >= whole, "cut at {len}: {} of {whole}", reader.len());
        let events: Vec<_> = reader.iter().collect::<Result<_, _>>().unwrap();
        let expected: Vec<_> =
            (1..=reader.len()).map(|number| Event { seq: Seq(number), ..open(number) }).collect();
        assert_eq!(events, expected, "cut at {len}");
        for id in reader.objects().unwrap() {
            assert!(reader.object(&id).unwrap().is_some(), "cut at {len}");
        }
        let report = verify_bytes(&bytes[..len]).unwrap();
        assert!(!report.ok() && report.problem.is_some(), "cut at {len}");
    }
    assert!(verify_bytes(bytes).unwrap().ok());
}

#[test]
fn verify_finds_every_flipped_bit_and_names_its_place() {
    let (bytes, ends) = sample();
    let mut starts: Vec<u64> = vec![0, 20];
    starts.extend(ends.iter().map(|(end, _)| *end as u64));
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            let report = verify_bytes(damaged).unwrap();
            assert!(!report.ok(), "bit {bit} of byte {offset} is not noticed");
            let problem = report.problem.unwrap_or_else(|| panic!("byte {offset}: no place"));
            // Never before the damage's own frame, at most at the frame after it.
            let frame = starts.iter().rposition(|start| *start <= offset as u64).unwrap();
            let late = starts.get(frame + 2).copied().unwrap_or(bytes.len() as u64);
            assert!(
                problem.offset >= starts[frame] && problem.offset <= late,
                "byte {offset} bit {bit}, its frame begins at {}: {problem}",
                starts[frame]
            );
        }
    }
}

#[test]
fn verify_notices_a_frame_that_was_taken_out_or_put_in_twice() {
    let (bytes, ends) = sample();
    let (first, second) = (ends[0].0, ends[1].0);
    let without = [&bytes[..first], &bytes[second..]].concat();
    let problem = verify_bytes(without).unwrap().problem.unwrap();
    assert_eq!(problem.offset, first as u64, "{problem}");
    assert!(problem.what.contains("missing"), "{problem}");
    let twice = [&bytes[..second], &bytes[first..]].concat();
    let problem = verify_bytes(twice).unwrap().problem.unwrap();
    assert_eq!(problem.offset, second as u64, "{problem}");
    let longer = [bytes.as_slice(), b"x"].concat();
    let problem = verify_bytes(longer).unwrap().problem.unwrap();
    assert!(problem.what.contains("follows"), "{problem}");
}

#[test]
fn a_damaged_frame_in_the_middle_costs_only_itself() {
    let (mut bytes, ends) = sample();
    // A write that brought events ends with their frame.
    let grew = |pair: &&[(usize, u64)]| pair[0].1 > 0 && pair[1].1 > pair[0].1;
    let (before, after) = ends.windows(2).find(grew).map(|pair| (pair[0], pair[1])).unwrap();
    bytes[after.0 - 20] ^= 0x10;
    let reader = Reader::from_bytes(bytes).unwrap();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for event in reader.iter() {
        match event {
            Ok(event) => read.push(event.seq.0),
            Err(e) => errors.push(e),
        }
    }
    assert!(matches!(errors.as_slice(), [Error::Damaged { .. }]), "{errors:?}");
    let lost = before.1 + 1..=after.1;
    let expected: Vec<u64> = (1..=24).filter(|seq| !lost.contains(seq)).collect();
    assert_eq!(read, expected);
}

#[test]
fn a_damaged_index_costs_no_event() {
    let (mut bytes, ends) = sample();
    // The index follows the last events.
    let index = ends.last().unwrap().0;
    bytes[index + 30] ^= 0x10;
    let reader = Reader::from_bytes(bytes).unwrap();
    assert!(matches!(reader.status(), Status::Complete(_)));
    let numbers: Vec<u64> = reader.iter().map(|event| event.unwrap().seq.0).collect();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    assert_eq!(reader.event(Seq(17)).unwrap().unwrap().seq, Seq(17));
    assert!(matches!(reader.objects(), Err(Error::Damaged { .. })));
}

/// A trace made of a header and one frame of `records` after a head.
fn forged(records: &[u8]) -> Vec<u8> {
    let mut whole = vec![0x87];
    for (name, value) in
        [("frame", 0u8), ("seq", 1), ("object", 1), ("chunk", 1), ("ts", 0), ("wall", 0)]
    {
        whole.push(0xa0 | name.len() as u8);
        whole.extend_from_slice(name.as_bytes());
        whole.push(value);
    }
    whole.extend_from_slice(b"\xa4prev\xc4\x20");
    whole.extend_from_slice(&[0; 32]);
    whole.extend_from_slice(records);
    frame_of(&whole)
}

fn frame_of(content: &[u8]) -> Vec<u8> {
    let mut bytes = writer().into_inner();
    bytes.extend(zstd::bulk::compress(content, 1).unwrap());
    bytes
}

/// All ways through a trace, none of which may panic.
fn exercise(bytes: &[u8]) -> Result<(), Error> {
    let reader = Reader::from_bytes(bytes)?;
    assert!(reader.iter().count() <= bytes.len());
    reader.tail(3)?;
    for id in reader.objects()? {
        reader.object(&id)?;
    }
    Ok(())
}

#[test]
fn lengths_beyond_the_bytes_are_errors() {
    let huge: [&[u8]; 7] = [
        b"\x81\xa4type\xdb\xff\xff\xff\xff",
        b"\x82\xa4type\xa1x\xa4data\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa1x\xa4data\xdf\xff\xff\xff\xff",
        b"\x82\xa4type\xa1x\xa4data\xc9\xff\xff\xff\xff\x01",
        b"\xdf\xff\xff\xff\xff\xa4type\xa1x",
        b"\x81\xa5chunk\xc6\xff\xff\xff\xff",
        b"\x81\xa4type",
    ];
    for records in huge {
        // Before that error the frame counts as whole, so that opening drops it or reading says so.
        let bytes = forged(records);
        let reader = Reader::from_bytes(bytes.as_slice()).unwrap();
        let Status::Incomplete { reason, .. } = reader.status() else { panic!("complete") };
        assert!(
            reader.iter().any(|event| event.is_err()) || reason.contains("damaged"),
            "{reason}"
        );
        assert!(!verify_bytes(bytes).unwrap().ok());
    }
}

#[test]
fn frames_that_claim_too_much_are_not_decompressed() {
    // Eight bytes of content size: 2^63, and one byte over the limit.
    for size in [1u64 << 63, (16 << 20) + 1] {
        let mut bytes = writer().into_inner();
        bytes.extend([0x28, 0xb5, 0x2f, 0xfd, 0xe4]);
        bytes.extend(size.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0]);
        let reader = Reader::from_bytes(bytes).unwrap();
        assert_eq!(reader.len(), 0);
        assert!(matches!(reader.status(), Status::Incomplete { offset: 20, .. }));
    }
    // A bomb: small in the file, just over the limit when unpacked.
    let bomb = frame_of(&vec![0u8; (16 << 20) + 1]);
    assert!(bomb.len() < 10_000);
    let reader = Reader::from_bytes(bomb).unwrap();
    assert!(matches!(reader.status(), Status::Incomplete { offset: 20, .. }));
    // A record over its limit inside a frame that is not.
    let mut record = b"\x82\xa4type\xa1x\xa4data\xc6\x00\x50\x00\x00".to_vec();
    record.resize(record.len() + 0x50_0000, 7);
    assert!(!verify_bytes(forged(&record)).unwrap().ok());
    let reader = Reader::from_bytes(forged(&record)).unwrap();
    assert!(reader.is_empty() || reader.iter().next().unwrap().is_err());
}

#[test]
fn a_seek_table_that_lists_more_than_the_file_holds_is_not_believed() {
    let (mut bytes, _) = sample();
    let len = bytes.len();
    bytes[len - 9..len - 5].copy_from_slice(&u32::MAX.to_le_bytes());
    let reader = Reader::from_bytes(bytes).unwrap();
    assert!(matches!(reader.status(), Status::Incomplete { .. }));
    assert_eq!(reader.len(), 24);
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let nested = |depth: usize| {
        let mut record = b"\x82\xa4type\xa6custom\xa4data".to_vec();
        record.resize(record.len() + depth, 0x91);
        record.push(0xc0);
        record
    };
    let reader = Reader::from_bytes(forged(&nested(200))).unwrap();
    assert!(reader.iter().all(|event| event.is_ok()));
    for depth in [300, 100_000, 4_000_000] {
        let reader = Reader::from_bytes(forged(&nested(depth))).unwrap();
        assert!(reader.iter().next().unwrap().is_err(), "{depth} deep");
    }
    let deep = (0..300).fold(Value::Nil, |value, _| Value::Array(vec![value]));
    let mut writer = writer();
    let data = agentrec_trace::Data::Other {
        layer: agentrec_trace::Layer::Agent,
        name: "custom".into(),
        fields: deep.clone(),
    };
    assert!(writer.append(&Event::new(0, Source::Sdk, data)).is_err());
    assert!(writer.payload(deep, ObjectHint::Single).is_err());
    assert_eq!(writer.append(&open(1)).unwrap(), Seq(1));
}

/// An object record over `parts`, with an address of nothing.
fn object(len: u64, parts: &[&[(&str, u64)]]) -> Vec<u8> {
    let mut out = b"\x83\xa6object\xc4\x20".to_vec();
    out.extend_from_slice(&[9; 32]);
    out.extend_from_slice(b"\xa3len\xcf");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(b"\xa5parts\xdd");
    out.extend_from_slice(&(parts.len() as u32).to_be_bytes());
    for part in parts {
        out.push(0x80 | part.len() as u8);
        for (name, value) in *part {
            out.push(0xa0 | name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
    out
}

#[test]
fn recipes_that_make_no_sense_are_errors() {
    let huge = 1u64 << 63;
    let cases = [
        ("copies from itself", object(5, &[&[("copy", 1), ("len", 5)]])),
        ("copies from a later one", object(5, &[&[("copy", 2), ("len", 5)]])),
        ("is too long", object(huge, &[&[("chunk", 1), ("len", huge)]])),
        ("wraps", object(2, &[&[("chunk", 1), ("at", u64::MAX), ("len", 2)]])),
        (
            "wraps in sum",
            object(1, &[&[("chunk", 1), ("len", huge)], &[("chunk", 1), ("len", huge)]]),
        ),
        ("takes a chunk that is not there", object(5, &[&[("chunk", 7), ("len", 5)]])),
        ("is shorter than it says", object(500, &[&[("chunk", 1), ("len", 5)]])),
        ("ends beyond its chunk", object(5, &[&[("chunk", 1), ("at", 3), ("len", 5)]])),
        ("is of nothing", object(5, &[&[("len", 5)]])),
        ("has another hash", object(5, &[&[("chunk", 1), ("len", 5)]])),
    ];
    for (what, record) in cases {
        let records = [b"\x81\xa5chunk\xc4\x05hello".as_slice(), &record].concat();
        let bytes = forged(&records);
        let reader = Reader::from_bytes(bytes.as_slice()).unwrap();
        let ids = reader.objects().unwrap();
        let read = ids.first().map(|id| reader.object(id));
        assert!(!matches!(read, Some(Ok(_))), "an object that {what}: {read:?}");
        assert!(!verify_bytes(bytes).unwrap().ok(), "an object that {what}");
    }
}

#[test]
fn a_recipe_that_multiplies_itself_ends_at_the_limits() {
    // Each object is the one before many times over: 5 bytes become 5 * 60^n.
    let mut records = b"\x81\xa5chunk\xc4\x05hello".to_vec();
    records.extend(object(5, &[&[("chunk", 1), ("len", 5)]]));
    let mut len = 5u64;
    let mut last = [9; 32];
    for number in 1..=8u64 {
        let part: &[(&str, u64)] = &[("copy", number), ("len", len)];
        let parts = vec![part; 60];
        len = len.saturating_mul(60);
        let mut record = object(len, &parts);
        last[0] = number as u8;
        record[10..42].copy_from_slice(&last);
        records.extend(record);
    }
    let reader = Reader::from_bytes(forged(&records)).unwrap();
    let mut limits = 0;
    for id in reader.objects().unwrap() {
        let error = reader.object(&id).unwrap_err().to_string();
        limits += u64::from(error.contains("too many steps") || error.contains("over the limit"));
    }
    assert!(limits >= 4, "{limits}");
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    assert!(matches!(Reader::from_bytes(b"hello, world".as_slice()), Err(Error::NotATrace(_))));
    let plain = zstd::bulk::compress(b"some text", 3).unwrap();
    assert!(matches!(Reader::from_bytes(plain), Err(Error::NotATrace(_))));
    let mut newer = writer().into_inner();
    newer[16] = 2;
    assert!(matches!(Reader::from_bytes(newer), Err(Error::Version(2))));
    assert!(matches!(Reader::open("/"), Err(Error::NotAFile(_))));
    assert!(matches!(Reader::open("/nonexistent"), Err(Error::Open { .. })));
}

#[test]
fn an_event_that_is_too_long_is_refused_and_the_next_one_is_not() {
    let mut writer = writer();
    let data =
        TermOutput { fd: 1, data: agentrec_trace::event::Content::Inline(vec![0; 5 << 20].into()) };
    let error = writer.append(&Event::new(0, Source::Kernel, data)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    writer.append(&open(1)).unwrap();
    writer.seal().unwrap();
    assert!(matches!(writer.append(&open(2)), Err(Error::Sealed)));
    let reader = Reader::from_bytes(writer.into_inner()).unwrap();
    assert_eq!(reader.tail(5).unwrap(), [Event { seq: Seq(1), ..open(1) }]);
}

#[test]
fn garbage_in_place_of_any_byte_never_panics() {
    let (bytes, _) = sample();
    for offset in 0..bytes.len() {
        for value in [0, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[offset] = value;
            // Whether it is an error depends on the byte.
            let _ = exercise(&damaged);
        }
    }
}
