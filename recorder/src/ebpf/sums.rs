//! What went through descriptors, as the programs sum it up, and how it gets into the model.
//!
//! The programs remove a sum with its descriptor's close. What is let go without one (an exec, an end) is settled here: what the
//! model follows at once, and the rest, such as pipes, when so much has come together that a look at the whole table pays.

use std::collections::HashSet;

use agentrec_recorder_ebpf::{Descriptor, SUMS, Sum, UNTOLD_CLOSE, UNTOLD_OPEN};
use aya::maps::{HashMap, MapData};

use super::attach::{Abi, Loaded};
use super::{Error, Watcher};
use crate::model::Interest;
use crate::observation::{Call, Direction, Observation, Tid};
use crate::source::Report;

/// Settled epochs after which the table is looked through.
const OFTEN: usize = 4096;

/// The table.
pub(super) struct Sums {
    table: HashMap<MapData, Abi<Descriptor>, Abi<Sum>>,
    /// Processes and epochs that were settled since it was looked through.
    settled: HashSet<(u32, u64)>,
}

impl Sums {
    pub(super) fn new(loaded: &mut Loaded) -> Result<Self, Error> {
        Ok(Self { table: loaded.map("SUMS")?, settled: HashSet::new() })
    }

    fn take(&mut self, descriptor: Descriptor) -> Option<Sum> {
        let key = Abi(descriptor);
        let Abi(sum) = self.table.get(&key, 0).ok()?;
        let _ = self.table.remove(&key);
        Some(sum)
    }

    /// Nothing more comes of that epoch.
    fn settled(&mut self, pid: u32, epoch: u64) {
        self.settled.insert((pid, epoch));
        if self.settled.len() < OFTEN {
            return;
        }
        // Programs change the table meanwhile; where they remove the key that was looked at last, the kernel begins anew
        // (bpf(2), BPF_MAP_GET_NEXT_KEY).
        let keys = self.table.keys().take(2 * SUMS as usize).flatten();
        let of_settled = |key: &Abi<Descriptor>| self.settled.contains(&(key.0.pid, key.0.epoch));
        let left: Vec<_> = keys.filter(of_settled).collect();
        for key in left {
            let _ = self.table.remove(&key);
        }
        self.settled.clear();
    }
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// What went through descriptors that are let go all at once.
    pub(super) fn settle(&mut self, tid: Tid, pid: u32, epoch: u64, ts: u64) {
        for fd in self.model.descriptors_of(tid) {
            if let Some(sum) = self.sums.take(Descriptor { epoch, pid, fd }) {
                match sum.written & (UNTOLD_OPEN | UNTOLD_CLOSE) {
                    0 => self.moved(tid, ts, fd, sum),
                    _ => self.forget(tid, ts, fd),
                }
            }
        }
        self.sums.settled(pid, epoch);
    }

    /// A call made `fd`; if it was another one's before, that one's close may be among what is lost.
    pub(super) fn made(&mut self, tid: Tid, ts: u64, fd: i32) {
        if self.model.interest(tid, fd) != Interest::None && self.losses.closes() > 0 {
            self.forget(tid, ts, fd);
        }
    }

    /// `fd` was closed some time ago, which is told as lost.
    fn forget(&mut self, tid: Tid, ts: u64, fd: i32) {
        let seen = Observation { tid, ts, call: Call::Close { fd }, result: Ok(0) };
        self.model.observe(&seen, &mut self.kernel, &mut Vec::new());
    }

    pub(super) fn moved(&mut self, tid: Tid, ts: u64, fd: i32, sum: Sum) {
        // As with ptrace: of what nobody saw being opened, nothing is said.
        if self.model.interest(tid, fd) == Interest::None {
            return;
        }
        for (direction, bytes) in [(Direction::Read, sum.read), (Direction::Write, sum.written)] {
            if bytes > 0 {
                self.observe(tid, ts, Call::Transfer { fd, direction }, Ok(bytes));
            }
        }
    }
}
