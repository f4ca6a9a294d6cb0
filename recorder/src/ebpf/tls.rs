//! TLS libraries: found in what the followed processes map, and probed on the whole machine, where the programs look who calls.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use agentrec_recorder_ebpf::{CLOSED, Object, Part, UNREADABLE, WRITTEN, tls as abi};
use aya::maps::{self, MapData};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::attach::{Abi, Attached, Loaded};
use super::{Error, Watcher};
use crate::observation::{Call, Direction, Flow, Loss, Tid};
use crate::privileges;
use crate::session::boottime;
use crate::source::Report;
use crate::tls::{self, Cache, Count, FileId, Function, Kind, Users};

/// Objects that were looked at.
pub(super) struct Objects {
    cache: Cache,
    probed: Probed,
    users: Users,
    are_off: bool,
    are_warm: bool,
    /// Those of which the programs need not tell again.
    known: maps::HashMap<MapData, Abi<Object>, u32>,
}

/// A file, with its functions of TLS libraries.
struct Library {
    file: File,
    id: FileId,
    functions: Arc<[Function]>,
}

/// Since when functions are probed. Times are of CLOCK_BOOTTIME, nanoseconds.
#[derive(Debug, Default)]
struct Probed {
    /// When all of an object were.
    since: HashMap<FileId, u64>,
    /// Objects of which a function can't be probed. Another attempt would probe the others twice.
    refused: HashSet<FileId>,
    /// Processes that had an object mapped before that: until when.
    late: HashMap<Tid, u64>,
}

impl Probed {
    /// A process mapped an object at `ts`, whose functions are probed since `since`.
    fn mapped(&mut self, pid: Tid, ts: u64, since: u64) {
        if ts < since {
            let late = self.late.entry(pid).or_default();
            *late = since.max(*late);
        } else {
            // Its number was another's before.
            self.late.retain(|&other, &mut late| other != pid || ts < late);
        }
    }

    /// Whether what a process began at `ts` may not have been seen.
    fn is_late(&self, pid: Tid, ts: u64) -> bool {
        self.late.get(&pid).is_some_and(|&since| ts < since)
    }
}

impl Objects {
    pub(super) fn new(loaded: &mut Loaded) -> Result<Self, Error> {
        let known = loaded.map("OBJECTS")?;
        let (cache, probed, users) = (Cache::default(), Probed::default(), Users::default());
        Ok(Self { cache, probed, users, are_off: false, are_warm: false, known })
    }

    /// Whether it was looked into: then its functions are probed, or it has none.
    pub(super) fn is_known(&self, object: Object) -> bool {
        self.known.get(&Abi(object), 0).is_ok()
    }

    /// The programs need not tell of it again.
    fn know(&mut self, object: Object) {
        // Where that fails they do, and it is looked up in the cache.
        let _ = self.known.insert(Abi(object), 1, 0);
    }

    fn open(&mut self, pid: Tid, path: &[u8]) -> Option<Library> {
        let path = Path::new(OsStr::from_bytes(path));
        // As the process sees it, which may live in a container; or, where it has another root, as everybody does.
        let inside = Path::new("/proc").join(pid.to_string()).join("root");
        let inside = inside.join(path.strip_prefix("/").ok()?);
        let file = File::open(inside).or_else(|_| File::open(path)).ok()?;
        let id = FileId::from(&file.metadata().ok()?);
        let functions = self.cache.functions(&file).ok()?;
        Some(Library { file, id, functions })
    }
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// Nothing looks into TLS libraries.
    pub(crate) fn ignore_tls(&mut self) {
        self.objects.are_off = true;
    }

    /// The first function of a library shall be probed as fast as all others.
    pub(super) fn warm_up_probes(&mut self) {
        if let (false, false, Some(attached)) =
            (self.objects.are_off, self.objects.are_warm, &mut self.attached)
        {
            attached.probe_nothing();
            self.objects.are_warm = true;
        }
    }

