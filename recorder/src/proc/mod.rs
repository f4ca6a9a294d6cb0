//! What only /proc knows of a thread, best asked while it stands still: real directories, what descriptors name, arguments, memory use.

pub(crate) mod sockets;
mod terminal;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::model::{Kernel, SocketFacts, TerminalState};
use crate::observation::{ArgList, At, Tid, Usage};

pub(crate) use sockets::pidfd;

/// Longest argument list that is kept whole, in bytes.
pub(crate) const MAX_ARGS: usize = 64 * 1024;
/// Longest environment that is read, in bytes: more than the kernel lets an exec have (6 MiB, execve(2)).
const MAX_ENV: u64 = 8 * 1024 * 1024;

/// [`Kernel`] for threads that this thread traces.
#[derive(Debug, Default)]
pub(crate) struct Proc {
    /// A tracee serves a file system. To look up a name there would wait for that tracee, which may be waiting for us:
    /// from then on names are taken as they are. (What links in /proc say asks no file system.)
    pub(crate) serves_files: bool,
}

impl Kernel for Proc {
    fn working_directory(&mut self, tid: Tid) -> Option<Vec<u8>> {
        named(&format!("/proc/{tid}/cwd"))
    }

    fn descriptor(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        named(&format!("/proc/{tid}/fd/{fd}"))
    }

    fn root(&mut self, tid: Tid) -> Option<Vec<u8>> {
        absolute(fs::read_link(format!("/proc/{tid}/root")).ok()?)
    }

    fn mount_namespace(&mut self, tid: Tid) -> Option<u64> {
        Some(fs::metadata(format!("/proc/{tid}/ns/mnt")).ok()?.ino())
    }

    fn is_symlink(&mut self, tid: Tid, path: &[u8]) -> bool {
        if self.serves_files {
            return false;
        }
        let mut seen = format!("/proc/{tid}/root").into_bytes();
        seen.extend_from_slice(path);
        fs::symlink_metadata(OsStr::from_bytes(&seen)).is_ok_and(|found| found.is_symlink())
    }

    fn link(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        Some(fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?.into_os_string().into_vec())
    }

    fn pidfd(&mut self, tid: Tid, fd: RawFd) -> Option<Tid> {
        let info = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
        number(&info, "Pid:").map(|pid| pid as Tid)
    }

    fn socket(&mut self, tid: Tid, fd: RawFd) -> Option<SocketFacts> {
        sockets::facts(tid, fd)
    }

    fn terminal(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        terminal::device(tid, fd)
    }

    fn controlling_terminal(&mut self, tid: Tid) -> Option<u32> {
        terminal::controlling(tid)
    }

    fn terminal_state(&mut self, tid: Tid, fd: RawFd) -> Option<TerminalState> {
        terminal::state(tid, fd)
    }

    fn program(&mut self, pid: Tid) -> Option<Vec<u8>> {
        name(pid)
    }

    fn directory(&mut self, tid: Tid, path: &[u8]) -> Option<Vec<u8>> {
        if self.serves_files {
            return None;
        }
        // Links are followed as the thread would, from its own root.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = open(format!("/proc/{tid}/root").as_str(), flags, Mode::empty()).ok()?;
        let path = if path.is_empty() { b"/" } else { path };
        let found = openat2(root, OsStr::from_bytes(path), how).ok()?;
        named(&format!("/proc/self/fd/{}", found.as_raw_fd()))
    }

    fn descriptors(&mut self, tid: Tid) -> Vec<(RawFd, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(format!("/proc/{tid}/fd")) else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| {
                let fd = entry.file_name().to_str()?.parse().ok()?;
                let path = fs::read_link(entry.path()).ok()?;
                Some((fd, path.into_os_string().into_vec()))
            })
            .collect()
    }

    fn descriptor_flags(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        let info = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    }
}

impl Proc {
    /// Whether `at` exists for the thread, links followed; None where that is not to be asked.
    pub(crate) fn exists(&self, tid: Tid, at: At<'_>) -> Option<bool> {
        let At::Path { dir, path } = at else { return Some(true) };
        if self.serves_files {
            return None;
        }
        Some(fs::metadata(seen(tid, dir, path)).is_ok())
    }

