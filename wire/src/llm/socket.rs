//! OpenAI responses over a WebSocket: one message is one event, and a connection carries many responses.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value as Json;

use super::dialect::Fold;
use super::json::{present, text};
use super::{Answered, AskId, Asked, Dialect, Tracker};

/// Connections, and streams of one, at once.
const MAX_SOCKETS: usize = 4096;
const MAX_STREAMS: usize = 64;

/// Requests of one stream that wait for their turn.
const MAX_WAITING: usize = 64;

/// Bytes of events of one response that are looked at.
const MAX_RESPONSE: usize = 64 << 20;

/// What a message of a WebSocket told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SocketTold {
    /// It was a request.
    pub asked: Option<Asked>,
    /// It ended a response.
    pub answered: Option<Answered>,
}

/// A connection's requests, by stream: responses of one stream come one after the other.
pub(super) type Sockets = BTreeMap<u64, BTreeMap<String, VecDeque<Waiting>>>;

pub(super) struct Waiting {
    ask: AskId,
    fold: Box<dyn Fold + Send>,
    bytes: usize,
    cut: bool,
}

impl Tracker {
    /// A whole text message of a WebSocket connection, which `socket` names; `url` is that of its upgrade request.
    pub fn socket_message(
        &mut self,
        socket: u64,
        url: &str,
        from_client: bool,
        message: &[u8],
    ) -> SocketTold {
        let mut told = SocketTold::default();
        let is_known = self.sockets.contains_key(&socket);
        if !from_client && !is_known {
            return told;
        }
        let Ok(event) = serde_json::from_slice::<Json>(message) else { return told };
        let stream = text(&event, "stream_id").unwrap_or_default().to_owned();
        if from_client {
            told.asked = self.socket_request(socket, url, stream, event, message.len());
        } else {
            told.answered = self.socket_event(socket, &stream, event, message.len());
        }
        told
    }

    fn socket_request(
        &mut self,
        socket: u64,
        url: &str,
        stream: String,
        event: Json,
        len: usize,
    ) -> Option<Asked> {
        if text(&event, "type") != Some("response.create") {
            return None;
        }
        let streams = self.sockets.get(&socket);
        let waiting = streams.and_then(|streams| streams.get(&stream)).map_or(0, VecDeque::len);
        let is_new = waiting == 0 && streams.map_or(0, BTreeMap::len) >= MAX_STREAMS;
        if is_new
            || waiting >= MAX_WAITING
            || (streams.is_none() && self.sockets.len() >= MAX_SOCKETS)
        {
            return None;
        }
        let asked = self.ask("POST", url, event, len)?;
        let waiting =
            Waiting { ask: asked.id, fold: Dialect::Responses.fold(), bytes: 0, cut: false };
        self.sockets.entry(socket).or_default().entry(stream).or_default().push_back(waiting);
        Some(asked)
    }

    fn socket_event(
        &mut self,
        socket: u64,
        stream: &str,
        event: Json,
        len: usize,
    ) -> Option<Answered> {
        let kind = text(&event, "type").unwrap_or_default();
        let is_end = matches!(
            kind,
            "response.completed"
                | "response.incomplete"
                | "response.failed"
                | "response.done"
                | "error"
        );
        if !is_end && !kind.starts_with("response.") && present(&event, "response").is_none() {
            return None;
        }
        let waiting = self.sockets.get_mut(&socket)?.get_mut(stream)?;
        let current = waiting.front_mut()?;
        current.bytes = current.bytes.saturating_add(len);
        if current.bytes <= MAX_RESPONSE || is_end {
            current.fold.push(event);
        } else {
            current.cut = true;
        }
        if !is_end {
            return None;
        }
        let mut done = waiting.pop_front()?;
        let reply = done.fold.finish();
        Some(self.answer(done.ask, reply, !done.cut))
    }

    /// The connection ended: what was not answered yet won't be.
    pub fn socket_closed(&mut self, socket: u64) -> Vec<Answered> {
        let streams = self.sockets.remove(&socket).unwrap_or_default();
        let waiting = streams.into_values().flatten();
        waiting.map(|mut waiting| self.answer(waiting.ask, waiting.fold.finish(), false)).collect()
    }
}
