//! All conversations of a recording: requests and responses go in, what is new comes out.

use std::collections::BTreeMap;

use agentrec_trace::Value;
use agentrec_trace::event::{Message, Payload, Usage};
use serde_json::Value as Json;

use super::conversations::{Conversations, Question};
use super::dialect::{Recognised, Reply, Request, failure_in, recognise};
use super::documents::documents;
use super::json::{self, elements, list};
use super::known::Conversation;
use super::parts::{Entry, Key, Kind, Known, Part, key_of, keys};
use super::responses::added_tools;
use super::tell::{Context, mark, tell, tell_tools};
use super::{
    Answered, AskId, Asked, Dialect, Failure, Prices, SideKind, Told, side, socket::Sockets,
};

/// Requests that wait for their responses.
const MAX_PENDING: usize = 4096;

/// Bytes of what a model said last that are kept.
const MAX_LAST_SAID: usize = 16 << 10;

/// The name under which all goes that is beside the conversations.
const SIDE: &str = "side";

/// All conversations of one recording. What it holds has bounds; beyond them the oldest conversations are forgotten, and
/// begin anew if they go on.
#[derive(Default)]
pub struct Tracker {
    prices: Prices,
    conversations: Conversations,
    pending: BTreeMap<AskId, Pending>,
    asks: u64,
    /// For calls to which the API gives no id.
    ids: u64,
    pub(super) sockets: Sockets,
}

struct Pending {
    conversation: Option<u64>,
    name: String,
    side: Option<SideKind>,
    dialect: Option<Dialect>,
    model: Option<String>,
    /// The conversation at the server that was named, if one was.
    server_side: Option<String>,
    /// The beginning of the answer, where the request brings that.
    begun: Option<String>,
}

impl Tracker {
    /// With the prices that costs are counted by.
    pub fn new(prices: Prices) -> Self {
        Self { prices, ..Self::default() }
    }

    /// Those prices.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// The name of a conversation that comes to be known by another way than requests.
    pub fn next_name(&mut self) -> String {
        self.conversations.next_name()
    }

    /// A request whose body is complete and decoded. Nothing comes of it if it does not go to a model.
    pub fn request(&mut self, method: &str, url: &str, body: &[u8]) -> Option<Asked> {
        let parsed = serde_json::from_slice(body).unwrap_or(Json::Null);
        self.ask(method, url, parsed, body.len())
    }

    pub(super) fn ask(&mut self, method: &str, url: &str, body: Json, len: usize) -> Option<Asked> {
        let recognised = recognise(method, url, &body)?;
        self.asks += 1;
        let ask = AskId(self.asks);
        while self.pending.len() >= MAX_PENDING
            && let Some((old, pending)) = self.pending.pop_first()
        {
            self.give_up(old, &pending);
        }
        match recognised {
            Recognised::Side(kind) => {
                let model = json::text(&body, "model").map(str::to_owned);
                Some(self.beside(ask, kind, None, model, Vec::new()))
            }
            Recognised::Talk(dialect) => Some(self.talk(ask, dialect, url, body, len)),
        }
    }

    /// A request that is no part of a conversation.
    fn beside(
        &mut self,
        id: AskId,
        kind: SideKind,
        dialect: Option<Dialect>,
        model: Option<String>,
        told: Vec<Told>,
    ) -> Asked {
        let pending = Pending {
            conversation: None,
            name: SIDE.to_owned(),
            side: Some(kind),
            dialect,
            model: model.clone(),
            server_side: None,
            begun: None,
        };
        self.pending.insert(id, pending);
        Asked {
            id,
            conversation: SIDE.to_owned(),
            is_new: false,
            branch_of: None,
            side: Some(kind),
            dialect,
            model,
            system_prompt: Value::Nil,
            tools: Value::Nil,
            messages: Value::Nil,
            partial: false,
            repeats: false,
            told,
        }
    }

