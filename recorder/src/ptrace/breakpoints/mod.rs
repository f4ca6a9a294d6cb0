//! Breakpoints in the functions of TLS libraries: what goes through them is seen before it is encrypted, and after it was
//! decrypted.
//!
//! An `int3` on a function's way in and on its ways out (`code.rs`), in the memory of each process that has mapped its
//! object. The object is looked at when the dynamic linker opens it, and its code when the descriptor is closed again, by
//! when it is mapped and nobody has executed it yet: both calls stop anyway. An executable is looked at after its exec.
//! Breakpoints stay: a thread that hits one has the instruction under it done by the tracer (`step.rs`).

mod code;
mod hits;
mod maps;
mod step;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::memory::Tracee;
use super::tracee::Stopped;
use crate::calls::memory::{Memory, Unreadable};
use crate::observation::Tid;
use crate::tls::{self, FileId};
use code::{Site, Sites};
use hits::Inside;
use maps::Mapping;

/// What an `int3` is.
const BREAKPOINT: u8 = 0xcc;

/// The breakpoints of all processes.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    functions: tls::Cache,
    /// Of the files that have any.
    sites: HashMap<FileId, Rc<Sites>>,
    spaces: HashMap<Tid, Rc<RefCell<Space>>>,
    /// Objects that a thread has open, and may map.
    opened: Vec<Opened>,
    /// What threads are in.
    inside: HashMap<Tid, Vec<Inside>>,
    /// None are set.
    pub(super) are_off: bool,
}

/// The memory of a process, or of several that share it.
#[derive(Clone, Debug, Default)]
struct Space {
    code: Vec<Code>,
}

/// A piece of an object, with breakpoints in it.
#[derive(Clone, Debug)]
struct Code {
    memory: Range<u64>,
    offset: u64,
    sites: Rc<Sites>,
    /// They were taken out again. A thread may have hit one before.
    are_out: bool,
}

/// What a thread has hit.
#[derive(Clone, Copy, Debug)]
struct Hit {
    site: Site,
    /// It is not there any more: the thread can do by itself what stands there.
    is_out: bool,
}

#[derive(Debug)]
struct Opened {
    tid: Tid,
    fd: RawFd,
    file: Object,
}

/// A file, as it can be known again among what is mapped.
#[derive(Clone, Debug)]
struct Object {
    id: FileId,
    path: Vec<u8>,
    sites: Rc<Sites>,
}

/// Some of the breakpoints of a process could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incomplete;

impl Code {
    fn offset_of(&self, address: u64) -> u64 {
        address - self.memory.start + self.offset
    }

    /// Where the breakpoints in this piece are.
    fn addresses(&self) -> impl Iterator<Item = (u64, Site)> {
        let end = self.offset + (self.memory.end - self.memory.start);
        let here = self.sites.by_offset.range(self.offset..end);
        here.map(|(offset, site)| (offset - self.offset + self.memory.start, *site))
    }
}

impl Space {
    /// The piece of code around an address.
    fn around(&self, address: u64) -> Option<&Code> {
        self.code.iter().find(|code| code.memory.contains(&address))
    }

    fn hit(&self, address: u64) -> Option<Hit> {
        let code = self.around(address)?;
        let site = *code.sites.by_offset.get(&code.offset_of(address))?;
        Some(Hit { site, is_out: code.are_out })
    }
}

impl Object {
    fn is_in(&self, mapping: &Mapping) -> bool {
        (mapping.dev, mapping.ino) == (self.id.dev, self.id.ino) || mapping.path == self.path
    }
}

impl Breakpoints {
    /// Whether a file that was opened for reading may be an object: by its name, so that other files cost nothing.
    pub(super) fn may_want(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let is_object = name.ends_with(b".node") || memchr::memmem::find(name, b".so").is_some();
        is_object && !self.are_off
    }

    /// A thread opened such a file.
    pub(super) fn opened(&mut self, tid: Tid, fd: RawFd) {
        self.opened.retain(|opened| (opened.tid, opened.fd) != (tid, fd));
        if let Some(file) = self.object(&format!("/proc/{tid}/fd/{fd}")) {
            self.opened.push(Opened { tid, fd, file });
        }
    }

    /// A thread is about to close a descriptor: if it mapped an object from it, that gets its breakpoints.
    pub(super) fn closing(
        &mut self,
        stopped: &Stopped,
        process: Tid,
        fd: RawFd,
    ) -> Result<(), Incomplete> {
        let tid = stopped.tid();
        let found = self.opened.iter().position(|opened| (opened.tid, opened.fd) == (tid, fd));
        let Some(found) = found else { return Ok(()) };
        let Opened { file, .. } = self.opened.swap_remove(found);
        self.set(stopped, process, &file)
    }

    /// A process runs another program, with memory of its own.
    pub(super) fn executed(&mut self, stopped: &Stopped, process: Tid) -> Result<(), Incomplete> {
        self.spaces.remove(&process);
        self.thread_ended(process);
        if self.are_off {
            return Ok(());
        }
        match self.object(&format!("/proc/{}/exe", stopped.tid())) {
            Some(program) => self.set(stopped, process, &program),
            None => Ok(()),
        }
    }

    /// A process was started: with the same memory, or with what is a copy of it.
    pub(super) fn forked(&mut self, parent: Tid, child: Tid, flags: u64) {
        let Some(space) = self.spaces.get(&parent).cloned() else { return };
        let is_shared = flags & libc::CLONE_VM as u64 != 0;
        let space = if is_shared { space } else { Rc::new((*space).clone()) };
        self.spaces.insert(child, space);
    }

