//! Which call of a model a call to a server carries out: the one of the same tool with the same arguments.

use std::hash::{DefaultHasher, Hash, Hasher};

use agentrec_trace::event::{Certainty, Link, Payload, ToolCall};
use agentrec_trace::{Seq, Value};

/// What both are known again by.
#[derive(Clone, Debug)]
pub(in crate::session) struct Half {
    /// Whatever is neither letter nor digit is an underscore: APIs allow few other characters.
    name: Vec<u8>,
    arguments: u64,
}

/// Calls that were seen from one side.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Of models and of the agent, without results.
    asked: Vec<Asked>,
    /// To servers, for which nobody had asked yet: an agent may begin before the model's answer is over.
    early: Vec<(Seq, Half)>,
}

#[derive(Debug)]
struct Asked {
    call: Seq,
    half: Half,
    /// A server was called for it.
    taken: bool,
}

/// Calls that are remembered: some never have a result.
const MAX_ASKED: usize = 256;
const MAX_EARLY: usize = 64;

/// From a call of a tool to the one by which a server carries it out.
const KIND: &str = "call-execution";

impl Half {
    pub(in crate::session) fn of(call: &ToolCall<'_>) -> Self {
        let name = call.name.bytes().map(|b| if b.is_ascii_alphanumeric() { b } else { b'_' });
        let mut hasher = DefaultHasher::new();
        match &call.arguments {
            Payload::Inline(value) => hash(value, &mut hasher, 0),
            Payload::Object { id, .. } => id.hash(&mut hasher),
            Payload::Json { id, at, len } => (id, at, len).hash(&mut hasher),
        }
        Self { name: name.collect(), arguments: hasher.finish() }
    }

    /// Whether a server's tool is the one that is meant: models know it as `mcp__server__tool` and the like.
    fn is_carried_out_by(&self, server: &Self) -> bool {
        let begin = self.name.strip_suffix(&*server.name);
        self.arguments == server.arguments
            && begin.is_some_and(|begin| begin.last().is_none_or(|last| *last == b'_'))
    }
}

impl Carried {
    pub(super) fn asked(&mut self, call: Seq, half: Half) -> Option<Link<'static>> {
        let early = self.early.iter().position(|(_, server)| half.is_carried_out_by(server));
        let early = early.map(|early| self.early.remove(early).0);
        if self.asked.len() >= MAX_ASKED {
            self.asked.remove(0);
        }
        self.asked.push(Asked { call, half, taken: early.is_some() });
        // Which of several is the one nobody can tell, and that it is one at all follows from the times.
        early.map(|to| link(call, to, Certainty::Inferred))
    }

    pub(super) fn carried_out(&mut self, call: Seq, half: Half) -> Option<Link<'static>> {
        let fits = |asked: &&mut Asked| asked.half.is_carried_out_by(&half);
        let mut fitting: Vec<_> = self.asked.iter_mut().filter(fits).collect();
        let free = fitting.iter().filter(|asked| !asked.taken).count();
        // Where all were, it is tried once more.
        let index = fitting.iter().position(|asked| free == 0 || !asked.taken);
        let Some(found) = index.map(|index| fitting.swap_remove(index)) else {
            if self.early.len() >= MAX_EARLY {
                self.early.remove(0);
            }
            self.early.push((call, half));
            return None;
        };
        found.taken = true;
        let certainty = if free == 1 { Certainty::Recorded } else { Certainty::Inferred };
        Some(link(found.call, call, certainty))
    }

    pub(super) fn ended(&mut self, call: Seq) {
        self.asked.retain(|asked| asked.call != call);
    }

    pub(super) fn forget_early(&mut self) {
        self.early.clear();
    }
}

fn link(from: Seq, to: Seq, certainty: Certainty) -> Link<'static> {
    Link { from, to, kind: KIND.into(), certainty }
}

/// What arguments mean: whatever the order of fields, without those that are null, and none at all as an empty object.
fn hash(value: &Value, hasher: &mut DefaultHasher, depth: u32) {
    if depth > 32 {
        return;
    }
    match value {
        Value::Nil if depth == 0 => 0u64.hash(hasher),
        Value::Map(fields) => {
            let mut sum = 0u64;
            for (name, value) in fields.iter().filter(|(_, value)| *value != Value::Nil) {
                let mut field = DefaultHasher::new();
                hash(name, &mut field, depth + 1);
                hash(value, &mut field, depth + 1);
                sum = sum.wrapping_add(field.finish());
            }
            sum.hash(hasher);
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash(item, hasher, depth + 1));
        }
        Value::String(text) => text.as_bytes().hash(hasher),
        Value::Integer(number) => number.as_f64().map(f64::to_bits).hash(hasher),
        Value::F64(number) => Some(number.to_bits()).hash(hasher),
        other => other.to_string().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(name: &'static str, arguments: &str) -> Half {
        let value: serde_json::Value = serde_json::from_str(arguments).unwrap();
        let arguments = Payload::Inline(serde_json::from_value(value).unwrap());
        Half::of(&ToolCall { name: name.into(), arguments, ..ToolCall::default() })
    }

    fn tied(link: Option<Link<'_>>) -> Option<(u64, u64, Certainty)> {
        link.map(|link| (link.from.0, link.to.0, link.certainty))
    }

    #[test]
    fn a_tool_is_known_again_behind_its_servers_name() {
        let tool = half("get.sum", r#"{"a": 1, "b": {"c": "x", "d": 2.0}}"#);
        let arguments = r#"{"b": {"d": 2, "c": "x", "e": null}, "a": 1}"#;
        for name in ["get.sum", "mcp__math__get_sum", "math-get_sum", "math/get.sum"] {
            assert!(half(name, arguments).is_carried_out_by(&tool), "{name}");
        }
        assert!(!half("forget_sum", arguments).is_carried_out_by(&tool));
        assert!(!half("get_sum_of", arguments).is_carried_out_by(&tool));
        assert!(!half("get_sum", r#"{"a": 2}"#).is_carried_out_by(&tool));
        assert!(half("now", "{}").is_carried_out_by(&half("now", "null")));
    }

    #[test]
    fn each_call_of_a_model_is_carried_out_by_another() {
        let mut carried = Carried::default();
        for call in [1, 2] {
            assert_eq!(tied(carried.asked(Seq(call), half("mcp__s__t", "{}"))), None);
        }
        assert_eq!(tied(carried.asked(Seq(3), half("mcp__s__u", "{}"))), None);
        let recorded = Certainty::Recorded;
        assert_eq!(tied(carried.carried_out(Seq(4), half("u", "{}"))), Some((3, 4, recorded)));
        let t = || half("t", "{}");
        assert_eq!(tied(carried.carried_out(Seq(5), t())), Some((1, 5, Certainty::Inferred)));
        assert_eq!(tied(carried.carried_out(Seq(6), t())), Some((2, 6, recorded)));
        // Tried once more; and what has its result is called no more.
        carried.ended(Seq(1));
        assert_eq!(tied(carried.carried_out(Seq(7), t())), Some((2, 7, Certainty::Inferred)));
        carried.ended(Seq(2));
        assert_eq!(tied(carried.carried_out(Seq(8), t())), None);
        // An agent that does not wait for the end of the answer.
        assert_eq!(tied(carried.asked(Seq(9), t())), Some((9, 8, Certainty::Inferred)));
        assert_eq!(tied(carried.carried_out(Seq(10), half("v", "{}"))), None);
        carried.forget_early();
        assert_eq!(tied(carried.asked(Seq(11), half("v", "{}"))), None);
    }
}
