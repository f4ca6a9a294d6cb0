//! Prints a trace as JSON Lines: its events, then its objects with the hash of what they hold.

use std::io::{self, BufWriter, Write};

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{ObjectId, Reader, Status};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: dump TRACE")?;
    let reader = Reader::open(path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for event in reader.iter() {
        serde_json::to_writer(&mut out, &JsonEvent(&event?))?;
        writeln!(out)?;
    }
    for id in reader.objects()? {
        let content = reader.object(&id)?.ok_or("an object is missing")?;
        let sound = ObjectId::of(&content) == id;
        writeln!(out, r#"{{"object":"{id}","len":{},"sound":{sound}}}"#, content.len())?;
    }
    let status = match reader.status() {
        Status::Complete(_) => "complete",
        Status::Recording => "recording",
        Status::Incomplete { .. } => "incomplete",
    };
    writeln!(out, r#"{{"status":"{status}"}}"#)?;
    out.flush()?;
    Ok(())
}
