//! Which conversation a request belongs to, and what of it is new.
//!
//! Every request repeats what was said before, so a conversation is known by the keys of its parts. A request continues
//! the one whose parts are its longest prefix. Where none is, it may still be one of them, edited: then it repeats
//! something that this conversation's model said.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::known::{Conversation, is_summary};
use super::parts::{Key, Keyed, Known};
use super::{AskId, Dropped, Edit};

/// Conversations that are kept, with those that were left behind.
const MAX_CONVERSATIONS: usize = 512;

/// Parts of all conversations together: 24 bytes each.
const MAX_PARTS: usize = 1 << 20;

/// Responses that a later request may name.
const MAX_RESPONSES: usize = 4096;

/// Bytes of requests that are kept for those that only bring what is new.
const MAX_KEPT: usize = 64 << 20;

/// How many conversations a summary is looked for in.
const MAX_SUMMARIES: usize = 8;

/// A request's list, as it is compared.
pub(super) struct Question<'a> {
    pub ask: AskId,
    pub keys: &'a [Keyed],
    /// The position of each entry.
    pub positions: &'a [u32],
    pub rules: &'a [Key],
    pub tools: Option<Key>,
    /// The response that it goes on from.
    pub previous: Option<&'a str>,
    /// All that is not the model's own, to look for a summary in.
    pub text: &'a dyn Fn() -> String,
}

/// Where a request belongs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub conversation: u64,
    pub is_new: bool,
    pub branch_of: Option<String>,
    /// Which of the keys are new.
    pub fresh: Vec<bool>,
    /// Which of the rules are new.
    pub fresh_rules: Vec<bool>,
    pub dropped: Option<Dropped>,
    pub repeats: bool,
    pub partial: bool,
    /// Messages before those that the request brings.
    pub offset: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: BTreeMap<u64, Conversation>,
    next: u64,
    named: u32,
    clock: u64,
    /// Where a response that has an id ended.
    ends: HashMap<String, Place>,
    ends_in_order: VecDeque<String>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    conversation: u64,
    parts: usize,
    messages: u32,
}

enum Choice {
    /// All that is known is there.
    Continue(u64),
    /// Something is missing; the number of parts before that.
    Edit(u64, Option<Edit>),
    /// It begins as a copy.
    Branch(u64),
    New,
}

impl Conversations {
    pub(super) fn get(&mut self, id: u64) -> Option<&mut Conversation> {
        self.all.get_mut(&id)
    }

    /// Finds the request's place, and takes note of it.
    pub(super) fn place(&mut self, question: &Question<'_>) -> Found {
        self.clock += 1;
        let found = match question.previous.map(|previous| self.ends.get(previous).copied()) {
            Some(Some(place)) if self.all.contains_key(&place.conversation) => {
                self.go_on(question, place)
            }
            Some(_) => Found { partial: true, ..self.begin(question, Conversation::default()) },
            None => match self.choose(question) {
                Choice::Continue(id) => self.take(question, id, None),
                Choice::Edit(id, how) => self.take(question, id, how.or(Some(Edit::Edited))),
                Choice::Branch(of) => self.branch(question, of),
                Choice::New => self.begin(question, Conversation::default()),
            },
        };
        self.make_room(found.conversation);
        found
    }

    fn choose(&self, question: &Question<'_>) -> Choice {
        let keys = question.keys;
        let full = self.all.iter().filter_map(|(id, conversation)| {
            let prefix = conversation.prefix(keys);
            let is_full = prefix > 0 && prefix >= conversation.known.len();
            let answered = || conversation.known.iter().any(|known| known.by_model);
            let related = conversation.has_rules(question) || answered();
            (is_full && related).then_some((
                prefix,
                !conversation.name.is_empty(),
                conversation.used,
                *id,
            ))
        });
        if let Some((.., id)) = full.max() {
            return self.unless_asked(id, Choice::Continue(id));
        }
        let said: HashSet<Key> =
            keys.iter().filter(|key| key.by_model).map(|key| key.key).collect();
        let live = || self.all.iter().filter(|(_, conversation)| !conversation.name.is_empty());
        let partly = live().filter_map(|(id, conversation)| {
            let repeated = conversation
                .known
                .iter()
                .filter(|known| known.heard && said.contains(&known.key))
                .count();
            let prefix = conversation.prefix(keys);
            let same_rules = conversation.has_rules(question);
            // All that was asked is asked again: only the answer was not taken.
            let again = conversation.asked > 0 && prefix >= conversation.asked && same_rules;
            (repeated > 0 || again).then_some((
                repeated,
                same_rules,
                prefix,
                conversation.used,
                *id,
            ))
        });
        if let Some((.., id)) = partly.max() {
            return self.unless_asked(id, Choice::Edit(id, None));
        }
        let mut recent: Vec<_> =
            live().filter(|(_, c)| c.pending.is_none() && !c.last_said.is_empty()).collect();
        recent.retain(|(_, c)| {
            c.has_rules(question) || (c.tools.is_some() && c.tools == question.tools)
        });
        recent.sort_unstable_by_key(|(_, conversation)| std::cmp::Reverse(conversation.used));
        recent.truncate(MAX_SUMMARIES);
        if !recent.is_empty() {
            let text = (question.text)();
            if let Some((id, _)) = recent.iter().find(|(_, c)| is_summary(&c.last_said, &text)) {
                return Choice::Edit(**id, Some(Edit::Compacted));
            }
        }
        Choice::New
    }