    /// A thread may call functions of this object since `ts`.
    pub(super) fn mapped(
        &mut self,
        (pid, tid, ts): (Tid, Tid, u64),
        path: &[u8],
        object: Option<Object>,
    ) {
        if self.objects.are_off {
            return;
        }
        let Some(library) = self.objects.open(pid, path) else { return };
        if !library.functions.is_empty() {
            match self.probe(&library) {
                Ok(since) => self.objects.probed.mapped(pid, ts, since),
                Err(error) => {
                    tracing::warn!(%error, "cannot probe a TLS library");
                    return self.observe(tid, ts, Call::Lost { loss: Loss::NotProbed }, Ok(0));
                }
            }
            if let Some(program) = program(pid) {
                self.objects.users.learn(program, library.id, Path::new(OsStr::from_bytes(path)));
            }
        }
        if let Some(object) = object {
            self.objects.know(object);
        }
    }

    /// A process executed a program: what that mapped in an earlier recording is probed before it does so again.
    pub(super) fn expect_objects(&mut self, pid: Tid) {
        if self.objects.are_off || self.objects.users.is_empty() {
            return;
        }
        let Some(program) = program(pid) else { return };
        for (id, path) in self.objects.users.of(program) {
            let path = path.as_os_str().as_bytes();
            if !self.objects.probed.since.contains_key(&id)
                && let Some(library) = self.objects.open(pid, path)
                && library.id == id
                && let Err(error) = self.probe(&library)
            {
                // That is told when the process maps it.
                tracing::debug!(%error, "cannot probe a TLS library");
            }
        }
    }

    /// Remembers here, over the end of this recording, which programs use which TLS libraries.
    pub(crate) fn remember_tls(&mut self, cache: &Path) {
        self.objects.users = Users::load(cache);
    }

    /// For the next recordings.
    pub(super) fn save_tls(&mut self) {
        if let Err(error) = self.objects.users.save() {
            tracing::warn!(%error, "which programs use TLS is not remembered");
        }
    }

    /// Probes the functions of a library, unless they are: since when.
    fn probe(&mut self, library: &Library) -> Result<u64, Error> {
        let Library { file, id, functions } = library;
        if let Some(&since) = self.objects.probed.since.get(id) {
            return Ok(since);
        }
        let refused = || Error::Io("probe a library", Errno::EPERM.into());
        if self.objects.probed.refused.contains(id) {
            return Err(refused());
        }
        let attached = self.attached.as_mut().ok_or_else(refused)?;
        // Where its code can't be read, the functions are probed as they are.
        let entries = tls::entries(file, functions).unwrap_or_else(|_| functions.to_vec());
        if let Err(error) = entries.iter().try_for_each(|function| attached.probe(file, function)) {
            self.objects.probed.refused.insert(*id);
            return Err(error);
        }
        let since = boottime();
        self.objects.probed.since.insert(*id, since);
        Ok(since)
    }

    /// A process wrote to a connection: where that began a handshake before its functions were probed, it is told, once.
    pub(super) fn probed_late(&mut self, part: &Part, data: &[u8]) {
        /// A handshake's record of TLS 1.0 to 1.3 (RFC 8446, 5.1).
        const HANDSHAKE: [u8; 2] = [0x16, 0x03];
        let pid = part.head.pid as Tid;
        let begins = part.offset == 0 && data.starts_with(&HANDSHAKE);
        if begins && self.objects.probed.is_late(pid, part.head.ts) {
            let loss = Call::Lost { loss: Loss::ProbedLate };
            self.observe(part.head.tid as Tid, part.head.ts, loss, Ok(0));
        }
    }

    /// The objects that a process has mapped already.
    pub(super) fn mapped_before(&mut self, pid: Tid, tid: Tid, ts: u64) {
        let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.split(|&byte| byte == b'\n') {
            // proc_pid_maps(5): addresses, permissions, offset, device, inode, path.
            let mut fields = line.splitn(6, |&byte| byte == b' ');
            let is_code = fields.nth(1).is_some_and(|permissions| permissions.contains(&b'x'));
            let path = fields.nth(3).map(<[u8]>::trim_ascii_start);
            if let (true, Some(path @ [b'/', ..])) = (is_code, path) {
                let path = path.to_vec();
                self.mapped((pid, tid, ts), &path, None);
            }
        }
    }

