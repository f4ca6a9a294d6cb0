//! One conversation: what was said in it, by keys, and how a request compares with that.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value as Json;

use super::AskId;
use super::conversations::Question;
use super::parts::{Key, Keyed, Known};

/// Calls without an id that wait for their results.
const MAX_OPEN: usize = 1024;

/// What is known of a conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    /// Empty for what a conversation was before it was taken back: another may go on from there.
    pub name: String,
    pub rules: Vec<Key>,
    pub tools: Option<Key>,
    pub known: Vec<Known>,
    /// Answers that the next request may repeat or leave out: cut ones, or one of several.
    pub perhaps: Vec<Vec<Known>>,
    /// How many of the parts were in the last request.
    pub asked: usize,
    pub pending: Option<AskId>,
    /// What the model said last, for the summary that it may be.
    pub last_said: String,
    pub used: u64,
    /// Calls to which the API gave no id: name, and the id that we gave.
    open: VecDeque<(String, String)>,
    /// Ids of results that were told.
    results: HashSet<Key>,
    /// The messages as they came, where later requests may bring only what is new.
    pub kept: Option<Vec<Json>>,
    pub kept_bytes: usize,
    /// Messages before the answer.
    pub messages: u32,
}

impl Conversation {
    /// The same for somebody else, who has no name yet.
    pub(super) fn nameless(&self) -> Self {
        Self { name: String::new(), pending: None, ..self.clone() }
    }

    pub(super) fn size(&self) -> usize {
        self.known.len() + self.perhaps.iter().map(Vec::len).sum::<usize>() + self.results.len()
    }

    /// How many parts of the list, from its beginning, are known here, an answer that may be there included.
    pub(super) fn prefix(&self, keys: &[Keyed]) -> usize {
        let same = |known: &[Known], keys: &[Keyed]| {
            known.iter().zip(keys).take_while(|(a, b)| a.key == b.key).count()
        };
        let prefix = same(&self.known, keys);
        if prefix < self.known.len() {
            return prefix;
        }
        let more = self.perhaps.iter().map(|perhaps| same(perhaps, &keys[prefix..]));
        prefix + more.max().unwrap_or(0)
    }

    /// Speaks under the same system prompt, or one that shares blocks with it.
    pub(super) fn has_rules(&self, question: &Question<'_>) -> bool {
        let none = self.rules.is_empty() && question.rules.is_empty();
        none || question.rules.iter().any(|rule| self.rules.contains(rule))
    }

    /// Which of the rules are new.
    pub(super) fn take_rules(&mut self, question: &Question<'_>) -> Vec<bool> {
        let fresh = question.rules.iter().map(|rule| !self.rules.contains(rule)).collect();
        // A request that goes on from a response may leave them out.
        if !question.rules.is_empty() {
            self.rules = question.rules.to_vec();
        }
        self.tools = question.tools.or(self.tools);
        fresh
    }

    /// Which of the keys are new, what is known then, and what is gone.
    pub(super) fn compare(&self, question: &Question<'_>) -> (Vec<bool>, Vec<Known>, Vec<Known>) {
        let mut there: HashMap<Key, VecDeque<Known>> = HashMap::new();
        for known in self.known.iter().chain(self.perhaps.iter().flatten()) {
            there.entry(known.key).or_default().push_back(*known);
        }
        let mut fresh = Vec::with_capacity(question.keys.len());
        let mut now = Vec::with_capacity(question.keys.len());
        for key in question.keys {
            let before = there.get_mut(&key.key).and_then(VecDeque::pop_front);
            fresh.push(before.is_none());
            let entry = question.positions.get(key.entry).copied().unwrap_or(0);
            let heard = before.is_some_and(|known| known.heard);
            now.push(Known { key: key.key, entry, heard, by_model: key.by_model });
        }
        let perhaps: HashSet<Key> = self.perhaps.iter().flatten().map(|known| known.key).collect();
        let mut gone: Vec<Known> =
            there.into_values().flatten().filter(|known| !perhaps.contains(&known.key)).collect();
        gone.sort_unstable_by_key(|known| known.entry);
        (fresh, now, gone)
    }

    /// The answer to what was asked last has come. Several, or one that is not whole, may be repeated or not.
    pub(super) fn answered(
        &mut self,
        ask: AskId,
        choices: Vec<Vec<Known>>,
        whole: bool,
        said: String,
    ) {
        if self.pending != Some(ask) {
            return;
        }
        self.pending = None;
        self.last_said = said;
        if let ([only], true) = (&choices[..], whole) {
            self.known.extend(only);
            self.messages = self.messages.saturating_add(1);
        } else {
            self.perhaps = choices;
        }
    }

    /// Nothing will answer what was asked last.
    pub(super) fn give_up(&mut self, ask: AskId) {
        if self.pending == Some(ask) {
            self.pending = None;
        }
    }

    /// The last part is the beginning of the answer, which goes on where it ends.
    pub(super) fn drop_last(&mut self) {
        self.known.pop();
        self.asked = self.asked.min(self.known.len());
    }

    /// A call without an id was told under one of ours.
    pub(super) fn open(&mut self, name: &str, id: &str) {
        if self.open.len() < MAX_OPEN {
            self.open.push_back((name.to_owned(), id.to_owned()));
        }
    }

    /// The id of the first call of that name whose result did not come yet.
    pub(super) fn close(&mut self, name: &str) -> Option<String> {
        let at = self.open.iter().position(|(open, _)| open == name || name.is_empty())?;
        self.open.remove(at).map(|(_, id)| id)
    }

    /// Whether this result was not told yet.
    pub(super) fn is_first_result(&mut self, id: Key) -> bool {
        self.results.insert(id)
    }

    /// Keeps messages for requests that bring only what is new.
    pub(super) fn keep(&mut self, messages: Vec<Json>, bytes: usize) {
        self.kept = Some(messages);
        self.kept_bytes = bytes;
    }

    /// Keeps more of them.
    pub(super) fn keep_more(&mut self, messages: &[Json], bytes: usize) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(messages);
            self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        }
    }
}

/// Whether a text holds most of the lines of what was said. Clients strip tags from a summary and put words before it.
pub(super) fn is_summary(said: &str, text: &str) -> bool {
    let lines = || said.lines().map(str::trim).filter(|line| line.len() >= 24).take(40);
    let there =
        lines().filter(|line| memchr::memmem::find(text.as_bytes(), line.as_bytes()).is_some());
    let (all, there) = (lines().count(), there.count());
    there > 0 && there * 2 >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_known_by_its_lines() {
        let said = "<summary>\n1. The user wants the tests of the parser to pass.\n2. Two of them failed because of a typo.\n</summary>";
        let text = "This session is being continued.\n1. The user wants the tests of the parser to pass.\n2. Two of them failed because of a typo.";
        assert!(is_summary(said, text));
        assert!(!is_summary("Done.", "Done."));
        assert!(!is_summary(said, "Fix the parser."));
    }
}
