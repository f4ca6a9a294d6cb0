//! What of each event can hold a secret.

use std::borrow::Cow;

use agentrec_trace::event::{Content, Payload};
use agentrec_trace::{Bytes, Data, Event};

use super::Session;
use crate::redact::Redactor;

impl Session {
    /// The event without its secrets.
    pub(super) fn redacted(&self, mut event: Event<'static>) -> Event<'static> {
        redact(&self.redactor, &mut event.data);
        event
    }
}

/// Removes the secrets of one event's data, except for the terminal's, which goes through [`super::terminal`].
pub(super) fn redact(redactor: &Redactor, data: &mut Data<'static>) {
    match data {
        // A path where nothing is may be anything that was taken for one. Others are kept: restoring needs them.
        Data::FileOpen(open) if open.errno.is_some() => text(redactor, &mut open.path),
        Data::ProcessExec(exec) => {
            if exec.errno.is_some() {
                text(redactor, &mut exec.path);
            }
            exec.argv = argv(redactor, &exec.argv);
            for (name, value) in &mut exec.env {
                if let Some(value) = value {
                    *value = env_value(redactor, name, value);
                }
            }
        }
        Data::HttpRequest(request) => {
            request.url = Cow::Owned(redactor.url(&request.url).into_owned());
            headers(redactor, &mut request.headers);
            content(redactor, &mut request.body);
        }
        Data::HttpResponse(response) => {
            headers(redactor, &mut response.headers);
            content(redactor, &mut response.body);
        }
        Data::HttpMessage(message) => content(redactor, &mut message.data),
        Data::ToolCall(call) => {
            payload(redactor, &mut call.arguments);
            if let Some(server) = &mut call.server {
                *server = Cow::Owned(redactor.str(server).into_owned());
            }
        }
        Data::ModelRequest(request) => {
            payload(redactor, &mut request.system_prompt);
            payload(redactor, &mut request.tools);
        }
        Data::ModelResponse(response) => {
            if let Some(error) = &mut response.error {
                *error = Cow::Owned(redactor.str(error).into_owned());
            }
        }
        Data::ToolResult(result) => {
            payload(redactor, &mut result.result);
            if let Some(error) = &mut result.error {
                *error = Cow::Owned(redactor.str(error).into_owned());
            }
        }
        Data::Message(message) => {
            payload(redactor, &mut message.content);
            payload(redactor, &mut message.extra);
        }
        Data::Lost(lost) => lost.reason = Cow::Owned(redactor.str(&lost.reason).into_owned()),
        Data::Other { fields, .. } => redactor.value(fields),
        _ => {}
    }
}

/// An argument vector.
pub(super) fn argv(redactor: &Redactor, argv: &[Bytes<'_>]) -> Vec<Bytes<'static>> {
    let argv: Vec<&[u8]> = argv.iter().map(Bytes::as_slice).collect();
    redactor.argv(&argv).into_iter().map(|arg| Bytes(Cow::Owned(arg.into_owned()))).collect()
}

/// The value of an environment variable.
pub(super) fn env_value(redactor: &Redactor, name: &[u8], value: &[u8]) -> Bytes<'static> {
    Bytes(Cow::Owned(redactor.env(name, value).into_owned()))
}

fn headers(redactor: &Redactor, headers: &mut [(Bytes<'static>, Bytes<'static>)]) {
    for (name, value) in headers {
        *value = Bytes(Cow::Owned(redactor.header(name, value).into_owned()));
    }
}

fn content(redactor: &Redactor, content: &mut Content<'static>) {
    if let Content::Inline(bytes) = content {
        text(redactor, bytes);
    }
}

fn text(redactor: &Redactor, bytes: &mut Bytes<'static>) {
    if let Cow::Owned(clean) = redactor.text(bytes) {
        *bytes = Bytes(Cow::Owned(clean));
    }
}

fn payload(redactor: &Redactor, payload: &mut Payload) {
    if let Payload::Inline(value) = payload {
        redactor.value(value);
    }
}
