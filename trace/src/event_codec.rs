//! Events as MessagePack maps: the envelope by hand, the fields by serde, both borrowing from the frame.

use rmp::encode as rmp_encode;

use crate::codec::{Encoded, check_size};
use crate::de::Deserializer;
use crate::error::{Error, Result};
use crate::event::{Data, Event, Layer, Source, Visitor};
use crate::limits::{MAX_DEPTH, MAX_RECORD};
use crate::msgpack::{self, Cursor};
use crate::{ProcId, Seq};

/// What an event's record leaves out because the records before it in the frame tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// Number of the next event.
    pub(crate) seq: u64,
    /// Time of the last event, microseconds; before the first one, that of the head.
    pub(crate) ts: u64,
    /// Process of the last event.
    pub(crate) proc: Option<ProcId>,
}

/// Turns the number of an event into how many events back it is, seen from `seq`, and back again.
struct Distance {
    seq: u64,
}

impl Visitor for Distance {
    fn seq(&mut self, seq: &mut Seq) {
        seq.0 = self.seq.wrapping_sub(seq.0);
    }
}

/// Nanoseconds as a trace keeps them.
pub(crate) fn micros(nanos: u64) -> u64 {
    nanos / 1_000
}

/// Appends an event. On an error nothing is appended.
pub(crate) fn encode_event(
    out: &mut Vec<u8>,
    event: &Event<'_>,
    running: &mut Running,
) -> Result<()> {
    let start = out.len();
    let result = try_encode_event(out, event, running);
    match result {
        Ok(()) => {
            let ts = micros(event.ts);
            *running = Running { seq: running.seq + 1, ts, proc: event.proc };
        }
        Err(_) => out.truncate(start),
    }
    result
}

fn try_encode_event(out: &mut Vec<u8>, event: &Event<'_>, running: &Running) -> Result<()> {
    let start = out.len();
    encode_envelope(out, event, running).map_err(|e| Error::encode("event", e))?;
    let envelope = out.len();
    rmp_encode::write_str(out, "data").map_err(|e| Error::encode("event", e))?;
    let data = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let encoded = if event.data.refers() {
        let mut relative = event.data.clone();
        relative.visit(&mut Distance { seq: running.seq });
        relative.serialize_fields(&mut serializer)
    } else {
        event.data.serialize_fields(&mut serializer)
    };
    encoded.map_err(|e| Error::encode("event", e))?;
    if out[data..] == *EMPTY_MAP {
        // The key is omitted. The number of keys is in the record's first byte.
        out.truncate(envelope);
        out[start] -= 1;
    }
    let record = &out[start..];
    if record.len() > MAX_RECORD {
        let (size, limit) = (record.len() as u64, MAX_RECORD as u64);
        return Err(Error::TooLarge { what: "an event", size, limit });
    }
    // Each level takes a byte, so that only long records can be too deep.
    if record.len() > MAX_DEPTH && msgpack::nests_deeper(record, MAX_DEPTH)? {
        return Err(Error::encode("event", format_args!("it nests deeper than {MAX_DEPTH}")));
    }
    Ok(())
}

