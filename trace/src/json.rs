//! Events as JSON and back, losing nothing: what `export` and `--json` print.
//!
//! Byte strings of known fields are `{"text": …}` where they are UTF-8 and `{"bytes": base64}` where not; addresses of
//! objects are hexadecimal. In free-form values a string is a string; what JSON lacks is a map with one key that
//! begins with `$`: `$bytes` (base64), `$ext` (type and base64), `$float` (`nan`, `inf`, `-inf`), `$str` (base64 of a
//! string that is not UTF-8) and `$map` (a list of pairs: keys that are not strings, repeat, or could be mistaken).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::event::{Data, Event, Layer, Source, Value};
use crate::{ProcId, Seq};

/// An event that serializes as one JSON object, its keys in the order of the envelope.
pub struct JsonEvent<'e, 'a>(pub &'e Event<'a>);

impl Serialize for JsonEvent<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("seq", &event.seq)?;
        map.serialize_entry("ts", &event.ts)?;
        map.serialize_entry("layer", event.data.layer().as_str())?;
        map.serialize_entry("type", event.data.type_name())?;
        if let Some(proc) = event.proc {
            map.serialize_entry("proc", &proc)?;
        }
        if let Some(tid) = event.tid {
            map.serialize_entry("tid", &tid)?;
        }
        if let Some(cause) = event.cause {
            map.serialize_entry("cause", &cause)?;
        }
        map.serialize_entry("source", event.source.as_str())?;
        map.serialize_entry("data", &Fields(&event.data))?;
        map.end()
    }
}

struct Fields<'e, 'a>(&'e Data<'a>);

impl Serialize for Fields<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::Other { fields, .. } => from_value(fields).serialize(serializer),
            known => known.serialize_fields(serializer),
        }
    }
}

/// `event` as a JSON value.
pub fn to_json(event: &Event<'_>) -> Result<Json> {
    serde_json::to_value(JsonEvent(event)).map_err(|e| Error::encode("event as JSON", e))
}

/// The event that `to_json` made `json` of.
pub fn parse(json: &Json) -> Result<Event<'static>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(default)]
        seq: Seq,
        ts: u64,
        #[serde(borrow)]
        layer: Option<&'a str>,
        #[serde(borrow, rename = "type")]
        name: &'a str,
        proc: Option<ProcId>,
        tid: Option<u32>,
        cause: Option<Seq>,
        #[serde(borrow)]
        source: Option<&'a str>,
    }
    let fail = |e: serde_json::Error| Error::decode("event as JSON", e);
    let envelope = Envelope::deserialize(json).map_err(fail)?;
    let empty = Json::Object(Map::new());
    let fields = json.get("data").unwrap_or(&empty);
    let layer = envelope.layer.and_then(Layer::from_name);
    let data = if crate::event::EVENT_TYPES.iter().any(|known| known.name == envelope.name) {
        Data::deserialize_fields(envelope.name, layer, fields).map_err(fail)?.into_owned()
    } else {
        Data::Other {
            layer: layer.unwrap_or(Layer::Sys),
            name: envelope.name.to_owned().into(),
            fields: to_value(fields)?,
        }
    };
    Ok(Event {
        seq: envelope.seq,
        ts: envelope.ts,
        proc: envelope.proc,
        tid: envelope.tid,
        cause: envelope.cause,
        source: envelope.source.map(Source::from_name).unwrap_or_default(),
        data,
    })
}

/// A free-form value as JSON.
pub fn from_value(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => json!(value),
            (None, value) => json!(value),
        },
        Value::F32(value) => float(f64::from(*value)),
        Value::F64(value) => float(*value),
        Value::String(text) => match text.as_str() {
            Some(text) => json!(text),
            None => json!({ "$str": STANDARD.encode(text.as_bytes()) }),
        },
        Value::Binary(bytes) => json!({ "$bytes": STANDARD.encode(bytes) }),
        Value::Array(elements) => elements.iter().map(from_value).collect(),
        Value::Map(pairs) => plain_map(pairs).unwrap_or_else(|| {
            let pairs: Json = pairs
                .iter()
                .map(|(key, value)| json!([from_value(key), from_value(value)]))
                .collect();
            json!({ "$map": pairs })
        }),
        Value::Ext(kind, bytes) => json!({ "$ext": [kind, STANDARD.encode(bytes)] }),
    }
}