    /// Whose answer is still to come can't have gone on: then it is a branch.
    fn unless_asked(&self, id: u64, choice: Choice) -> Choice {
        let pending = self.all.get(&id).is_some_and(|conversation| conversation.pending.is_some());
        if pending { Choice::Branch(id) } else { choice }
    }

    /// A conversation of its own.
    fn begin(&mut self, question: &Question<'_>, conversation: Conversation) -> Found {
        let id = self.next;
        self.next += 1;
        self.all.insert(id, conversation);
        let found = self.take(question, id, None);
        Found { is_new: true, ..found }
    }

    fn branch(&mut self, question: &Question<'_>, of: u64) -> Found {
        let Some(from) = self.all.get(&of) else {
            return self.begin(question, Conversation::default());
        };
        let branch_of = from.name.clone();
        let copy = from.nameless();
        let found = self.begin(question, copy);
        // What the branch leaves out is not gone: the other one has it.
        Found { branch_of: Some(branch_of), dropped: None, repeats: false, ..found }
    }

    /// A request that brings only what is new.
    fn go_on(&mut self, question: &Question<'_>, place: Place) -> Found {
        let mut id = place.conversation;
        let mut branch_of = None;
        // Nobody went on from there, or who did got no answer and asks again.
        let is_end = |c: &Conversation| {
            c.pending.is_none() && (c.known.len() <= place.parts || c.known.len() <= c.asked)
        };
        if let Some(from) = self.all.get(&id).filter(|conversation| !is_end(conversation)) {
            branch_of = Some(from.name.clone());
            let mut copy = from.nameless();
            copy.known.truncate(place.parts);
            copy.perhaps.clear();
            (id, self.next) = (self.next, self.next + 1);
            self.all.insert(id, copy);
        }
        let name = self.name_for(id);
        let clock = self.clock;
        let Some(conversation) = self.all.get_mut(&id) else { return Found::default() };
        conversation.name = name;
        if let Some(kept) = &mut conversation.kept {
            kept.truncate(place.messages as usize);
        }
        let fresh_rules = conversation.take_rules(question);
        let before = conversation.known.split_off(place.parts.min(conversation.known.len()));
        let repeats = !before.is_empty()
            && before.iter().map(|known| known.key).eq(question.keys.iter().map(|key| key.key));
        let (mut fresh, mut known) = (Vec::new(), Vec::new());
        for key in question.keys {
            let position = question.positions.get(key.entry).copied().unwrap_or(0);
            let entry = place.messages.saturating_add(position);
            fresh.push(!before.iter().any(|known| known.key == key.key));
            known.push(Known { key: key.key, entry, heard: false, by_model: key.by_model });
        }
        conversation.perhaps.clear();
        conversation.known.extend(known);
        conversation.asked = conversation.known.len();
        conversation.messages = place.messages.saturating_add(count(question.positions));
        conversation.pending = Some(question.ask);
        conversation.used = clock;
        Found {
            conversation: id,
            is_new: branch_of.is_some(),
            branch_of,
            fresh,
            fresh_rules,
            repeats,
            offset: place.messages,
            ..Found::default()
        }
    }

    /// The name it has, or the next one.
    fn name_for(&mut self, id: u64) -> String {
        if let Some(conversation) =
            self.all.get(&id).filter(|conversation| !conversation.name.is_empty())
        {
            return conversation.name.clone();
        }
        self.next_name()
    }

