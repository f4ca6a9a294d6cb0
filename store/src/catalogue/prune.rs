//! Which sessions go when there are too many, or too large ones.

use std::fs;
use std::time::Duration;

use super::{Catalogue, Session, State};
use crate::error::Result;

/// What is to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneLimits {
    /// Sessions that began longer ago than this go.
    pub keep_last: Option<Duration>,
    /// The oldest go until the rest of the traces takes at most this, bytes.
    pub max_size: Option<u64>,
}

/// Why a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneReason {
    /// It is older than what is to be kept.
    Age,
    /// The younger ones take all the room.
    Size,
}

/// A session that would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The session.
    pub session: Session,
    /// Why.
    pub reason: PruneReason,
    /// Bytes of its trace.
    pub bytes: u64,
}

impl Catalogue {
    /// What a prune at `now` (nanoseconds since 1970) would remove: nothing is touched, [`Catalogue::remove`] does it.
    ///
    /// Only traces in the data directory count and go; a running session stays.
    pub fn plan_prune(&self, limits: PruneLimits, now: i64) -> Result<Vec<Pruned>> {
        let oldest = limits
            .keep_last
            .map(|age| now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)));
        let mut kept = 0_u64;
        let mut pruned = Vec::new();
        // The latest first, so that the room goes to them.
        for session in self.list()? {
            if !self.is_in_home(&session.trace) {
                continue;
            }
            let bytes = fs::metadata(&session.trace).map_or(0, |metadata| metadata.len());
            let reason = if session.state == State::Recording {
                None
            } else if oldest.is_some_and(|oldest| session.started < oldest) {
                Some(PruneReason::Age)
            } else if limits.max_size.is_some_and(|max| kept.saturating_add(bytes) > max) {
                Some(PruneReason::Size)
            } else {
                None
            };
            match reason {
                Some(reason) => pruned.push(Pruned { session, reason, bytes }),
                None => kept = kept.saturating_add(bytes),
            }
        }
        pruned.reverse();
        Ok(pruned)
    }
}
