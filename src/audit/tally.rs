//! Who did what how often: one entry for each subject, in bounded memory whatever a trace claims.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentrec_trace::{ProcId, Seq};

use super::people::Who;

/// Pairs of a subject and a process that are kept, in each list.
const MAX_PARTS: usize = 100_000;

/// Bytes of subjects that are kept, in each list.
const MAX_BYTES: usize = 32 << 20;

/// What a list is sorted by.
pub trait Subject: Ord {
    /// Bytes that it takes.
    fn weight(&self) -> usize;
}

impl Subject for Vec<u8> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Subject for String {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl<N: Ord, S: Subject> Subject for (N, S) {
    fn weight(&self) -> usize {
        self.1.weight()
    }
}

/// A process's part in something.
#[derive(Clone, Debug)]
pub struct Part {
    /// The kernel's pid.
    pub pid: u32,
    /// What the process ran when it did it first.
    pub command: Arc<str>,
    /// How often.
    pub times: u64,
    /// The first event.
    pub first: Seq,
}

/// One subject: how often, by whom, and what else is known of it.
#[derive(Clone, Debug)]
pub struct Item<S> {
    /// How often.
    pub times: u64,
    /// The first event.
    pub first: Seq,
    /// By whom.
    pub by: BTreeMap<ProcId, Part>,
    /// What else is known.
    pub state: S,
}

/// A list of subjects.
#[derive(Debug)]
pub struct Tally<K, S = ()> {
    items: BTreeMap<K, Item<S>>,
    parts: usize,
    bytes: usize,
    /// Events about subjects that there was no room for.
    pub beyond: u64,
}

impl<K, S> Default for Tally<K, S> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), parts: 0, bytes: 0, beyond: 0 }
    }
}

impl<K: Subject, S: Default> Tally<K, S> {
    /// `who` did it once more; the item's state is for the caller to bring up to date.
    pub fn note(&mut self, key: K, who: &Who, seq: Seq) -> Option<&mut S> {
        let Self { items, parts, bytes, beyond } = self;
        if !items.contains_key(&key) {
            if *parts >= MAX_PARTS || *bytes + key.weight() > MAX_BYTES {
                *beyond += 1;
                return None;
            }
            *bytes += key.weight();
        }
        let item = items.entry(key).or_insert_with(|| Item {
            times: 0,
            first: seq,
            by: BTreeMap::new(),
            state: S::default(),
        });
        item.times += 1;
        item.first = item.first.min(seq);
        if let Some(part) = item.by.get_mut(&who.id) {
            part.times += 1;
            part.first = part.first.min(seq);
        } else if *parts < MAX_PARTS {
            *parts += 1;
            let command = Arc::clone(&who.command);
            item.by.insert(who.id, Part { pid: who.pid, command, times: 1, first: seq });
        }
        Some(&mut item.state)
    }

    /// A subject.
    pub fn get(&self, key: &K) -> Option<&Item<S>> {
        self.items.get(key)
    }

    /// What is known of a subject.
    pub fn state_mut(&mut self, key: &K) -> Option<&mut S> {
        self.items.get_mut(key).map(|item| &mut item.state)
    }

    /// Whether a subject is in the list.
    pub fn contains(&self, key: &K) -> bool {
        self.items.contains_key(key)
    }

    /// All, sorted by subject.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Item<S>)> {
        self.items.iter()
    }

    /// How many subjects.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::people::People;
    use super::*;

    #[test]
    fn a_list_stops_growing_and_says_so() {
        let who = People::default().who(Some(ProcId(1)));
        let mut tally: Tally<Vec<u8>> = Tally::default();
        for n in 0..MAX_PARTS as u64 + 10 {
            tally.note(n.to_be_bytes().to_vec(), &who, Seq(n + 1));
        }
        assert_eq!((tally.len(), tally.beyond), (MAX_PARTS, 10));
        assert!(tally.note(0u64.to_be_bytes().to_vec(), &who, Seq(1)).is_some());
        let mut tally: Tally<Vec<u8>> = Tally::default();
        for n in 0..40 {
            tally.note(vec![n; 1 << 20], &who, Seq(1));
        }
        assert_eq!(tally.len() as u64 + tally.beyond, 40);
        assert!(tally.beyond > 0);
    }
}