fn float(value: f64) -> Json {
    let name = match value {
        value if value.is_nan() => "nan",
        f64::INFINITY => "inf",
        f64::NEG_INFINITY => "-inf",
        value => return json!(value),
    };
    json!({ "$float": name })
}

/// The pairs as a JSON object, if that is the same.
fn plain_map(pairs: &[(Value, Value)]) -> Option<Json> {
    let mut map = Map::new();
    for (key, value) in pairs {
        let key = key.as_str()?;
        let mistaken = pairs.len() == 1 && key.starts_with('$');
        if mistaken || map.insert(key.to_owned(), from_value(value)).is_some() {
            return None;
        }
    }
    Some(Json::Object(map))
}

/// The free-form value that `from_value` made `json` of. Other JSON becomes what it says.
pub fn to_value(json: &Json) -> Result<Value> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(elements) => {
            Value::Array(elements.iter().map(to_value).collect::<Result<_>>()?)
        }
        Json::Object(map) => {
            if let (1, Some((key, inner))) = (map.len(), map.iter().next())
                && let Some(value) = special(key, inner)?
            {
                return Ok(value);
            }
            let pairs =
                map.iter().map(|(key, value)| Ok((Value::from(key.as_str()), to_value(value)?)));
            Value::Map(pairs.collect::<Result<_>>()?)
        }
    })
}

/// What a map of one key that begins with `$` stands for, if it is one of ours.
fn special(key: &str, inner: &Json) -> Result<Option<Value>> {
    let bad = || Error::decode("JSON value", format_args!("{key}: {inner}"));
    let bytes =
        |json: &Json| json.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(bad);
    Ok(Some(match key {
        "$bytes" => Value::Binary(bytes(inner)?),
        "$str" => {
            // Only MessagePack itself makes a string that is not UTF-8.
            let bytes = bytes(inner)?;
            let mut encoded = Vec::new();
            rmp::encode::write_str_len(&mut encoded, bytes.len() as u32).map_err(|_| bad())?;
            encoded.extend_from_slice(&bytes);
            crate::msgpack::value(&encoded)?
        }
        "$float" => Value::F64(inner.as_str().and_then(|text| text.parse().ok()).ok_or_else(bad)?),
        "$ext" => {
            let kind = inner.get(0).and_then(Json::as_i64).and_then(|kind| i8::try_from(kind).ok());
            Value::Ext(kind.ok_or_else(bad)?, bytes(inner.get(1).ok_or_else(bad)?)?)
        }
        "$map" => {
            let pair = |pair: &Json| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => Ok((to_value(key)?, to_value(value)?)),
                _ => Err(bad()),
            };
            let pairs = inner.as_array().ok_or_else(bad)?.iter().map(pair);
            Value::Map(pairs.collect::<Result<_>>()?)
        }
        _ => return Ok(None),
    }))
}

/// Free-form values inside typed events: MessagePack as they are, JSON as above. For `#[serde(with)]`.
pub(crate) mod free_form {
    use super::{
        Deserialize, Deserializer, Json, Serialize, Serializer, Value, from_value, to_value,
    };

    pub(crate) fn serialize<S: Serializer>(
        value: &Value,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            from_value(value).serialize(serializer)
        } else {
            value.serialize(serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Value, D::Error> {
        if deserializer.is_human_readable() {
            let json = Json::deserialize(deserializer)?;
            to_value(&json).map_err(serde::de::Error::custom)
        } else {
            Value::deserialize(deserializer)
        }
    }
}

/// Byte strings of known fields, as JSON shows them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ByteString {
    /// They are UTF-8.
    Text(String),
    /// They are not: base64.
    Bytes(String),
}

impl ByteString {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(STANDARD.encode(bytes)),
        }
    }

    pub(crate) fn decode(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Bytes(text) => STANDARD.decode(text),
        }
    }
}
