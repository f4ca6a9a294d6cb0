//! What a transcript says becomes events, where nobody else tells it.

use agentrec_trace::event::{
    Certainty, Link, Message, ModelRequest, ModelResponse, Payload, ToolCall, Usage,
};
use agentrec_trace::{Data, Event, ProcId, Seq, Source};
use agentrec_wire::llm::{Answer, Round, Told};

use super::{Branch, Fate, Held};
use crate::session::http::{Telling, id_key, message_key};
use crate::session::{Session, boottime, wall_clock};

/// Bytes of lines that wait. With more, none waits for an answer on the wire.
const MAX_HELD: usize = 64 << 20;

impl Session {
    /// Tells the rounds of which it is known whether the wire tells them, too; or all.
    pub(super) fn tell_transcripts(&mut self, all: bool) {
        if self.transcripts.held.iter().any(|held| held.fence.is_none()) {
            if let Some(control) = self.control.as_ref().filter(|_| !all && !self.tree_ended) {
                self.next_fence += 1;
                control.fence(self.next_fence);
            }
            let fence = Some(self.next_fence);
            let new = self.transcripts.held.iter_mut().filter(|held| held.fence.is_none());
            new.for_each(|held| held.fence = fence);
        }
        while let Some(held) = self.transcripts.held.front() {
            let reached = self.tree_ended || held.fence.is_some_and(|fence| self.fence >= fence);
            let waits = self.talk.waits() && self.transcripts.held_size <= MAX_HELD;
            if !all && (!reached || waits) {
                return;
            }
            let Some(Held { file, round, .. }) = self.transcripts.held.pop_front() else { return };
            self.transcripts.held_size -= round.size;
            self.tell_round(file, round);
        }
        self.transcripts.files.retain(|_, file| file.reading.is_some());
    }

    fn tell_round(&mut self, number: u32, round: Round) {
        let Round { branch: key, inputs, answer, .. } = round;
        let Some(file) = self.transcripts.files.get(&number) else { return };
        let proc = file.proc;
        let Branch { name, last } = file.branches.get(&key).cloned().unwrap_or_default();
        let fate = match (&answer, last) {
            (Some(answer), Some((number, fate))) if number == answer.number => fate,
            (Some(answer), _) if self.is_on_the_wire(answer) => Fate::Known,
            // The wire tells a request that has no answer, in words of its own.
            (None, Some((_, Fate::Known))) => Fate::Known,
            (None, None) if proc.is_some_and(|proc| self.talk.has_asked(proc)) => Fate::Known,
            _ => Fate::Told(None),
        };
        let Fate::Told(response) = fate else {
            return self.remember(
                number,
                key,
                Branch { name, last: answer.map(|it| (it.number, fate)) },
            );
        };
        let name = name.unwrap_or_else(|| self.talk.next_name());
        let asked_at = inputs.last().and_then(|(at, _)| *at);
        self.tell_from_transcript(inputs, proc, None, &name);
        let mut last = last;
        if let Some(answer) = answer {
            let response = response.or_else(|| self.tell_asked(&answer, asked_at, proc, &name));
            last = Some((answer.number, Fate::Told(response)));
            self.tell_from_transcript(answer.told, proc, response, &name);
        }
        self.remember(number, key, Branch { name: Some(name), last });
    }

    fn remember(&mut self, file: u32, key: Option<String>, branch: Branch) {
        if let Some(file) = self.transcripts.files.get_mut(&file) {
            file.branches.insert(key, branch);
        }
    }

    /// Whether the same answer was read off the wire.
    fn is_on_the_wire(&self, answer: &Answer) -> bool {
        let said = &self.talk.said;
        answer.id.as_deref().is_some_and(|id| self.talk.has_answer(id))
            || answer.told.iter().any(|(_, told)| match told {
                Told::Call(call) => said.is_told_by(id_key(false, &call.id), &Source::Wire),
                // A name says more than words that may have been said twice.
                Told::Message(message) if answer.id.is_none() => {
                    said.is_told_by(message_key(message), &Source::Wire)
                }
                _ => false,
            })
    }

    /// That a model was asked, and answered: as much as the answer shows of that. The `model.response`.
    fn tell_asked(
        &mut self,
        answer: &Answer,
        asked_at: Option<i64>,
        proc: Option<ProcId>,
        name: &str,
    ) -> Option<Seq> {
        let model = answer.model.clone().unwrap_or_default();
        let request = ModelRequest {
            conversation: Some(name.to_owned().into()),
            dialect: answer.dialect.as_str().into(),
            model: model.clone().into(),
            system_prompt: Payload::Inline(answer.system_prompt.clone()),
            ..ModelRequest::default()
        };
        let request = self.noted(asked_at.or(answer.began), proc, None, request);
        let request = self.write(self.redacted(request));
        let response = ModelResponse {
            request,
            model: model.into(),
            finish: answer.finish.clone().map(Into::into),
            ..ModelResponse::default()
        };
        let response = self.noted(answer.ended, proc, None, response);
        self.write(self.redacted(response))
    }

    fn tell_from_transcript(
        &mut self,
        told: Vec<(Option<i64>, Told)>,
        proc: Option<ProcId>,
        cause: Option<Seq>,
        name: &str,
    ) {
        for (at, told) in told {
            let conversation = Some(name.to_owned().into());
            let data: Data<'static> = match told {
                Told::Message(message) => Message { conversation, ..message }.into(),
                Told::Call(call) => ToolCall { conversation, ..call }.into(),
                Told::Usage(usage) => Usage { conversation, ..usage }.into(),
                Told::Result(result) => result.into(),
                Told::Dropped(_) => continue,
            };
            let event = self.noted(at, proc, cause, data);
            let ts = event.ts;
            let (call, result) = match &event.data {
                Data::ToolCall(call) => (Some((call.id.to_string(), call.arguments.clone())), None),
                Data::ToolResult(result) => (None, Some(result.id.to_string())),
                _ => (None, None),
            };
            if let Telling::Now(seq) = self.tell_once(event)
                && let Some((id, arguments)) = call
            {
                self.transcripts.ties.called(id, seq, (proc, ts), &arguments);
            }
            for (from, to) in
                result.map_or(Vec::new(), |id| self.transcripts.ties.returned(&id, ts))
            {
                let certainty = Certainty::Recorded;
                self.note(Link { from, to, kind: "call-process".into(), certainty });
            }
        }
    }

    /// An event of the time that a line has.
    fn noted(
        &self,
        at: Option<i64>,
        proc: Option<ProcId>,
        cause: Option<Seq>,
        data: impl Into<Data<'static>>,
    ) -> Event<'static> {
        let now = boottime();
        let ago = at.map_or(0, |at| wall_clock().saturating_sub(at).max(0).unsigned_abs());
        let at = now.saturating_sub(ago).max(self.started.boottime);
        let event = Event::new(at, Source::Transcript, data);
        Event { proc, cause, ..event }
    }
}
