//! Files: who read and changed which, under the name that it really has.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use agentrec_store::secret_files::is_secret_path;
use agentrec_trace::event::{FdInitial, FileClose, FileOpen, Mount};
use agentrec_trace::{Data, Event, ProcId, Seq, open_flags};

use super::deeds::Act;
use super::people::Who;
use super::rules::{Kind, Rule};
use super::{Audit, system};

/// What is known of a path before anybody uses it.
#[derive(Debug)]
pub(super) struct Facts {
    /// The path of what it means.
    real: Vec<u8>,
    outside: bool,
    secret: bool,
    read: Option<Rule>,
    write: Option<Rule>,
}

/// Paths of which the facts are kept at hand.
const MAX_FACTS: usize = 20_000;

/// Open files that are followed, and closed ones that somebody may have inherited.
const MAX_OPEN: usize = 100_000;
const MAX_CLOSED: usize = 50_000;

/// Bytes of the names of either.
const MAX_BYTES: usize = 32 << 20;

/// A file that is open, by its `file.open`.
#[derive(Debug)]
struct Open {
    path: Rc<[u8]>,
    proc: ProcId,
    writable: bool,
    read: bool,
    wrote: bool,
    closed: bool,
}

/// What is open, and what is known of paths.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: HashMap<Seq, Open>,
    closed: VecDeque<Seq>,
    /// What processes had open for writing when the recording of them began, and have not closed since.
    initial: BTreeMap<(ProcId, Vec<u8>), Seq>,
    open_bytes: usize,
    facts: HashMap<(Vec<u8>, bool), Rc<Facts>>,
    facts_bytes: usize,
    /// Open files that there was no room for.
    pub(super) beyond: u64,
}

impl Files {
    /// Links lead elsewhere from here on, or there is no room.
    fn forget_facts(&mut self) {
        self.facts.clear();
        self.facts_bytes = 0;
    }

    fn opened(&mut self, seq: Seq, open: Open) {
        let bytes = self.open_bytes + open.path.len();
        if self.open.len() - self.closed.len() >= MAX_OPEN || bytes > MAX_BYTES {
            self.beyond += 1;
            return;
        }
        self.open_bytes = bytes;
        self.open.insert(seq, open);
    }

    /// A descriptor that was open when the recording began.
    fn found_open(&mut self, proc: ProcId, fd: &FdInitial<'_>, seq: Seq) {
        let path = &fd.path;
        let writable = fd.flags.cast_signed() & libc::O_ACCMODE != libc::O_RDONLY;
        if !writable || !path.starts_with(b"/") {
            return;
        }
        let bytes = self.open_bytes + path.len();
        if self.initial.len() >= MAX_OPEN || bytes > MAX_BYTES {
            self.beyond += 1;
            return;
        }
        // Several descriptors may name one file.
        if let Entry::Vacant(entry) = self.initial.entry((proc, path.to_vec())) {
            entry.insert(seq);
            self.open_bytes = bytes;
        }
    }

    fn found_closed(&mut self, proc: ProcId, path: &[u8]) {
        if self.initial.remove(&(proc, path.to_vec())).is_some() {
            self.open_bytes -= path.len();
        }
    }

    /// A file that had no name has this one.
    fn name(&mut self, seq: Seq, path: &[u8]) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        self.open_bytes = self.open_bytes - open.path.len() + path.len();
        (open.path, open.wrote) = (path.into(), true);
    }

    fn closed(&mut self, seq: Seq) {
        let Some(open) = self.open.get_mut(&seq) else { return };
        if std::mem::replace(&mut open.closed, true) {
            return;
        }
        self.closed.push_back(seq);
        if self.closed.len() > MAX_CLOSED
            && let Some(oldest) = self.closed.pop_front()
            && let Some(open) = self.open.remove(&oldest)
        {
            self.open_bytes -= open.path.len();
        }
    }
}