    fn talk(&mut self, ask: AskId, dialect: Dialect, url: &str, body: Json, len: usize) -> Asked {
        let mut request = dialect.request(url, &body);
        let model = request.model.map(str::to_owned);
        if let Some(kind) = side::kind(&request) {
            let mut apart = Conversation::default();
            let mut told = Vec::new();
            for entries in [&request.rules, &request.entries] {
                let keys = keys(entries);
                let context = Context { conversation: SIDE, model: None, incomplete: None };
                let fresh = vec![true; keys.len()];
                told.extend(tell(entries, &keys, &fresh, &context, &mut apart, &mut self.ids));
            }
            return self.beside(ask, kind, Some(dialect), model, told);
        }
        let (rule_keys, entry_keys) = (keys(&request.rules), keys(&request.entries));
        let rules: Vec<Key> = rule_keys.iter().map(|key| key.key).collect();
        let positions: Vec<u32> = positions(&request.entries);
        let found = self.conversations.place(&Question {
            ask,
            keys: &entry_keys,
            positions: &positions,
            rules: &rules,
            tools: names_key(&request),
            previous: request.previous,
            text: &|| not_of_the_model(&request.entries),
        });
        for entry in &mut request.entries {
            entry.index = entry.index.map(|index| index.saturating_add(found.offset));
        }
        let mut told = Vec::new();
        let mut name = String::new();
        if let Some(conversation) = self.conversations.get(found.conversation) {
            name.clone_from(&conversation.name);
            let context = Context { conversation: &name, model: None, incomplete: None };
            for (entries, keys, fresh) in [
                (&request.rules, &rule_keys, &found.fresh_rules),
                (&request.entries, &entry_keys, &found.fresh),
            ] {
                told.extend(tell(entries, keys, fresh, &context, conversation, &mut self.ids));
            }
        }
        let repeats = found.repeats && told.is_empty();
        if let Some(dropped) = found.dropped {
            told.insert(0, Told::Dropped(dropped));
        }
        let server_side =
            request.previous.filter(|previous| previous.starts_with("conv_")).map(str::to_owned);
        let pending = Pending {
            conversation: Some(found.conversation),
            name: name.clone(),
            side: None,
            dialect: Some(dialect),
            model: model.clone(),
            server_side,
            begun: begun(&request.entries),
        };
        self.pending.insert(ask, pending);
        let is_delta = request.previous.is_some();
        let keeps = dialect == Dialect::Responses
            && (is_delta
                || body.get("type").is_some()
                || body.get("store") != Some(&Json::Bool(false)));
        let system = system_of(&request);
        let mut tools: Vec<Json> = request.tools.iter().map(|tool| (*tool).clone()).collect();
        let messages = request.messages.cloned().unwrap_or(Json::Null);
        let messages = self.whole(found.conversation, messages, len, is_delta, keeps);
        if is_delta {
            let before = elements(&messages).iter().take(found.offset as usize);
            tools.extend(before.flat_map(added_tools).cloned());
        }
        Asked {
            id: ask,
            conversation: name,
            is_new: found.is_new,
            branch_of: found.branch_of,
            side: None,
            dialect: Some(dialect),
            model,
            system_prompt: json::value(system),
            tools: json::value(Json::Array(tools)),
            messages: json::value(messages),
            partial: found.partial,
            repeats,
            told,
        }
    }

    /// All messages of a conversation whose requests may bring only what is new.
    fn whole(&mut self, id: u64, messages: Json, len: usize, is_delta: bool, keeps: bool) -> Json {
        let mut messages = match messages {
            Json::Array(messages) => messages,
            Json::Null => Vec::new(),
            Json::String(words) => {
                vec![serde_json::json!({"role": "user", "content": words})]
            }
            other => vec![other],
        };
        if let Some(conversation) = self.conversations.get(id).filter(|_| keeps) {
            if is_delta {
                conversation.keep_more(&messages, len);
                messages = conversation.kept.clone().unwrap_or(messages);
            } else {
                conversation.keep(messages.clone(), len);
            }
        }
        Json::Array(messages)
    }

    /// The response is there, decoded, or what came of it before it was cut off (`whole` is false then).
    pub fn response(
        &mut self,
        ask: AskId,
        status: Option<u16>,
        body: &[u8],
        is_event_stream: bool,
        whole: bool,
    ) -> Answered {
        let dialect = self.pending.get(&ask).and_then(|pending| pending.dialect);
        let documents = documents(body, is_event_stream);
        let mut reply = match dialect {
            Some(dialect) => {
                let mut fold = dialect.fold();
                documents.found.into_iter().for_each(|document| fold.push(document));
                fold.finish()
            }
            None => Reply {
                failure: documents.found.iter().find_map(failure_in),
                complete: true,
                ..Reply::default()
            },
        };
        let is_error = status.is_some_and(|status| status >= 400);
        let is_nothing = dialect.is_some() && whole && reply.choices.is_empty() && !reply.complete;
        if reply.failure.is_none() && (is_error || (is_nothing && !documents.sound)) {
            let said = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            let kind = if is_error { "http" } else { "unreadable" };
            reply.failure = Some(Failure { status, kind: kind.to_owned(), message: said });
        }
        if let Some(failure) = &mut reply.failure {
            failure.status = status.filter(|status| *status >= 400).or(failure.status);
        }
        self.answer(ask, reply, whole)
    }

