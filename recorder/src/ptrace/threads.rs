//! What the tracer keeps for each thread, and for those that stopped before their parent told of them.

use std::collections::{HashMap, VecDeque};

use super::lending::Pace;
use super::registers::{self, Start};
use super::sums::Moving;
use super::tracee::{Stop, Stopped, Vanished};
use crate::calls::abi::Abi;
use crate::calls::decode::Entry;
use crate::keep::Before;
use crate::observation::{Tid, Usage};
use crate::proc;
use crate::source::ExitStatus;

/// What threads of a process share, where it was not seen.
pub(super) const THREAD_FLAGS: u64 =
    (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS) as u64;

/// A traced thread.
#[derive(Debug)]
pub(super) struct Thread {
    /// Its process: the leader's id.
    pub(super) process: Tid,
    /// Its first stop is behind it.
    pub(super) started: bool,
    /// It passed its exit stop.
    pub(super) exiting: bool,
    /// The call that it is in, where its exit is waited for.
    pub(super) entry: Option<Entry>,
    /// What that call is about to change.
    pub(super) before: Option<Box<Before>>,
    /// Flags of its last clone3(2).
    pub(super) clone3_flags: u64,
    /// The call that it went into, where it is asked for at the next stop.
    pub(super) moving: Option<Moving>,
    pub(super) pace: Pace,
    /// What has to be put back at the exit of its call, or at its first stop.
    pub(super) undo: Option<Undo>,
}

impl Thread {
    pub(super) fn new(process: Tid, undo: Option<Undo>) -> Self {
        Self {
            process,
            started: false,
            exiting: false,
            entry: None,
            before: None,
            clone3_flags: 0,
            moving: None,
            pace: Pace::default(),
            undo,
        }
    }

    /// Whether the exit of its call is waited for.
    pub(super) fn in_call(&self) -> bool {
        self.entry.is_some() || self.undo.is_some()
    }
}

/// What the tracer changed in a tracee for the length of one call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    /// The register of the first argument, which x86 preserves across calls.
    FirstArgument { abi: Abi, value: u64 },
    /// Eight bytes of memory.
    Memory { address: u64, value: u64 },
    /// Where to connect to: the first words of a `struct sockaddr`, so many of them.
    Address { address: u64, words: usize, before: [u64; 3] },
}

impl Undo {
    /// Changes the first argument of the call that `stopped` goes into.
    pub(super) fn first_argument(
        stopped: &Stopped,
        abi: Abi,
        value: u64,
    ) -> Result<Self, Vanished> {
        let value = registers::replace_first_argument(stopped, abi, value)?;
        Ok(Self::FirstArgument { abi, value })
    }

    /// Puts it back.
    pub(super) fn apply(self, stopped: &Stopped) -> Result<(), Vanished> {
        match self {
            Self::FirstArgument { abi, value } => {
                registers::restore_first_argument(stopped, abi, value)
            }
            Self::Memory { address, value } => stopped.poke(address, value),
            Self::Address { address, words, before } => {
                let mut places = (address..).step_by(size_of::<u64>()).zip(before).take(words);
                places.try_for_each(|(place, word)| stopped.poke(place, word))
            }
        }
    }
}

/// The flags with which `stopped`, at its fork stop, started `child`.
pub(super) fn clone_flags(
    stopped: &Stopped,
    thread: Option<&Thread>,
    child: Tid,
) -> Result<u64, Vanished> {
    Ok(match registers::start(stopped)? {
        Some(Start::Clone3) => match thread.map_or(0, |thread| thread.clone3_flags) {
            // Not seen to begin: attached to in the middle of it.
            0 if is_thread(child) => THREAD_FLAGS,
            flags => flags,
        },
        Some(Start::Clone(flags)) => match thread.and_then(|thread| thread.undo) {
            Some(Undo::FirstArgument { .. }) => flags | libc::CLONE_UNTRACED as u64,
            _ => flags,
        },
        #[cfg(target_arch = "x86_64")]
        Some(Start::Fork) => 0,
        #[cfg(target_arch = "x86_64")]
        Some(Start::Vfork) => (libc::CLONE_VFORK | libc::CLONE_VM) as u64,
        // All that matters is whether this is a thread.
        None if is_thread(child) => THREAD_FLAGS,
        None => 0,
    })
}

fn is_thread(tid: Tid) -> bool {
    proc::family(tid).is_some_and(|(process, _)| process != tid)
}

#[derive(Debug, Default)]
struct Process {
    /// Threads that are known.
    members: usize,
    /// Threads that have not passed their exit stop.
    left: usize,
    /// Its memory is another process's too (CLONE_VM).
    shares_memory: bool,
    usage: Option<Usage>,
}

/// All threads of the tree.
#[derive(Debug)]
pub(super) struct Threads {
    threads: HashMap<Tid, Thread>,
    processes: HashMap<Tid, Process>,
    /// Stopped before the parent's event came.
    pub(super) early: HashMap<Tid, (Stopped, Stop)>,
    /// The last ones that ended before they were known.
    strays: VecDeque<(Tid, ExitStatus)>,
}

/// How many ends of unknown tracees are kept. Between such an end and its parent's word there are few others.
const STRAYS: usize = 256;

