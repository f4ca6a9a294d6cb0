//! The conversation with a model: requests, messages, tool calls and their results, use of tokens.

use std::borrow::Cow;

use super::define::events;
use super::values::Payload;
use crate::Seq;

events! {
    /// A model was asked: of a conversation, a new turn unless it repeats a request.
    Agent "model.request" ModelRequest<'a> {
        /// The `http.request`, or the `http.message` that it was sent with.
        request: Option<Seq>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// The conversation that this one began as a copy of, in its first request.
        #[serde(borrow)] branch_of: Option<Cow<'a, str>>,
        /// What it is beside all conversations: `title`, `count_tokens`, `models`, `embeddings`, `moderation`, `probe`.
        #[serde(borrow)] side: Option<Cow<'a, str>>,
        /// The API: such as `openai-chat`, `anthropic`.
        #[serde(borrow)] dialect: Cow<'a, str>,
        /// Model that is asked for.
        #[serde(borrow)] model: Cow<'a, str>,
        /// The same was asked before, and not answered as it should.
        repeats: bool,
        /// System prompt, where it is not the one of the conversation's last request, redacted.
        system_prompt: Payload,
        /// Tools that the model may call, where they are not those of the conversation's last request, redacted.
        tools: Payload,
    }
    /// A model answered, or did not.
    Agent "model.response" ModelResponse<'a> {
        /// The `model.request`.
        request: Option<Seq>,
        /// The `http.response`, or the `http.message` that ended it.
        response: Option<Seq>,
        /// Model that answered.
        #[serde(borrow)] model: Cow<'a, str>,
        /// Why it stopped, in the words of its API.
        #[serde(borrow)] finish: Option<Cow<'a, str>>,
        /// What went wrong, redacted.
        #[serde(borrow)] error: Option<Cow<'a, str>>,
        /// Why the answer is not whole.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// A request edits what was said before, or leaves some of it out.
    Agent "history.dropped" HistoryDropped<'a> {
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// Messages that are gone, whole or in part.
        messages: u32,
        /// Position of the first of them, from 0.
        index: u32,
        /// `rewound`, `edited` or `compacted`.
        #[serde(borrow)] how: Cow<'a, str>,
    }
    /// A tool was called.
    Tool "tool.call" ToolCall<'a> {
        /// Id that the result repeats.
        #[serde(borrow)] id: Cow<'a, str>,
        /// The tool's name.
        #[serde(borrow)] name: Cow<'a, str>,
        /// Arguments, redacted.
        arguments: Payload,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// The MCP server that is called, by the name that it gives itself; empty where it gave none. The event's process is the
        /// server's where that is known, else its client's. Absent of calls that a model or the agent told of.
        #[serde(borrow)] server: Option<Cow<'a, str>>,
    }
    /// A tool returned.
    Tool "tool.result" ToolResult<'a> {
        /// Id of the call.
        #[serde(borrow)] id: Cow<'a, str>,
        /// The `tool.call`.
        call: Option<Seq>,
        /// What it returned, redacted.
        result: Payload,
        /// What it raised, redacted.
        #[serde(borrow)] error: Option<Cow<'a, str>>,
        /// Nanoseconds.
        duration: Option<u64>,
    }
    /// A message of a conversation, each once.
    Agent "message" Message<'a> {
        /// `system`, `user`, `assistant`, `tool`.
        #[serde(borrow)] role: Cow<'a, str>,
        /// Text or content blocks, redacted.
        content: Payload,
        /// Model that wrote it.
        #[serde(borrow)] model: Option<Cow<'a, str>>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// Position in the conversation, from 0, where that is known.
        index: Option<u32>,
        /// Fields beside these that the agent gave.
        extra: Payload,
    }
    /// Tokens used by one model request.
    Agent "usage" Usage<'a> {
        /// Model.
        #[serde(borrow)] model: Cow<'a, str>,
        /// Input tokens, cached ones included.
        input: u64,
        /// Input tokens read from a cache.
        cache_read: u64,
        /// Input tokens written to a cache.
        cache_write: u64,
        /// Output tokens.
        output: u64,
        /// US dollars, where the model's price is known.
        cost: Option<f64>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
    }
}
