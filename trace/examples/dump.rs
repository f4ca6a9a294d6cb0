//! Prints a trace as JSON Lines, for comparison with readers in other languages: its events, then its objects with
//! whether their content has the hash that it should have, then how it ends.

use std::error::Error;
use std::io::{self, BufWriter, Write};

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{ObjectId, Reader, Status};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: dump TRACE")?;
    let mut out = BufWriter::new(io::stdout().lock());
    dump(&Reader::open(path)?, &mut out)?;
    Ok(out.flush()?)
}

/// Writes what `reader` reads to `out`.
pub fn dump(reader: &Reader, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for event in reader.iter() {
        serde_json::to_writer(&mut *out, &JsonEvent(&event?))?;
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
    Ok(())
}