impl Audit<'_> {
    /// Takes the next event, as far as it is about files.
    pub(super) fn file_event(&mut self, event: &Event<'_>) {
        let seq = event.seq;
        let who = self.people.who(event.proc);
        match &event.data {
            Data::FileOpen(e) => self.file_open(event, &who, e),
            Data::FileClose(e) => self.file_close(event, &who, e),
            Data::FdInitial(e) => self.files.found_open(who.id, e, seq),
            Data::FileRename(e) if e.errno.is_none() => {
                if e.flags & libc::RENAME_EXCHANGE != 0 {
                    self.touch(&e.from, Act::Written, &who, seq, false);
                    self.touch(&e.to, Act::Written, &who, seq, false);
                } else {
                    self.touch(&e.from, Act::Moved, &who, seq, false);
                    self.touch(&e.to, Act::Replaced, &who, seq, false);
                }
                if self.links.rename(&e.from, &e.to) {
                    self.files.forget_facts();
                }
            }
            Data::FileUnlink(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Deleted, &who, seq, false);
                if self.links.remove(&e.path) {
                    self.files.forget_facts();
                }
            }
            Data::FileRmdir(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Deleted, &who, seq, false)
            }
            Data::FileMkdir(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Created, &who, seq, false)
            }
            Data::FileMknod(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Created, &who, seq, false)
            }
            Data::FileLink(e) if e.errno.is_none() => match e.open {
                Some(open) => {
                    self.touch(&e.to, Act::Created, &who, seq, false);
                    self.files.name(open, &e.to);
                }
                None => {
                    self.touch(&e.from, Act::Linked, &who, seq, false);
                    self.touch(&e.to, Act::Created, &who, seq, false);
                    self.link(&e.to, &e.from);
                }
            },
            Data::FileSymlink(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Created, &who, seq, false);
                self.link(&e.path, &e.target);
            }
            Data::FileTruncate(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Written, &who, seq, true)
            }
            Data::FileChmod(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Attributes, &who, seq, true)
            }
            Data::FileChown(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Attributes, &who, seq, true)
            }
            Data::FileUtime(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Attributes, &who, seq, true)
            }
            Data::FileXattr(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Attributes, &who, seq, true)
            }
            Data::FileMmap(e) if e.errno.is_none() => {
                self.touch(&e.path, Act::Mapped, &who, seq, true)
            }
            Data::FileClone(e) if e.errno.is_none() => {
                self.touch(&e.from, Act::Read, &who, seq, true);
                self.touch(&e.to, Act::Written, &who, seq, true);
            }
            Data::Mount(e) if e.errno.is_none() && is_bind(e) => self.link(&e.target, &e.source),
            _ => {}
        }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) {
        self.links.add(path, target);
        self.files.forget_facts();
    }

    fn file_open(&mut self, event: &Event<'_>, who: &Who, e: &FileOpen<'_>) {
        let flags = e.flags;
        let native = flags.cast_signed();
        let mode = native & libc::O_ACCMODE;
        if e.errno.is_some() {
            let refused = matches!(e.errno, Some(libc::EACCES | libc::EPERM));
            if refused && self.facts(&e.path, true).secret {
                self.touch(&e.path, Act::Refused, who, event.seq, true);
            }
            return;
        }
        let unnamed = flags & open_flags::TMPFILE == open_flags::TMPFILE;
        // A directory that is listed, and a place that is only held, are no files that are read.
        if !unnamed && (flags & open_flags::DIRECTORY != 0 || native & libc::O_PATH != 0) {
            return;
        }
        let writable = mode != libc::O_RDONLY;
        let read = mode == libc::O_RDONLY && !unnamed;
        let cut = writable && native & libc::O_TRUNC != 0;
        let wrote = !unnamed && (e.created || cut);
        if wrote {
            let act = if e.created { Act::Created } else { Act::Written };
            self.touch(&e.path, act, who, event.seq, true);
        }
        if read {
            self.touch(&e.path, Act::Read, who, event.seq, true);
        }
        let path = if unnamed { [].into() } else { (&*e.path).into() };
        let open = Open { path, proc: who.id, writable, read, wrote, closed: false };
        self.files.opened(event.seq, open);
    }

    fn file_close(&mut self, event: &Event<'_>, who: &Who, e: &FileClose<'_>) {
        let opened = e.open.and_then(|seq| Some((seq, self.files.open.get(&seq)?)));
        let mut writing = Act::Written;
        let (path, seq, mut read, mut wrote) = match (opened, &e.path) {
            (Some((_, open)), _) if open.path.is_empty() => return,
            (Some((seq, open)), _) if open.proc == who.id => {
                (Rc::clone(&open.path), seq, open.read, open.wrote)
            }
            // Inherited: what the other did is its own.
            (Some((_, open)), _) => (Rc::clone(&open.path), event.seq, false, false),
            (None, Some(path)) => {
                // From its close on its bytes are known.
                self.files.found_closed(who.id, path);
                // Of a process that was attached to is not known who opened it: it may have been itself.
                if !self.attached {
                    writing = Act::Inherited;
                }
                (Rc::from(&**path), event.seq, false, false)
            }
            (None, None) => return,
        };
        if e.read > 0 && !std::mem::replace(&mut read, true) {
            self.touch(&path, Act::Read, who, seq, true);
        }
        if e.written > 0 && !std::mem::replace(&mut wrote, true) {
            self.touch(&path, writing, who, seq, true);
        }
        if e.read > 0 || e.written > 0 {
            self.add_bytes(&path, e.read, e.written);
        }
        if let Some(open) = e.open {
            if let Some(open) = self.files.open.get_mut(&open) {
                (open.read, open.wrote) = (open.read | read, open.wrote | wrote);
            }
            self.files.closed(open);
        }
    }

    /// What was still open for writing when the trace ended may have been written to.
    pub(super) fn finish_files(&mut self) {
        for ((proc, path), seq) in std::mem::take(&mut self.files.initial) {
            let who = self.people.who(Some(proc));
            self.touch(&path, Act::Opened, &who, seq, true);
        }
        let mut open: Vec<_> = std::mem::take(&mut self.files.open).into_iter().collect();
        open.retain(|(_, open)| {
            open.writable && !open.wrote && !open.closed && !open.path.is_empty()
        });
        open.sort_by_key(|(seq, _)| *seq);
        for (seq, open) in open {
            let who = self.people.who(Some(open.proc));
            self.touch(&open.path, Act::Opened, &who, seq, true);
        }
    }

    fn add_bytes(&mut self, path: &[u8], read: u64, written: u64) {
        let facts = self.facts(path, true);
        for deeds in [
            self.secrets.state_mut(&facts.real),
            self.reads.state_mut(&facts.real),
            self.system_reads.state_mut(&facts.real),
            self.writes.state_mut(&facts.real),
            self.system_writes.state_mut(&facts.real),
        ]
        .into_iter()
        .flatten()
        {
            deeds.read = deeds.read.saturating_add(read);
            deeds.written = deeds.written.saturating_add(written);
        }
    }

    /// `who` did that to the file that `path` means.
    fn touch(&mut self, path: &[u8], act: Act, who: &Who, seq: Seq, follow: bool) {
        if !path.starts_with(b"/") {
            return;
        }
        let facts = self.facts(path, follow);
        let mut secret = facts.secret;
        let rule = match act {
            Act::Read | Act::Linked => facts.read,
            Act::Refused => None,
            // Under another name it can be read; of a directory, all that is in it.
            Act::Moved => {
                let inside = self.facts(&[path, b"/-"].concat(), follow);
                secret |= inside.secret;
                facts.write.or(facts.read).or(inside.write).or(inside.read)
            }
            _ => facts.write,
        };
        if let Some(rule) = rule {
            self.violations.note((rule, facts.real.clone()), who, seq);
        }
        if secret {
            let seen = self.secrets.contains(&facts.real);
            if let Some(deeds) = self.secrets.note(facts.real.clone(), who, seq) {
                deeds.add(act, seen);
            }
            if let Some(rule) =
                self.rules.secrets().filter(|_| matches!(act, Act::Read | Act::Linked | Act::Moved))
            {
                self.violations.note((rule, facts.real.clone()), who, seq);
            }
        }
        if !facts.outside {
            return;
        }
        let seen = self.reads.contains(&facts.real) || self.secrets.contains(&facts.real);
        let list = match act {
            Act::Linked | Act::Refused => return,
            Act::Read if facts.secret => return,
            Act::Read if system::is_noise_to_read(&facts.real) => &mut self.system_reads,
            Act::Read => &mut self.reads,
            _ if system::is_noise_to_write(&facts.real) => &mut self.system_writes,
            _ => &mut self.writes,
        };
        if let Some(deeds) = list.note(facts.real.clone(), who, seq) {
            deeds.add(act, seen);
        }
    }

    fn facts(&mut self, path: &[u8], follow: bool) -> Rc<Facts> {
        let key = (path.to_vec(), follow);
        if let Some(facts) = self.files.facts.get(&key) {
            return Rc::clone(facts);
        }
        let real = self.links.resolve(path, follow).unwrap_or_else(|| path.to_vec());
        let both = [path, &real];
        let names = if path == real { &both[..1] } else { &both[..] };
        let is_secret = |path: &[u8]| is_secret_path(Path::new(OsStr::from_bytes(path)));
        // The kernel's own files have names of every kind and hold none of anybody's secrets.
        let pseudo = crate::digest::is_pseudo(&real) && !real.starts_with(b"/dev/shm/");
        let facts = Rc::new(Facts {
            outside: !self.tree.holds(&real),
            secret: !pseudo
                && (names.iter().any(|name| is_secret(name)) || (self.tree.is_secret)(&real)),
            read: self.rules.denies(Kind::Read, names),
            write: self.rules.denies(Kind::Write, names),
            real,
        });
        if self.files.facts.len() >= MAX_FACTS || self.files.facts_bytes > MAX_BYTES {
            self.files.forget_facts();
        }
        self.files.facts_bytes += path.len() + facts.real.len();
        self.files.facts.insert(key, Rc::clone(&facts));
        facts
    }
}

/// mount(2) with MS_BIND: what is below `target` is from then on what is below `source`.
fn is_bind(mount: &Mount<'_>) -> bool {
    mount.op == "mount" && mount.flags & libc::MS_BIND != 0 && mount.source.starts_with(b"/")
}