    pub(super) fn answer(&mut self, ask: AskId, reply: Reply, whole: bool) -> Answered {
        let Some(pending) = self.pending.remove(&ask) else { return Answered::unknown(ask) };
        let incomplete = match &reply {
            Reply { failure: Some(_), choices, .. } if !choices.is_empty() => Some("error"),
            Reply { failure: Some(_), .. } => None,
            Reply { complete: false, .. } if whole => Some("unfinished"),
            Reply { complete: false, .. } => Some("cut"),
            _ => None,
        };
        let model = reply.model.clone().or_else(|| pending.model.clone());
        let mut told = Vec::new();
        if let Some(dialect) = pending.dialect {
            self.said(ask, &pending, dialect, &reply, incomplete, &mut told);
        }
        if let Some(tokens) = reply.tokens {
            let model = model.clone().unwrap_or_default();
            let cost = self.prices.cost(&model, &tokens);
            let cost = cost.or_else(|| self.prices.cost(pending.model.as_deref()?, &tokens));
            told.push(Told::Usage(Usage {
                input: tokens.input,
                cache_read: tokens.cache_read,
                cache_write: tokens.cache_write,
                output: tokens.output,
                cost: cost.or(tokens.cost.filter(|cost| cost.is_finite() && *cost >= 0.0)),
                conversation: Some(pending.name.clone().into()),
                model: model.into(),
            }));
        }
        if let Some(id) = pending.conversation {
            for name in [reply.id.as_deref(), pending.server_side.as_deref()].into_iter().flatten()
            {
                self.conversations.ended(id, name);
            }
        }
        Answered {
            id: ask,
            conversation: pending.name,
            side: pending.side,
            name: reply.id,
            model,
            finish: reply.finish,
            failure: reply.failure,
            incomplete,
            told,
        }
    }

    /// Tells what the model said, and takes note of it.
    fn said(
        &mut self,
        ask: AskId,
        pending: &Pending,
        dialect: Dialect,
        reply: &Reply,
        incomplete: Option<&'static str>,
        told: &mut Vec<Told>,
    ) {
        let mut apart = Conversation::default();
        let known = pending.conversation.and_then(|id| self.conversations.get(id));
        let known = known.unwrap_or(&mut apart);
        let model = reply.model.as_deref().or(pending.model.as_deref());
        let context = Context { conversation: &pending.name, model, incomplete };
        let mut choices = Vec::new();
        let mut last_said = String::new();
        for choice in &reply.choices {
            let mut entries = dialect.said(choice);
            for entry in &mut entries {
                entry.role = "assistant";
            }
            told.push(Told::Message(message(choice, &entries, &context, known)));
            for entry in &entries {
                tell_tools(entry, |_| true, &context, known, &mut self.ids, told);
                for part in &entry.parts {
                    if let Kind::Text(text) = part.kind {
                        last_said.extend(
                            text.chars().take(MAX_LAST_SAID.saturating_sub(last_said.len())),
                        );
                        last_said.push('\n');
                    }
                }
            }
            if let Some(begun) = &pending.begun {
                entries.insert(0, beginning(begun));
            }
            let entry = known.messages;
            let heard = |key: Key| Known { key, entry, heard: true, by_model: true };
            choices.push(keys(&entries).iter().map(|keyed| heard(keyed.key)).collect::<Vec<_>>());
        }
        let whole = incomplete.is_none() && reply.failure.is_none();
        if whole && choices.len() == 1 {
            if pending.begun.is_some() {
                known.drop_last();
            }
            if let Some(items) = reply.choices[0].as_array() {
                let size = items.iter().map(|item| item.to_string().len()).sum();
                if known.kept.is_some() {
                    known.keep_more(items, size);
                }
            }
        }
        known.answered(ask, choices, whole, last_said);
        if whole && dialect == Dialect::Responses {
            // Each item of the answer is one in the list.
            let items = reply.choices.first().and_then(Json::as_array).map_or(0, Vec::len);
            known.messages += u32::try_from(items.saturating_sub(1)).unwrap_or(0);
        }
    }

