//! Any bytes as the records of a frame that is sound in itself: behind a right header, head and checksum.
//!
//! `cargo +nightly fuzz run records`
#![no_main]

use agentrec_trace::{Reader, Writer, WriterOptions, json, verify_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    let empty = Writer::new(Vec::new(), WriterOptions::default()).expect("a Vec takes all bytes");
    let mut bytes = empty.into_inner();
    // As the format's document has it: the numbers begin with 1, the hash is that of the header.
    let mut content = b"\x87\xa5frame\x00\xa3seq\x01\xa6object\x01\xa5chunk\x01".to_vec();
    content.extend(b"\xa2ts\x00\xa4wall\x00\xa4prev\xc4\x20");
    content.extend(agentrec_trace::ObjectId::of(&bytes).0);
    content.extend(records);
    let mut compressor = zstd::bulk::Compressor::new(1).expect("level 1 exists");
    compressor.include_checksum(true).expect("a checksum is always possible");
    bytes.extend(compressor.compress(&content).expect("memory suffices"));
    let reader = Reader::from_bytes(bytes.as_slice()).expect("the header is right");
    for event in reader.iter().flatten() {
        let json = json::to_json(&event).expect("every event is JSON");
        assert_eq!(json::parse(&json).expect("JSON of ours").data.type_name(), event.data.type_name());
    }
    for id in reader.objects().unwrap_or_default() {
        if let Ok(Some(content)) = reader.object(&id) {
            assert_eq!(agentrec_trace::ObjectId::of(&content), id);
        }
    }
    let _ = verify_bytes(bytes);
});
