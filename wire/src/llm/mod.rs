//! The conversation: what a program and a model say to each other, from whole HTTP exchanges.
//!
//! A [`Tracker`] is given every request, and later its response. It knows which of them speak to a model, tells
//! conversations apart, and gives each message, tool call, result and use of tokens once, though every request repeats
//! all before it. [`Mcp`] does the same for tools that a program calls by the Model Context Protocol.
//!
//! One dialect is one file. All become [`parts`]: what follows knows of no API.

mod anthropic;
mod aws_stream;
mod chat;
mod conversations;
mod dialect;
mod documents;
mod gemini;
mod json;
mod known;
mod mcp;
mod ollama;
mod parts;
mod prices;
mod responses;
mod side;
mod socket;
mod tell;
mod tracker;
mod transcript;

use agentrec_trace::Value;
use agentrec_trace::event::{Message, ToolCall, ToolResult, Usage};

pub use dialect::{Dialect, may_be_for_a_model};
pub use mcp::{Mcp, Speaker};
pub use prices::{PriceError, Prices};
pub use socket::SocketTold;
pub use tracker::Tracker;
pub use transcript::{Answer, Keeper, NotJson, Round, Transcript};

/// Names a request until its response was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub(crate) u64);

/// Something that was said, for the first time.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A message. Results of tools are told as such alone.
    Message(Message<'static>),
    /// The model wants a tool to be called.
    Call(ToolCall<'static>),
    /// What a tool returned. Its `call` is for the caller to find, by the id.
    Result(ToolResult<'static>),
    /// What a response used.
    Usage(Usage<'static>),
    /// What the model had been told is not part of the request any more.
    Dropped(Dropped),
}

/// A request edits history, or leaves some of it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The conversation.
    pub conversation: String,
    /// Messages that are gone, whole or in part.
    pub messages: u32,
    /// The first that differs, by its position before.
    pub index: u32,
    /// Why, as far as the request shows it.
    pub how: Edit,
}

/// What happened to history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Its end is gone: the agent went back and on from there.
    Rewound,
    /// Earlier messages are gone or others, and later ones are still there.
    Edited,
    /// A summary stands for it.
    Compacted,
}

impl Edit {
    /// As written in a trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rewound => "rewound",
            Self::Edited => "edited",
            Self::Compacted => "compacted",
        }
    }
}

/// A request that is beside the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SideKind {
    /// A name for the conversation, or whether its topic is new.
    Title,
    /// How many tokens a request would have.
    Count,
    /// Which models there are.
    Models,
    /// Vectors for texts.
    Embeddings,
    /// Whether a text is acceptable.
    Moderation,
    /// Whether the server answers, or the model is loaded.
    Probe,
}

impl SideKind {
    /// As written in a trace.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Count => "count_tokens",
            Self::Models => "models",
            Self::Embeddings => "embeddings",
            Self::Moderation => "moderation",
            Self::Probe => "probe",
        }
    }
}

/// A request to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// To be given to [`Tracker::response`].
    pub id: AskId,
    /// `main` for the first conversation, `a`, `b`, … for others; `side` for what is beside them.
    pub conversation: String,
    /// This is the conversation's first request.
    pub is_new: bool,
    /// The conversation it began as a copy of.
    pub branch_of: Option<String>,
    /// What it is, if it is no part of a conversation.
    pub side: Option<SideKind>,
    /// The language.
    pub dialect: Option<Dialect>,
    /// The model that is asked for.
    pub model: Option<String>,
    /// The system prompt as it came, or the messages at the head that are one.
    pub system_prompt: Value,
    /// The tools that the model may call, an array.
    pub tools: Value,
    /// All messages as they came, an array; what the server knew already and we do, too, comes first.
    pub messages: Value,
    /// The server knows messages of this conversation that were never seen.
    pub partial: bool,
    /// The same was asked before, and the answer to it was an error, was cut off, or was not taken.
    pub repeats: bool,
    /// What is new, in order.
    pub told: Vec<Told>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The request.
    pub id: AskId,
    /// Its conversation.
    pub conversation: String,
    /// What it is, if it is no part of a conversation.
    pub side: Option<SideKind>,
    /// The name that the API gave the answer.
    pub name: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Why the model stopped, in the words of its API.
    pub finish: Option<String>,
    /// What went wrong, as far as the server said.
    pub failure: Option<Failure>,
    /// Why the answer is not whole, if it isn't. The message bears the same in `extra.incomplete`.
    pub incomplete: Option<&'static str>,
    /// What is new, in order.
    pub told: Vec<Told>,
}

/// An error that a server reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status, or what the server gives in its place.
    pub status: Option<u16>,
    /// Its kind, in the words of the API.
    pub kind: String,
    /// What it says.
    pub message: String,
}
