//! Which response answers which request: by their order alone (RFC 9112, 9.3.2).

use std::collections::VecDeque;

use crate::item::ExchangeId;
use crate::limits::MAX_PIPELINED;

/// A request that waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) exchange: ExchangeId,
    /// Its method is HEAD.
    pub(crate) is_head: bool,
    /// Its method is CONNECT.
    pub(crate) is_connect: bool,
    /// It asks for another protocol, or for a tunnel: nothing of HTTP is sent before the answer.
    pub(crate) waits: bool,
}

/// The requests that wait.
#[derive(Default)]
pub(crate) struct Pairing {
    queue: VecDeque<Pending>,
    /// A request was sent before the one before it was answered.
    pipelined: bool,
    /// Messages may have gone by unseen.
    doubtful: bool,
}

impl Pairing {
    /// For a connection that was joined in the middle.
    pub(crate) fn joined() -> Self {
        Self { doubtful: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Messages may go by unseen from here on.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// A request began.
    ///
    /// After a doubt, one from a client that has always waited for answers means that all before it was answered. Of a
    /// client that pipelines nothing can be known any more.
    ///
    /// Returns false where too many wait.
    pub(crate) fn asked(&mut self, pending: Pending) -> bool {
        if self.doubtful && !self.pipelined {
            self.queue.clear();
            self.doubtful = false;
        }
        self.pipelined |= !self.queue.is_empty();
        if self.queue.len() == MAX_PIPELINED {
            self.queue.clear();
            self.doubtful = true;
            return false;
        }
        self.queue.push_back(pending);
        true
    }

    /// The request that an interim response belongs to.
    pub(crate) fn current(&self) -> Option<Pending> {
        self.queue.front().filter(|_| !self.doubtful || !self.pipelined).copied()
    }

    /// The request that a response answers, if that is known.
    pub(crate) fn answered(&mut self) -> Option<Pending> {
        let current = self.current();
        self.queue.pop_front();
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(number: u64) -> Pending {
        let exchange = ExchangeId(number);
        Pending { exchange, is_head: false, is_connect: false, waits: false }
    }

    #[test]
    fn a_doubt_ends_with_the_next_request_unless_the_client_pipelines() {
        let mut pairing = Pairing::joined();
        assert_eq!(pairing.answered(), None);
        pairing.asked(pending(1));
        assert_eq!(pairing.answered(), Some(pending(1)));
        pairing.asked(pending(2));
        pairing.doubt();
        assert_eq!(pairing.current(), Some(pending(2)));
        pairing.asked(pending(3));
        assert_eq!(pairing.answered(), Some(pending(3)));

        pairing.asked(pending(4));
        pairing.asked(pending(5));
        assert_eq!(pairing.answered(), Some(pending(4)));
        pairing.doubt();
        assert_eq!(pairing.answered(), None);
        pairing.asked(pending(6));
        assert_eq!(pairing.answered(), None);
    }
}