    /// Whether the thread's descriptor is of what `at` leads to.
    pub(crate) fn is_open_as(&self, tid: Tid, fd: RawFd, at: At<'_>, follow: bool) -> bool {
        let At::Path { dir, path } = at else { return true };
        if self.serves_files {
            return false;
        }
        let path = seen(tid, dir, path);
        let named = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let opened = fs::metadata(format!("/proc/{tid}/fd/{fd}"));
        match (named, opened) {
            (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
            _ => false,
        }
    }
}

/// A thread's path as this process can use it.
fn seen(tid: Tid, dir: Option<RawFd>, path: &[u8]) -> PathBuf {
    let mut seen = match dir {
        _ if path.starts_with(b"/") => format!("/proc/{tid}/root"),
        Some(fd) => format!("/proc/{tid}/fd/{fd}/"),
        None => format!("/proc/{tid}/cwd/"),
    }
    .into_bytes();
    seen.extend_from_slice(path);
    OsString::from_vec(seen).into()
}

/// What a link of the kernel's names.
fn named(link: &str) -> Option<Vec<u8>> {
    let mut path = absolute(fs::read_link(link).ok()?)?;
    // The kernel says so of what was removed; a name may end like that, too.
    const DELETED: &[u8] = b" (deleted)";
    if path.ends_with(DELETED) && fs::metadata(link).is_ok_and(|found| found.nlink() == 0) {
        path.truncate(path.len() - DELETED.len());
    }
    Some(path)
}

/// Pipes, sockets and memory files have no path.
fn absolute(path: PathBuf) -> Option<Vec<u8>> {
    let path = path.into_os_string().into_vec();
    (path.starts_with(b"/") && !path.starts_with(b"/memfd:")).then_some(path)
}

/// Where in its file a descriptor stands, in bytes.
pub(crate) fn position(tid: Tid, fd: RawFd) -> Option<u64> {
    number(&fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?, "pos:")
}

/// The file that the kernel mapped for the thread's program.
pub(crate) fn program(tid: Tid) -> Option<Vec<u8>> {
    // Also of memory files, which some programs are run from: their name alone tells what they were.
    Some(fs::read_link(format!("/proc/{tid}/exe")).ok()?.into_os_string().into_vec())
}

/// The arguments of a program that was just executed.
pub(crate) fn arguments(tid: Tid) -> io::Result<ArgList> {
    let mut file = File::open(format!("/proc/{tid}/cmdline"))?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_ARGS as u64).read_to_end(&mut bytes)?;
    let rest = if bytes.len() < MAX_ARGS { 0 } else { io::copy(&mut file, &mut io::sink())? };
    let cut = (rest > 0).then(|| bytes.len() as u64 + rest);
    Ok(ArgList { bytes, cut })
}

/// The environment of a program that was just executed.
pub(crate) fn environment(tid: Tid) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{tid}/environ"))?.take(MAX_ENV).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The process that a thread belongs to, and that one's parent.
pub(crate) fn family(tid: Tid) -> Option<(Tid, Tid)> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    Some((number(&status, "Tgid:")? as Tid, number(&status, "PPid:")? as Tid))
}

/// Which network a thread is in, or this process.
pub(crate) fn network(tid: Option<Tid>) -> Option<Vec<u8>> {
    let path = tid.map_or_else(|| "/proc/self/ns/net".into(), |tid| format!("/proc/{tid}/ns/net"));
    Some(fs::read_link(path).ok()?.into_os_string().into_vec())
}

/// Whether no such thread is there any more, not even one that ended and was not yet waited for by its parent.
pub(crate) fn is_gone(tid: Tid) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(tid), None) == Err(nix::errno::Errno::ESRCH)
}

/// A process and its descendants, each with its parent; parents first.
pub(crate) fn tree(root: Tid) -> Vec<(Tid, Tid)> {
    let mut tree = trees(|pid| pid == root);
    match tree.first_mut() {
        Some(first) => first.1 = 0,
        None => tree.push((root, 0)),
    }
    tree
}

/// The processes that `wanted` picks and all descendants of theirs, each with its parent; parents first.
pub(crate) fn trees(wanted: impl Fn(Tid) -> bool) -> Vec<(Tid, Tid)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: HashMap<Tid, Tid> = pids.filter_map(|pid| Some((pid, family(pid)?.1))).collect();
    let mut children: HashMap<Tid, Vec<Tid>> = HashMap::new();
    for (&pid, &parent) in &parents {
        children.entry(parent).or_default().push(pid);
    }
    // From those whose parent is not to be seen: none, or in another pid namespace.
    let tops = parents.iter().filter(|(_, parent)| !parents.contains_key(parent));
    let mut all: Vec<(Tid, Tid, bool)> =
        tops.map(|(&pid, &parent)| (pid, parent, wanted(pid))).collect();
    let mut next = 0;
    while let Some(&(parent, _, inside)) = all.get(next) {
        let found = children.remove(&parent).unwrap_or_default();
        all.extend(found.into_iter().map(|child| (child, parent, inside || wanted(child))));
        next += 1;
    }
    all.into_iter().filter(|(.., inside)| *inside).map(|(pid, parent, _)| (pid, parent)).collect()
}