fn encode_envelope(out: &mut Vec<u8>, event: &Event<'_>, running: &Running) -> Encoded {
    let delta = micros(event.ts).wrapping_sub(running.ts) as i64;
    let layer = event.data.layer();
    let fields = [
        delta != 0,
        event.proc != running.proc,
        event.tid.is_some(),
        event.cause.is_some(),
        event.source != Source::Kernel,
        layer != Layer::Sys,
    ];
    let count = 2 + fields.iter().filter(|present| **present).count() as u32;
    rmp_encode::write_map_len(out, count)?;
    rmp_encode::write_str(out, "type")?;
    rmp_encode::write_str(out, event.data.type_name())?;
    if delta != 0 {
        rmp_encode::write_str(out, "dt")?;
        rmp_encode::write_sint(out, delta)?;
    }
    if event.proc != running.proc {
        rmp_encode::write_str(out, "proc")?;
        rmp_encode::write_uint(out, event.proc.map_or(0, |proc| proc.0.into()))?;
    }
    if let Some(tid) = event.tid {
        rmp_encode::write_str(out, "tid")?;
        rmp_encode::write_uint(out, tid.into())?;
    }
    if let Some(Seq(cause)) = event.cause {
        rmp_encode::write_str(out, "cause")?;
        rmp_encode::write_uint(out, running.seq.wrapping_sub(cause))?;
    }
    if event.source != Source::Kernel {
        rmp_encode::write_str(out, "source")?;
        rmp_encode::write_str(out, event.source.as_str())?;
    }
    if layer != Layer::Sys {
        rmp_encode::write_str(out, "layer")?;
        rmp_encode::write_str(out, layer.as_str())?;
    }
    Ok(())
}

/// Takes an event off the front of `frame`, borrowing from it.
#[inline]
pub(crate) fn decode_event<'a>(frame: &mut Cursor<'a>, running: &mut Running) -> Result<Event<'a>> {
    let available = frame.len();
    let seq = running.seq;
    let fields = frame.map_len()?;
    if fields == 0 || frame.key()? != b"type" {
        return Err(Error::decode("event", "no type"));
    }
    let name = frame.str()?;
    let (mut tid, mut cause, mut source) = (None, None, Source::Kernel);
    let (mut layer, mut data) = (None, None);
    for _ in 1..fields {
        match frame.key()? {
            b"dt" => running.ts = running.ts.wrapping_add_signed(frame.int()?),
            b"proc" => running.proc = proc(frame.uint()?)?,
            b"tid" => tid = Some(narrow(frame.uint()?)?),
            b"cause" => cause = Some(Seq(seq.wrapping_sub(frame.uint()?))),
            b"source" => source = Source::from_name(frame.str()?),
            b"layer" => layer = Layer::from_name(frame.str()?),
            b"data" => data = Some(decode_data(frame, name, layer)?),
            _ => drop(frame.skip()?),
        }
    }
    check_size(available - frame.len())?;
    running.seq = seq.wrapping_add(1);
    let ts = running.ts.wrapping_mul(1_000);
    let mut data = match data {
        Some(data) => data,
        None => decode_data(&mut Cursor::new(EMPTY_MAP), name, layer)?,
    };
    data.visit(&mut Distance { seq });
    Ok(Event { seq: Seq(seq), ts, proc: running.proc, tid, cause, source, data })
}

#[inline]
fn decode_data<'a>(
    frame: &mut Cursor<'a>,
    name: &'a str,
    layer: Option<Layer>,
) -> Result<Data<'a>> {
    let mut deserializer = Deserializer::new(*frame);
    let data = Data::deserialize_fields(name, layer, &mut deserializer)
        .map_err(|e| Error::decode("event", format_args!("{name}: {e}")))?;
    *frame = deserializer.into_rest();
    Ok(data)
}

/// Passes over an event, keeping what those after it leave out.
pub(crate) fn skip_event(record: &[u8], running: &mut Running) -> Result<()> {
    let mut cursor = Cursor::new(record);
    for _ in 0..cursor.map_len()? {
        match cursor.key()? {
            b"dt" => running.ts = running.ts.wrapping_add_signed(cursor.int()?),
            b"proc" => running.proc = proc(cursor.uint()?)?,
            _ => drop(cursor.skip()?),
        }
    }
    running.seq = running.seq.wrapping_add(1);
    Ok(())
}

fn proc(number: u64) -> Result<Option<ProcId>> {
    Ok(if number == 0 { None } else { Some(ProcId(narrow(number)?)) })
}

const EMPTY_MAP: &[u8] = &[0x80];

fn narrow(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::decode("event", format_args!("{value} is too large")))
}
