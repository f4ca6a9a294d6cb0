//! Whether a process trusts the certificates that we make for a name: known once a handshake of it has ended.
//!
//! A client that was refused what it trusts may try again at once, before its refusal was read. So who asks while a first
//! handshake is under way waits for it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{MAX_NAMES, lock};
use crate::observation::Tid;

/// How long a handshake is waited for: two connections that a client opens at once may wait for each other.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process and a name of a server.
pub(super) type Client = (Tid, String);

/// What is known, and who is being tried.
#[derive(Default)]
pub(super) struct Verdicts {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    trusts: HashMap<Client, bool>,
    /// Handshakes that are under way.
    trials: HashMap<Client, usize>,
}

impl Verdicts {
    /// Whether a client trusts us; none where that is not known yet.
    pub(super) fn of(&self, client: &Client) -> Option<bool> {
        let state = lock(&self.state);
        let is_open = |state: &mut State| {
            !state.trusts.contains_key(client) && state.trials.contains_key(client)
        };
        let waited = self.ended.wait_timeout_while(state, PATIENCE, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.trusts.get(client).copied()
    }

    /// A handshake with a client begins.
    pub(super) fn try_one(&self, client: Client) -> Trial<'_> {
        *lock(&self.state).trials.entry(client.clone()).or_default() += 1;
        Trial { verdicts: self, client, trusts: None }
    }
}

/// A handshake, which is over when this goes.
pub(super) struct Trial<'v> {
    verdicts: &'v Verdicts,
    client: Client,
    trusts: Option<bool>,
}

impl Trial<'_> {
    /// What it showed.
    pub(super) fn end(mut self, trusts: bool) {
        self.trusts = Some(trusts);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.verdicts.state);
        if let Some(trusts) = self.trusts
            && (state.trusts.len() < MAX_NAMES || state.trusts.contains_key(&self.client))
        {
            state.trusts.insert(self.client.clone(), trusts);
        }
        if let Some(open) = state.trials.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                state.trials.remove(&self.client);
            }
        }
        self.verdicts.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn client() -> Client {
        (7, "example.org".to_owned())
    }

    #[test]
    fn who_tries_again_at_once_waits_for_the_first_handshake() {
        let verdicts = Verdicts::default();
        assert_eq!(verdicts.of(&client()), None);
        for trusts in [true, false] {
            let verdicts = Verdicts::default();
            let trial = verdicts.try_one(client());
            thread::scope(|scope| {
                let second = scope.spawn(|| verdicts.of(&client()));
                trial.end(trusts);
                assert_eq!(second.join().unwrap(), Some(trusts));
            });
        }
    }

    #[test]
    fn a_handshake_that_showed_nothing_leaves_nothing() {
        let verdicts = Verdicts::default();
        drop(verdicts.try_one(client()));
        assert_eq!(verdicts.of(&client()), None);
        let (one, two) = (verdicts.try_one(client()), verdicts.try_one(client()));
        one.end(true);
        assert_eq!(verdicts.of(&client()), Some(true), "the second is not waited for");
        two.end(false);
        assert_eq!(verdicts.of(&client()), Some(false), "who distrusts us once is left alone");
    }
}