    pub(super) fn ended(&mut self, process: Tid) {
        self.spaces.remove(&process);
    }

    pub(super) fn thread_ended(&mut self, tid: Tid) {
        self.inside.remove(&tid);
        self.opened.retain(|opened| opened.tid != tid);
    }

    /// What is behind a link in /proc, if it is an object that plaintext goes through.
    fn object(&mut self, link: &str) -> Option<Object> {
        let meta = fs::metadata(link).ok()?;
        let id = FileId::from(&meta);
        let sites = match (self.functions.get(id), self.sites.get(&id)) {
            (Some(known), _) if known.is_empty() => return None,
            (_, Some(known)) => Rc::clone(known),
            _ if !meta.is_file() => return None,
            _ => {
                // A program that may be executed and not read keeps its code to itself.
                let file = File::open(link).ok()?;
                let functions = self.functions.functions(&file).unwrap_or_default();
                if functions.is_empty() {
                    return None;
                }
                let sites = Rc::new(Sites::of(&file, &functions));
                tracing::debug!(link, places = sites.by_offset.len(), unsuited = ?sites.unsuited);
                self.sites.insert(id, Rc::clone(&sites));
                sites
            }
        };
        let path = fs::read_link(link).unwrap_or_default().into_os_string().into_encoded_bytes();
        Some(Object { id, path, sites })
    }

    /// Sets the breakpoints of an object wherever a process has mapped it.
    fn set(&mut self, stopped: &Stopped, process: Tid, object: &Object) -> Result<(), Incomplete> {
        let mappings = maps::executable(stopped.tid());
        let mut result = Ok(());
        for mapping in mappings.into_iter().filter(|mapping| object.is_in(mapping)) {
            let space = self.spaces.entry(process).or_default();
            let mut space = space.borrow_mut();
            let Mapping { memory, offset, .. } = mapping;
            let sites = Rc::clone(&object.sites);
            let code = Code { memory, offset, sites, are_out: false };
            // What was there before is gone.
            space.code.retain(|old| {
                old.memory.end <= code.memory.start || code.memory.end <= old.memory.start
            });
            for (address, site) in code.addresses() {
                if replace(stopped, address, site.byte, BREAKPOINT).is_err() {
                    result = Err(Incomplete);
                }
            }
            if !object.sites.unsuited.is_empty() {
                result = Err(Incomplete);
            }
            space.code.push(code);
        }
        result
    }

    /// Takes out all breakpoints of the memory that a stopped thread sees; whether there were any.
    pub(super) fn take_out(&self, stopped: &Stopped, process: Tid) -> bool {
        let Some(space) = self.spaces.get(&process) else { return false };
        let mut there_were = false;
        for code in space.borrow_mut().code.iter_mut().filter(|code| !code.are_out) {
            for (address, site) in code.addresses() {
                let _ = replace(stopped, address, BREAKPOINT, site.byte);
            }
            code.are_out = true;
            there_were = true;
        }
        there_were
    }

    /// No file with such functions was seen.
    fn are_nowhere(&self) -> bool {
        self.sites.is_empty()
    }

    /// The breakpoint at an address.
    fn hit(&self, process: Tid, address: u64) -> Option<Hit> {
        self.spaces.get(&process)?.borrow().hit(address)
    }

    /// Whether two addresses are in the same object.
    fn same_object(&self, process: Tid, address: u64, other: u64) -> bool {
        let Some(space) = self.spaces.get(&process) else { return false };
        let space = space.borrow();
        space.around(address).is_some_and(|code| code.memory.contains(&other))
    }

    /// A process has hit what may be a breakpoint of ours, and has none that are known: how it was started was not seen.
    /// Its memory tells.
    fn rediscover(&mut self, tid: Tid, process: Tid, address: u64) -> Option<Hit> {
        let mappings = maps::executable(tid);
        let mapping = mappings.into_iter().find(|mapping| mapping.memory.contains(&address))?;
        let is_it = |id: &FileId| (id.dev, id.ino) == (mapping.dev, mapping.ino);
        let (_, sites) = self.sites.iter().find(|(id, _)| is_it(id))?;
        let Mapping { memory, offset, .. } = mapping;
        let code = Code { memory, offset, sites: Rc::clone(sites), are_out: false };
        let site = *code.sites.by_offset.get(&code.offset_of(address))?;
        self.spaces.entry(process).or_default().borrow_mut().code.push(code);
        Some(Hit { site, is_out: false })
    }
}

/// Changes a byte of code from one to another; one that is what it is to be already stays.
fn replace(stopped: &Stopped, address: u64, from: u8, to: u8) -> Result<(), Unreadable> {
    let (word, at) = (address & !7, (address & 7) as usize);
    let mut bytes = Vec::with_capacity(8);
    Tracee(stopped.tid()).read_block(word, 8, &mut bytes)?;
    match bytes[at] {
        byte if byte == to => return Ok(()),
        byte if byte == from => bytes[at] = to,
        _ => return Err(Unreadable),
    }
    let bytes = bytes.try_into().map_err(|_| Unreadable)?;
    // Refused for what is mapped shared (ptrace(2), PTRACE_POKEDATA).
    stopped.poke(word, u64::from_ne_bytes(bytes)).map_err(|_| Unreadable)
}