    fn give_up(&mut self, ask: AskId, pending: &Pending) {
        if let Some(conversation) = pending.conversation.and_then(|id| self.conversations.get(id)) {
            conversation.give_up(ask);
        }
    }
}

impl Answered {
    fn unknown(id: AskId) -> Self {
        Self {
            id,
            conversation: SIDE.to_owned(),
            side: None,
            name: None,
            model: None,
            finish: None,
            failure: None,
            incomplete: None,
            told: Vec::new(),
        }
    }
}

/// The message of a response: one, though some APIs have a list of items.
fn message(
    choice: &Json,
    entries: &[Entry<'_>],
    context: &Context<'_>,
    known: &Conversation,
) -> Message<'static> {
    let mut message = match entries {
        [entry] if !choice.is_array() => entry.message(|_| true),
        _ => {
            Message { content: Payload::Inline(json::value(choice.clone())), ..Message::default() }
        }
    };
    message.role = "assistant".into();
    message.index = Some(known.messages);
    message.model = context.model.map(|model| model.to_owned().into());
    message.conversation = Some(context.conversation.to_owned().into());
    mark(&mut message.extra, context.incomplete);
    message
}

/// The text with which the request begins the answer.
fn begun(entries: &[Entry<'_>]) -> Option<String> {
    let last = entries.last().filter(|entry| entry.role == "assistant")?;
    let text = |part: &Part<'_>| match part.kind {
        Kind::Text(text) => Some(text.to_owned()),
        _ => None,
    };
    let texts: Option<Vec<String>> = last.parts.iter().map(text).collect();
    texts.map(|texts| texts.concat()).filter(|text| !text.trim_ascii().is_empty())
}

fn beginning(text: &str) -> Entry<'_> {
    let parts = vec![Part::new(Kind::Text(text), None)];
    Entry {
        role: "assistant",
        index: None,
        content: &json::NULL,
        is_item: false,
        fields: None,
        parts,
    }
}

fn positions(entries: &[Entry<'_>]) -> Vec<u32> {
    let position = |(number, entry): (usize, &Entry<'_>)| {
        entry.index.unwrap_or_else(|| u32::try_from(number).unwrap_or(u32::MAX))
    };
    entries.iter().enumerate().map(position).collect()
}

/// The key of the names of the tools, in whatever order.
fn names_key(request: &Request<'_>) -> Option<Key> {
    fn add<'a>(tool: &'a Json, depth: u8, names: &mut Vec<&'a str>) {
        let inner = tool.get("function").unwrap_or(tool);
        names.extend(json::filled(inner, "name").or_else(|| json::filled(inner, "type")));
        // Namespaces hold tools, Gemini's lists hold declarations.
        for field in ["tools", "functionDeclarations", "function_declarations"] {
            if depth < 8 {
                list(tool, field).iter().for_each(|tool| add(tool, depth + 1, names));
            }
        }
    }
    let mut names = Vec::new();
    request.tools.iter().for_each(|tool| add(tool, 0, &mut names));
    names.sort_unstable();
    (!names.is_empty()).then(|| key_of(names.join("\0").as_bytes()))
}

/// What a summary is looked for in.
fn not_of_the_model(entries: &[Entry<'_>]) -> String {
    const ENOUGH: usize = 256 << 10;
    let mut all = String::new();
    for part in
        entries.iter().filter(|entry| entry.role != "assistant").flat_map(|entry| &entry.parts)
    {
        if let Kind::Text(text) = part.kind {
            if all.len() > ENOUGH {
                break;
            }
            all.extend(text.chars().take(ENOUGH));
            all.push('\n');
        }
    }
    all
}

/// The system prompt: where it stands among the messages, their contents.
fn system_of(request: &Request<'_>) -> Json {
    if let Some(system) = request.system {
        return system.clone();
    }
    match &request.rules[..] {
        [] => Json::Null,
        [only] => only.content.clone(),
        several => Json::Array(several.iter().map(|entry| entry.content.clone()).collect()),
    }
}
