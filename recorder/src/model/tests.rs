//! The model against a naive one: whatever a tree does with its descriptors, each close comes once, with its bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use agentrec_trace::Data;
use proptest::prelude::*;

use super::tables::{CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE};
use super::*;
use crate::observation::{ArgList, At, Call};

/// Nothing beyond what the observations say.
struct Blind;

impl Kernel for Blind {
    fn working_directory(&mut self, _: Tid) -> Option<Vec<u8>> {
        None
    }

    fn descriptor(&mut self, _: Tid, _: RawFd) -> Option<Vec<u8>> {
        None
    }

    fn root(&mut self, _: Tid) -> Option<Vec<u8>> {
        None
    }

    fn mount_namespace(&mut self, _: Tid) -> Option<u64> {
        None
    }

    fn is_symlink(&mut self, _: Tid, _: &[u8]) -> bool {
        false
    }

    fn descriptor_flags(&mut self, _: Tid, _: RawFd) -> Option<u32> {
        None
    }

    fn link(&mut self, _: Tid, _: RawFd) -> Option<Vec<u8>> {
        None
    }

    fn directory(&mut self, _: Tid, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn descriptors(&mut self, _: Tid) -> Vec<(RawFd, Vec<u8>)> {
        Vec::new()
    }

    fn pidfd(&mut self, _: Tid, _: RawFd) -> Option<Tid> {
        None
    }

    fn socket(&mut self, _: Tid, _: RawFd) -> Option<SocketFacts> {
        None
    }

    fn terminal(&mut self, _: Tid, _: RawFd) -> Option<u32> {
        None
    }

    fn controlling_terminal(&mut self, _: Tid) -> Option<u32> {
        None
    }

    fn terminal_state(&mut self, _: Tid, _: RawFd) -> Option<TerminalState> {
        None
    }

    fn program(&mut self, _: Tid) -> Option<Vec<u8>> {
        None
    }
}

const ROOT: Tid = 1000;

fn model() -> Model {
    let config = Config {
        cwd: PathBuf::from("/w"),
        env: Vec::new(),
        reserved_fd: None,
        socket: None,
        outputs: Vec::new(),
        front: 0,
    };
    Model::new(ROOT, &config)
}

#[derive(Clone, Debug)]
enum Op {
    Open { cloexec: bool },
    Close { fd: RawFd },
    Dup { fd: RawFd, to: RawFd, cloexec: bool },
    SetCloexec { fd: RawFd, on: bool },
    CloseRange { first: u32, len: u32, flags: u32 },
    Transfer { fd: RawFd, write: bool, bytes: u64 },
    Move { from: RawFd, to: RawFd, bytes: u64 },
    Fork { flags: i32 },
    Unshare,
    Exec,
    Exit,
}

fn op() -> impl Strategy<Value = Op> {
    let fd = || 3..12;
    let thread = libc::CLONE_THREAD | libc::CLONE_FS;
    let forks = prop::sample::select(vec![
        0,
        libc::CLONE_FILES,
        libc::CLONE_FS,
        thread,
        thread | libc::CLONE_FILES,
    ]);
    prop_oneof![
        4 => any::<bool>().prop_map(|cloexec| Op::Open { cloexec }),
        2 => fd().prop_map(|fd| Op::Close { fd }),
        2 => (fd(), fd(), any::<bool>()).prop_map(|(fd, to, cloexec)| Op::Dup { fd, to, cloexec }),
        1 => (fd(), any::<bool>()).prop_map(|(fd, on)| Op::SetCloexec { fd, on }),
        1 => (0..12u32, 0..5u32, 0..8u32)
            .prop_map(|(first, len, flags)| Op::CloseRange { first, len, flags }),
        4 => (fd(), any::<bool>(), 1..100u64)
            .prop_map(|(fd, write, bytes)| Op::Transfer { fd, write, bytes }),
        1 => (fd(), fd(), 1..100u64).prop_map(|(from, to, bytes)| Op::Move { from, to, bytes }),
        2 => forks.prop_map(|flags| Op::Fork { flags }),
        1 => Just(Op::Unshare),
        1 => Just(Op::Exec),
        1 => Just(Op::Exit),
    ]
}

/// A description's own number here; never used again.
type Serial = u64;

/// What a table's holders did with a description.
#[derive(Clone, Copy, Default)]
struct Sum {
    opened: bool,
    read: u64,
    written: u64,
}

#[derive(Clone, Default)]
struct Table {
    slots: BTreeMap<RawFd, (Serial, bool)>,
    sums: BTreeMap<Serial, Sum>,
}

type SharedTable = Rc<RefCell<Table>>;

impl Table {
    fn inherit(&self) -> SharedTable {
        Rc::new(RefCell::new(Self { slots: self.slots.clone(), sums: BTreeMap::new() }))
    }

