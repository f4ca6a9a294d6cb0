//! What is left of old contents, once it is told that they were changed.

use super::Watcher;
use crate::keep::{Keeper, Kept};
use crate::observation::Tid;
use crate::source::{Captured, Report};

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// Keeps what is left of what was changed outside of the roots.
    pub(crate) fn keep(&mut self, keeper: Option<Keeper>) {
        self.keeper = keeper;
    }

    /// Old contents come before the event that changes them, though nobody waits for that.
    pub(super) fn keep_what_is_left(&mut self, tid: Tid, captured: &Captured) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.settle(|| self.reports.flush());
        let (Some(kept), Some(author)) = (keeper.after(captured), self.model.author(tid)) else {
            return;
        };
        let kept = Kept::new(kept, captured.event.ts, author);
        let _ = self.reports.defer(Report::Kept(Box::new(kept)));
    }
}