    /// A name that none has.
    pub(super) fn next_name(&mut self) -> String {
        let number = self.named;
        self.named += 1;
        if number == 0 { "main".to_owned() } else { letters(number - 1) }
    }

    /// Makes the request's list the conversation's.
    fn take(&mut self, question: &Question<'_>, id: u64, edited: Option<Edit>) -> Found {
        let is_new = self.all.get(&id).is_some_and(|conversation| conversation.name.is_empty());
        let name = self.name_for(id);
        let clock = self.clock;
        let Some(conversation) = self.all.get_mut(&id) else { return Found::default() };
        let fresh_rules = conversation.take_rules(question);
        let prefix = conversation.prefix(question.keys);
        let repeats = conversation.asked > 0
            && conversation.asked == question.keys.len()
            && prefix >= conversation.asked;
        let (fresh, known, gone) = conversation.compare(question);
        let matched = fresh.iter().filter(|fresh| !**fresh).count();
        let dropped = edited.filter(|_| !gone.is_empty()).map(|how| {
            let is_end = matched <= prefix && how == Edit::Edited;
            let entries: BTreeSet<u32> = gone.iter().map(|known| known.entry).collect();
            Dropped {
                conversation: name.clone(),
                messages: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                index: entries.first().copied().unwrap_or(0),
                how: if is_end { Edit::Rewound } else { how },
            }
        });
        // Who goes on from what was taken back is somebody else, who shared it.
        let left = dropped.as_ref().is_some_and(|dropped| dropped.how == Edit::Rewound)
            && gone.iter().any(|known| known.heard);
        let left = left.then(|| conversation.nameless());
        conversation.name = name;
        conversation.known = known;
        conversation.perhaps.clear();
        conversation.asked = question.keys.len();
        conversation.messages = count(question.positions);
        conversation.pending = Some(question.ask);
        conversation.used = clock;
        if let Some(left) = left {
            self.all.insert(self.next, left);
            self.next += 1;
        }
        Found { conversation: id, is_new, fresh, fresh_rules, dropped, repeats, ..Found::default() }
    }

    /// A response ended, under a name that a later request may use.
    pub(super) fn ended(&mut self, id: u64, response: &str) {
        let Some(conversation) = self.all.get(&id) else { return };
        let place = Place {
            conversation: id,
            parts: conversation.known.len(),
            messages: conversation.messages,
        };
        if self.ends.insert(response.to_owned(), place).is_none() {
            self.ends_in_order.push_back(response.to_owned());
            if self.ends_in_order.len() > MAX_RESPONSES
                && let Some(oldest) = self.ends_in_order.pop_front()
            {
                self.ends.remove(&oldest);
            }
        }
    }

    /// Forgets what was not used for longest, until there is room.
    fn make_room(&mut self, current: u64) {
        let total =
            |all: &BTreeMap<u64, Conversation>| all.values().map(Conversation::size).sum::<usize>();
        while self.all.len() > MAX_CONVERSATIONS
            || (self.all.len() > 1 && total(&self.all) > MAX_PARTS)
        {
            let old = self.all.iter().filter(|(id, _)| **id != current);
            let Some((&oldest, _)) = old.min_by_key(|(_, c)| (c.pending.is_some(), c.used)) else {
                return;
            };
            self.all.remove(&oldest);
        }
        while self.all.values().map(|c| c.kept_bytes).sum::<usize>() > MAX_KEPT {
            let holding = self.all.values_mut().filter(|conversation| conversation.kept_bytes > 0);
            let Some(oldest) = holding.min_by_key(|conversation| conversation.used) else { return };
            (oldest.kept, oldest.kept_bytes) = (None, 0);
        }
    }
}

/// One more than the last position.
fn count(positions: &[u32]) -> u32 {
    positions.iter().max().map_or(0, |last| last.saturating_add(1))
}

/// `a`, `b`, … `z`, `aa`, …
fn letters(mut number: u32) -> String {
    let mut name = Vec::new();
    loop {
        name.insert(0, b'a' + (number % 26) as u8);
        match (number / 26).checked_sub(1) {
            Some(rest) => number = rest,
            None => return String::from_utf8(name).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_on_after_the_alphabet() {
        let names: Vec<_> = [0, 25, 26, 27, 701, 702].into_iter().map(letters).collect();
        assert_eq!(names, ["a", "z", "aa", "ab", "zz", "aaa"]);
    }
}