    fn moved(&mut self, fd: RawFd, read: u64, written: u64) {
        if let Some(&(serial, _)) = self.slots.get(&fd) {
            let sum = self.sums.entry(serial).or_default();
            sum.read += read;
            sum.written += written;
        }
    }

    /// What no descriptor of the table names any more, where that is an event.
    fn sweep(&mut self) -> Vec<(Serial, u64, u64)> {
        let named: BTreeSet<Serial> = self.slots.values().map(|&(serial, _)| serial).collect();
        let gone: Vec<_> = self
            .sums
            .iter()
            .filter(|(serial, sum)| {
                !named.contains(serial) && (sum.opened || sum.read > 0 || sum.written > 0)
            })
            .map(|(&serial, sum)| (serial, sum.read, sum.written))
            .collect();
        self.sums.retain(|serial, _| named.contains(serial));
        gone
    }
}

#[derive(Clone)]
struct NaiveTask {
    process: Tid,
    table: SharedTable,
}

struct Naive {
    model: Model,
    tasks: BTreeMap<Tid, NaiveTask>,
    /// The model's number of each description that is open somewhere.
    ids: BTreeMap<Serial, u32>,
    serials: u64,
    tids: Tid,
}

impl Naive {
    fn new() -> Self {
        let root = NaiveTask { process: ROOT, table: SharedTable::default() };
        let tasks = BTreeMap::from([(ROOT, root)]);
        Self { model: model(), tasks, ids: BTreeMap::new(), serials: 0, tids: ROOT }
    }

    fn observe(&mut self, tid: Tid, call: Call<'_>, result: u64) -> Vec<Captured> {
        let mut out = Vec::new();
        let seen = Observation { tid, ts: 0, call, result: Ok(result) };
        self.model.observe(&seen, &mut Blind, &mut out);
        let event = |report| match report {
            Report::Event(captured) => Some(captured),
            _ => None,
        };
        out.into_iter().filter_map(event).collect()
    }

    fn apply(&mut self, tid: Tid, op: &Op) {
        let task = self.tasks[&tid].clone();
        let before: Vec<SharedTable> = self.tables();
        let mut opened = None;
        let out = match *op {
            Op::Open { cloexec } => {
                let mut table = task.table.borrow_mut();
                let fd = (3..).find(|fd| !table.slots.contains_key(fd)).expect("a free number");
                self.serials += 1;
                table.slots.insert(fd, (self.serials, cloexec));
                table.sums.insert(self.serials, Sum { opened: true, ..Sum::default() });
                opened = Some(self.serials);
                let flags = if cloexec { libc::O_CLOEXEC as u32 } else { 0 };
                let at = At::Path { dir: None, path: b"f" };
                self.observe(tid, Call::Open { at, flags, mode: 0, created: false }, fd as u64)
            }
            Op::Close { fd } => {
                task.table.borrow_mut().slots.remove(&fd);
                self.observe(tid, Call::Close { fd }, 0)
            }
            Op::Dup { fd, to, cloexec } => {
                let source = task.table.borrow().slots.get(&fd).copied();
                if let Some((serial, _)) = source
                    && fd != to
                {
                    task.table.borrow_mut().slots.insert(to, (serial, cloexec));
                }
                match source {
                    Some(_) => self.observe(tid, Call::Dup { fd, cloexec }, to as u64),
                    None => Vec::new(),
                }
            }
            Op::SetCloexec { fd, on } => {
                if let Some(slot) = task.table.borrow_mut().slots.get_mut(&fd) {
                    slot.1 = on;
                }
                self.observe(tid, Call::SetCloexec { fd, on }, 0)
            }
            Op::CloseRange { first, len, flags } => {
                let last = first + len;
                if flags & !6 == 0 {
                    if flags & CLOSE_RANGE_UNSHARE != 0 {
                        self.unshare(tid);
                    }
                    let table = Rc::clone(&self.tasks[&tid].table);
                    let inside = |fd: &RawFd| (first as RawFd..=last as RawFd).contains(fd);
                    let mut table = table.borrow_mut();
                    if flags & CLOSE_RANGE_CLOEXEC != 0 {
                        table
                            .slots
                            .iter_mut()
                            .filter(|(fd, _)| inside(fd))
                            .for_each(|(_, s)| s.1 = true);
                    } else {
                        table.slots.retain(|fd, _| !inside(fd));
                    }
                }
                self.observe(tid, Call::CloseRange { first, last, flags }, 0)
            }
            Op::Transfer { fd, write, bytes } => {
                let (read, written) = if write { (0, bytes) } else { (bytes, 0) };
                task.table.borrow_mut().moved(fd, read, written);
                let direction = if write { Direction::Write } else { Direction::Read };
                self.observe(tid, Call::Transfer { fd, direction }, bytes)
            }
            Op::Move { from, to, bytes } => {
                task.table.borrow_mut().moved(from, bytes, 0);
                task.table.borrow_mut().moved(to, 0, bytes);
                self.observe(tid, Call::Move { from, to }, bytes)
            }
            Op::Fork { flags } => {
                self.tids += 1;
                let child = self.tids;
                let process = if flags & libc::CLONE_THREAD != 0 { task.process } else { child };
                let table = match flags & libc::CLONE_FILES {
                    0 => task.table.borrow().inherit(),
                    _ => Rc::clone(&task.table),
                };
                self.tasks.insert(child, NaiveTask { process, table });
                self.observe(tid, Call::Fork { child, flags: flags as u64 }, 0)
            }
            Op::Unshare => {
                self.unshare(tid);
                self.observe(tid, Call::Unshare { flags: libc::CLONE_FILES as u64 }, 0)
            }
            Op::Exec => {
                self.tasks.retain(|_, other| other.process != task.process);
                self.tasks.insert(task.process, task.clone());
                self.unshare(task.process);
                let table = Rc::clone(&self.tasks[&task.process].table);
                table.borrow_mut().slots.retain(|_, slot| !slot.1);
                let argv = ArgList::default();
                let at = At::Path { dir: None, path: b"/bin/true" };
                let call = Call::Exec { former: tid, at, argv: &argv, env: b"", exe: None };
                self.observe(task.process, call, 0)
            }
            Op::Exit => {
                self.tasks.remove(&tid);
                let mut out = self.observe(tid, Call::ThreadExit, 0);
                if !self.tasks.values().any(|other| other.process == task.process) {
                    let (status, usage) = (ExitStatus::Code(0), Usage::default());
                    out.extend(self.observe(task.process, Call::Exit { status, usage }, 0));
                }
                out
            }
        };
        self.compare(before, opened, &out);
    }