/// The user whose rights a process has.
pub(crate) fn user(pid: Tid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    number(&status, "Uid:").map(|uid| uid as u32)
}

/// The name of a process.
pub(crate) fn name(pid: Tid) -> Option<Vec<u8>> {
    let mut name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(name)
}

/// Whether a process is a thread of the kernel.
pub(crate) fn is_of_kernel(pid: Tid) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    flags(Path::new(&format!("/proc/{pid}"))).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// The threads of a process.
pub(crate) fn threads(pid: Tid) -> Vec<Tid> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a thread runs or waits: it has not ended.
pub(crate) fn may_stop(tid: Tid) -> bool {
    state(Path::new(&format!("/proc/{tid}"))).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether a process ends or has ended: none of its threads will do anything more, as far as they can be heard of.
pub(crate) fn is_ending(pid: Tid) -> bool {
    // Set before the kernel tells of the end.
    const PF_EXITING: u64 = 4;
    threads(pid).into_iter().all(|tid| {
        let thread = PathBuf::from(format!("/proc/{pid}/task/{tid}"));
        let ended = state(&thread).is_none_or(|state| matches!(state, 'Z' | 'X'));
        ended || flags(&thread).is_none_or(|flags| flags & PF_EXITING != 0)
    })
}

/// A thread's flags (include/linux/sched.h), from its directory in /proc.
fn flags(thread: &Path) -> Option<u64> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    // Behind the name: state, parent, group, session, terminal, its foreground group (proc_pid_stat(5)).
    stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()
}

/// Whether a thread sleeps so that only SIGKILL, or what it waits for, wakes it.
pub(crate) fn sleeps_deeply(tid: Tid) -> bool {
    state(Path::new(&format!("/proc/{tid}"))) == Some('D')
}

/// Whether this thread, which calls it, is a thread's tracer.
pub(crate) fn is_traced_by_us(tid: Tid) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let us = nix::unistd::gettid().as_raw();
    number(&status, "TracerPid:").is_some_and(|tracer| tracer == us as u64)
}

/// Whether a thread has a tracer: those of the tree have us until they were waited for.
pub(crate) fn is_traced(tid: Tid) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    number(&status, "TracerPid:").is_some_and(|tracer| tracer != 0)
}

/// Whether a thread of the process may be between starting a child and telling of it: it runs, or stopped to tell.
/// It never sleeps there (kernel/fork.c, kernel_clone).
pub(crate) fn may_be_forking(process: Tid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().any(|thread| matches!(state(&thread.path()), Some('R' | 't')))
}

/// The letter of a thread's state (proc_pid_stat(5)), from its directory in /proc.
fn state(thread: &Path) -> Option<char> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// What a process used, asked at the exit stop of its last thread, where its memory is still there. A peak of zero bytes
/// where it is gone, and nobody has waited for the process yet.
pub(crate) fn usage(pid: Tid) -> Usage {
    let (utime, stime) = cpu_times(pid);
    let max_rss = fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| number(&status, "VmHWM:"))
        .map_or(0, |kib| kib * 1024);
    Usage { utime, stime, max_rss }
}

/// User and system time in nanoseconds, without children (wait4(2) would add those): the process's exact run time, shared
/// out as its ticks are, which is how the kernel makes the two for getrusage(2) (cputime_adjust).
fn cpu_times(pid: Tid) -> (u64, u64) {
    // The kinds of clock in a process clock id (include/linux/posix-timers_types.h).
    const PROF: libc::clockid_t = 0;
    const VIRT: libc::clockid_t = 1;
    const SCHED: libc::clockid_t = 2;
    let clock = |kind| {
        let id = nix::time::ClockId::from_raw((!pid << 3) | kind);
        id.now().map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    };
    let (run, user, both) = (clock(SCHED), clock(VIRT), clock(PROF));
    let utime = match both {
        0 => run,
        _ => (u128::from(run) * u128::from(user.min(both)) / u128::from(both)) as u64,
    };
    (utime, run - utime)
}

/// A number behind a name of /proc/PID/status.
pub(crate) fn number(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.parse().ok()
}

/// The first word behind a name of /proc/PID/status.
pub(crate) fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}
