//! Whole recordings of real processes: what the front returns, what the trace holds, and that nothing is left stuck.

mod attached;
mod exit;
mod footprint;
mod harness;
mod incremental;
mod killed;
mod resumed;
mod signals;
mod snapshots;
mod socket;
mod stopping;