    fn unshare(&mut self, tid: Tid) {
        let shared = Rc::clone(&self.tasks[&tid].table);
        let holders = self.tasks.values().filter(|task| Rc::ptr_eq(&task.table, &shared)).count();
        if holders > 1 {
            let own = shared.borrow().inherit();
            self.tasks.get_mut(&tid).expect("it acts").table = own;
        }
    }

    fn tables(&self) -> Vec<SharedTable> {
        let mut tables: Vec<SharedTable> = Vec::new();
        for task in self.tasks.values() {
            if !tables.iter().any(|table| Rc::ptr_eq(table, &task.table)) {
                tables.push(Rc::clone(&task.table));
            }
        }
        tables
    }

    /// The events of one step against what became of the tables.
    fn compare(&mut self, before: Vec<SharedTable>, opened: Option<Serial>, out: &[Captured]) {
        let now = self.tables();
        let mut expected = Vec::new();
        for table in before {
            if !now.iter().any(|other| Rc::ptr_eq(other, &table)) {
                table.borrow_mut().slots.clear();
            }
            expected.extend(table.borrow_mut().sweep());
        }
        let mut expected: Vec<_> = expected
            .into_iter()
            .map(|(serial, read, written)| (u64::from(self.ids[&serial]), read, written))
            .collect();
        let mut closes: Vec<_> = out
            .iter()
            .filter_map(|captured| match &captured.event.data {
                Data::FileClose(close) => {
                    Some((close.open.expect("opened here").0, close.read, close.written))
                }
                _ => None,
            })
            .collect();
        expected.sort_unstable();
        closes.sort_unstable();
        assert_eq!(closes, expected);
        let open: BTreeSet<Serial> = now
            .iter()
            .flat_map(|table| table.borrow().slots.values().map(|slot| slot.0).collect::<Vec<_>>())
            .collect();
        self.ids.retain(|serial, _| open.contains(serial));
        let given = out.iter().find_map(|captured| captured.opens);
        if let (Some(serial), Some(OpenId(id))) = (opened, given) {
            assert!(self.ids.values().all(|&other| other != id), "{id} is still in use");
            self.ids.insert(serial, id);
        }
        assert_eq!(self.model.descriptions.len(), open.len());
    }
}

proptest! {
    #[test]
    fn closes_once_with_all_bytes(ops in prop::collection::vec((any::<prop::sample::Index>(), op()), 1..120)) {
        let mut naive = Naive::new();
        // The command's first exec finds its descriptors as they are.
        naive.apply(ROOT, &Op::Exec);
        for (who, op) in &ops {
            let tids: Vec<Tid> = naive.tasks.keys().copied().collect();
            if tids.is_empty() {
                break;
            }
            naive.apply(tids[who.index(tids.len())], op);
        }
        while let Some(&tid) = naive.tasks.keys().next() {
            naive.apply(tid, &Op::Exit);
        }
        prop_assert_eq!(naive.model.descriptions.len(), 0);
        prop_assert_eq!(naive.model.files.len(), 0);
        prop_assert_eq!(naive.model.fs.len(), 0);
        prop_assert!(naive.model.tasks.is_empty() && naive.model.processes.is_empty());
    }
}
