//! Where the tracer can't carry out instructions in a thread's stead, there are no breakpoints: what goes through TLS
//! libraries is not seen.

use std::os::fd::RawFd;

use super::Tracer;
use super::tracee::{Stopped, Vanished};
use crate::observation::Tid;
use crate::source::Report;

#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    pub(super) are_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incomplete;

impl Breakpoints {
    pub(super) fn may_want(&self, _: &[u8]) -> bool {
        false
    }

    pub(super) fn opened(&mut self, _: Tid, _: RawFd) {}

    pub(super) fn closing(&mut self, _: &Stopped, _: Tid, _: RawFd) -> Result<(), Incomplete> {
        Ok(())
    }

    pub(super) fn executed(&mut self, _: &Stopped, _: Tid) -> Result<(), Incomplete> {
        Ok(())
    }

    pub(super) fn take_out(&self, _: &Stopped, _: Tid) -> bool {
        false
    }

    pub(super) fn forked(&mut self, _: Tid, _: Tid, _: u64) {}

    pub(super) fn ended(&mut self, _: Tid) {}

    pub(super) fn thread_ended(&mut self, _: Tid) {}
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    pub(super) fn passes_breakpoint(&mut self, _: &Stopped) -> Result<bool, Vanished> {
        Ok(false)
    }
}