impl Threads {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            threads: HashMap::new(),
            processes: HashMap::new(),
            early: HashMap::new(),
            strays: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, tid: Tid) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    pub(super) fn get_mut(&mut self, tid: Tid) -> Option<&mut Thread> {
        self.threads.get_mut(&tid)
    }

    pub(super) fn started(&self, tid: Tid) -> bool {
        self.get(tid).is_some_and(|thread| thread.started)
    }

    pub(super) fn insert(&mut self, tid: Tid, thread: Thread) {
        let process = self.processes.entry(thread.process).or_default();
        process.members += 1;
        process.left += 1;
        self.threads.insert(tid, thread);
    }

    /// Notes what `child`, a process, shares with the one that started it.
    pub(super) fn started_with(&mut self, parent: Tid, child: Tid, flags: u64) {
        const VM: u64 = libc::CLONE_VM as u64;
        const VFORK: u64 = libc::CLONE_VFORK as u64;
        if flags & VM == 0 {
            return;
        }
        // The thread that called vfork(2) waits; others of its process don't.
        let shares = flags & VFORK == 0 || self.memory_is_shared(parent);
        for (process, shares) in [(child, shares), (parent, flags & VFORK == 0)] {
            if let Some(process) = self.processes.get_mut(&process) {
                process.shares_memory |= shares;
            }
        }
    }

    /// Whether another thread may write to the process's memory while this one is in a call.
    pub(super) fn memory_is_shared(&self, process: Tid) -> bool {
        let shared = |process: &Process| process.members > 1 || process.shares_memory;
        self.processes.get(&process).is_some_and(shared)
    }

    pub(super) fn remove(&mut self, tid: Tid) -> Option<Thread> {
        let thread = self.threads.remove(&tid)?;
        if let Some(process) = self.processes.get_mut(&thread.process) {
            process.members -= 1;
        }
        Some(thread)
    }

    /// A thread that is no tracee any more; with its last one goes its process.
    pub(super) fn forget(&mut self, tid: Tid) {
        if let Some(thread) = self.remove(tid)
            && self.processes.get(&thread.process).is_some_and(|process| process.members == 0)
        {
            self.processes.remove(&thread.process);
        }
    }

    pub(super) fn tids(&self) -> impl Iterator<Item = Tid> {
        self.threads.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty() && self.early.is_empty()
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = Tid> {
        self.processes.keys().copied()
    }

    /// One more thread of the process is as good as gone: how many are left?
    pub(super) fn left(&mut self, process: Tid) -> usize {
        self.processes.get_mut(&process).map_or(0, |process| {
            process.left = process.left.saturating_sub(1);
            process.left
        })
    }

    pub(super) fn set_usage(&mut self, process: Tid, usage: Usage) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.usage = Some(usage);
        }
    }

    /// The process is gone, and with it all of its threads: one that was killed inside execve(2), when it had its leader's
    /// id already, is never told of by its own. No usage where it was not seen on its way out.
    pub(super) fn end_process(&mut self, process: Tid) -> Option<Usage> {
        let ended = self.processes.remove(&process).unwrap_or_default();
        if ended.members > 0 {
            self.threads.retain(|_, thread| thread.process != process);
        }
        ended.usage
    }

    /// A tracee ended that was not known; its parent may yet tell of it.
    pub(super) fn ended_unknown(&mut self, tid: Tid, status: ExitStatus) {
        if self.strays.len() == STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back((tid, status));
    }

    /// How `child`, which its parent tells of now, ended before that; None when it lives.
    pub(super) fn stillborn(&self, child: Tid) -> Option<ExitStatus> {
        let stray = self.strays.iter().rev().find(|(tid, _)| *tid == child);
        if self.early.contains_key(&child) || (stray.is_none() && !proc::is_gone(child)) {
            return None;
        }
        // It may be another that has its id by now; or a zombie that its own parent has still to wait for.
        let killed = ExitStatus::Signal { signal: libc::SIGKILL, core: false };
        (!proc::is_traced(child)).then(|| stray.map_or(killed, |&(_, status)| status))
    }

    /// execve(2): the caller is the only thread left and has the leader's id now. Gives the caller's call.
    pub(super) fn take_over(&mut self, leader: Tid, former: Tid) -> Option<Entry> {
        let caller = self.threads.remove(&former)?;
        let process = caller.process;
        if self.processes.get(&process).is_some_and(|process| process.left > 1) || leader != former
        {
            self.threads.retain(|_, thread| thread.process != process);
        }
        self.processes.insert(process, Process { members: 1, left: 1, ..Process::default() });
        let entry = caller.entry;
        self.threads.insert(leader, Thread { started: true, ..Thread::new(process, None) });
        entry
    }

    /// Early children that nobody is going to tell of any more, with their parent where that is known.
    pub(super) fn orphans(&self) -> Vec<Orphan> {
        let orphan = |&child: &Tid| {
            // Gone already; its end will be told.
            let (process, parent) = proc::family(child)?;
            let is_thread = process != child;
            let creator = if is_thread { process } else { parent };
            // The kernel's parent may be a subreaper that knows nothing of it (prctl(2), PR_SET_CHILD_SUBREAPER).
            let alive = self.processes.get(&creator).is_some_and(|process| process.left > 0);
            let told = alive && proc::may_be_forking(creator);
            let sibling =
                |(_, thread): &(&Tid, &Thread)| thread.process == creator && !thread.exiting;
            let parent = || self.threads.iter().find(sibling).map(|(&tid, _)| tid);
            (!told).then(|| Orphan { child, parent: parent(), is_thread })
        };
        self.early.keys().filter_map(orphan).collect()
    }
}

/// A thread or process that nobody told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    pub(super) child: Tid,
    /// A thread of its parent, where there is one left.
    pub(super) parent: Option<Tid>,
    pub(super) is_thread: bool,
}