    /// A piece of what went through a TLS library.
    pub(super) fn plaintext(&mut self, part: &Part, data: &[u8]) {
        let (tid, ts, stream) = (part.head.tid as Tid, part.head.ts, part.socket);
        if part.head.flags & CLOSED != 0 {
            self.streams.forget(stream);
            return self.observe(tid, ts, Call::PlaintextOver { stream }, Ok(0));
        }
        if !self.model.wants_plaintext(tid, stream) {
            return self.streams.ignore(stream);
        }
        let written = part.head.flags & WRITTEN != 0;
        let direction = if written { Direction::Write } else { Direction::Read };
        let unread = part.len == UNREADABLE;
        let len = if unread { part.total } else { data.len() as u64 };
        let missing = self.streams.gap(part, written, len);
        let mut tell = |flow| {
            self.observe(tid, ts, Call::Plaintext { stream, direction, flow }, Ok(0));
        };
        if missing > 0 {
            tell(Flow::Missing(missing));
        }
        tell(if unread { Flow::Missing(part.total) } else { Flow::Bytes(data) });
    }
}

impl Attached {
    /// Probes what nobody executes. A process's first uprobe takes the kernel ten milliseconds and more, in which a library's first
    /// calls would be missed; each one after that takes a tenth of one.
    fn probe_nothing(&mut self) {
        /// Does nothing, on either architecture.
        const NOP: [u8; 4] =
            if cfg!(target_arch = "aarch64") { [0x1f, 0x20, 0x03, 0xd5] } else { [0x90; 4] };
        let function = Function {
            name: "none",
            kind: Kind::Over,
            offset: 0,
            address: 0,
            size: NOP.len() as u64,
        };
        let made = memfd_create(c"agentrec-uprobe", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
        let written = made.map(File::from).and_then(|mut file| file.write_all(&NOP).map(|()| file));
        match written.map(|file| self.probe(&file, &function)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot probe what nobody executes"),
            Err(error) => tracing::debug!(%error, "cannot make a file in memory"),
        }
    }

    /// Probes a function in all processes.
    fn probe(&mut self, file: &File, function: &Function) -> Result<(), Error> {
        // Whatever its path means by now, this is the file that was looked at.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let programs: &[&'static str] = match function.kind {
            Kind::Transfer { .. } | Kind::Unseen { .. } => &["tls_entered", "tls_returned"],
            Kind::Over => &["tls_over"],
            Kind::Begins => &["tls_began"],
        };
        for program in programs {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(function.offset),
                cookie: Some(cookie(function.kind)),
            };
            let uprobe = self.uprobe(program);
            privileges::with_rights(|| uprobe.attach(point, &path, UProbeScope::AllProcesses))
                .map_err(|error| super::attach::refused(program, error))?;
        }
        Ok(())
    }
}

/// The program that a process executes.
fn program(pid: Tid) -> Option<FileId> {
    std::fs::metadata(format!("/proc/{pid}/exe")).ok().map(|meta| FileId::from(&meta))
}

/// What the programs have to know of a function.
fn cookie(kind: Kind) -> u64 {
    let of = |direction, count| {
        let way = if direction == Direction::Write { abi::WRITES } else { 0 };
        way | match count {
            Count::Int => abi::INT,
            Count::Long => abi::LONG,
            Count::At(3) => abi::AT | abi::FOURTH,
            Count::At(_) => abi::AT,
        }
    };
    match kind {
        Kind::Transfer { direction, count } => of(direction, count),
        Kind::Unseen { direction, count } => of(direction, count) | abi::UNSEEN,
        Kind::Over | Kind::Begins => abi::OVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_mapped_an_object_before_it_was_probed_is_late_until_then() {
        let mut probed = Probed::default();
        probed.mapped(7, 100, 250);
        // Somebody else mapped it while that went on.
        probed.mapped(8, 200, 250);
        probed.mapped(9, 300, 250);
        assert!(probed.is_late(7, 240) && probed.is_late(8, 240));
        assert!(!probed.is_late(7, 250) && !probed.is_late(9, 240));
        // Another object of the same process, which was probed long before.
        probed.mapped(7, 120, 50);
        assert!(probed.is_late(7, 240));
        // Another process of that number.
        probed.mapped(7, 900, 250);
        assert!(!probed.is_late(7, 240));
    }
}
