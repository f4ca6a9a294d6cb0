//! Events as short lines without what differs from run to run, so that a test can state all of them.

use std::collections::HashMap;
use std::path::Path;

use agentrec_recorder::source::{Captured, OpenId};
use agentrec_trace::event::{Address, Content};
use agentrec_trace::{Bytes, Data, ProcId, Seq, open_flags};

/// One line an event; `dir` is written as nothing, so that paths in it are relative.
pub fn lines<'a>(events: impl Iterator<Item = &'a Captured>, dir: &Path) -> Vec<String> {
    let mut writer =
        Writer { dir: format!("{}/", dir.display()), opened: HashMap::new(), pids: HashMap::new() };
    events.map(|captured| writer.line(captured)).collect()
}

struct Writer {
    dir: String,
    /// What each description in use is.
    opened: HashMap<OpenId, String>,
    /// Processes by their pid.
    pids: HashMap<u32, ProcId>,
}

impl Writer {
    fn line(&mut self, captured: &Captured) -> String {
        let event = &captured.event;
        match (&event.data, event.proc) {
            (Data::ProcessExec(exec), Some(proc)) => drop(self.pids.insert(exec.pid, proc)),
            (Data::ProcessFork(fork), _) => drop(self.pids.insert(fork.pid, fork.child)),
            _ => {}
        }
        let what = self.data(&event.data);
        if let Some(id) = captured.opens {
            let name = match &event.data {
                Data::FileOpen(open) => self.path(&open.path),
                Data::NetConnect(connect) => format!("{} connection", connect.protocol),
                Data::NetAccept(accept) => format!("accepted {}", accept.protocol),
                Data::NetListen(listen) => format!("{} listener", listen.protocol),
                other => panic!("{} opens nothing", other.type_name()),
            };
            self.opened.insert(id, name);
        }
        format!("p{} {what}", event.proc.unwrap_or(ProcId(0)).0)
    }

    fn data(&self, data: &Data<'static>) -> String {
        let name = data.type_name();
        let path = |path: &[u8]| self.path(path);
        match data {
            Data::ProcessFork(fork) => format!("fork p{} {:#x}", fork.child.0, fork.flags),
            Data::ProcessExec(exec) => {
                let argv = words(exec.argv.iter().map(|arg| path(arg)));
                let variable = |(name, value): &(Bytes<'_>, Option<Bytes<'_>>)| match value {
                    Some(value) => format!("{}={}", text(name), text(value)),
                    None => format!("-{}", text(name)),
                };
                let env = words(exec.env.iter().map(variable));
                let exe = exec.exe.as_ref().map(|exe| format!(" exe {}", path(exe)));
                let what =
                    format!("{} [{argv}] [{env}]{}", path(&exec.path), exe.unwrap_or_default());
                format!("exec {what}{}", errno(exec.errno))
            }
            Data::ProcessExit(exit) => match (exit.code, exit.signal) {
                (Some(code), None) => format!("exit {code}"),
                (None, Some(signal)) => format!("killed by {signal}"),
                other => panic!("an end is a code or a signal: {other:?}"),
            },
            Data::FileOpen(open) => {
                let created = if open.created { " created" } else { "" };
                let fd = open.fd.map(|fd| format!(" = {fd}")).unwrap_or_default();
                let mode = if open.mode > 0 { format!(" {:o}", open.mode) } else { String::new() };
                let flags = flags(open.flags);
                format!("open {} {flags}{mode}{fd}{created}{}", path(&open.path), errno(open.errno))
            }
            Data::FileClose(close) => {
                let what = self.opened_by(close.open, close.path.as_deref());
                format!("close {what} r{} w{}", close.read, close.written)
            }
            Data::FileRename(rename) => {
                let flags =
                    if rename.flags == 0 { "".into() } else { format!(" {}", rename.flags) };
                let (from, to) = (path(&rename.from), path(&rename.to));
                format!("rename {from} {to}{flags}{}", errno(rename.errno))
            }
            Data::FileUnlink(data) => format!("unlink {}{}", path(&data.path), errno(data.errno)),
            Data::FileRmdir(data) => format!("rmdir {}{}", path(&data.path), errno(data.errno)),
            Data::FileMkdir(data) => {
                format!("mkdir {} {:o}{}", path(&data.path), data.mode, errno(data.errno))
            }
            Data::FileLink(data) => {
                let of = data.open.map(|open| format!(" of {}", self.opened_by(Some(open), None)));
                let (from, to) = (path(&data.from), path(&data.to));
                format!("link {from} {to}{}{}", of.unwrap_or_default(), errno(data.errno))
            }
            Data::FileSymlink(data) => {
                format!(
                    "symlink {} -> {}{}",
                    path(&data.path),
                    text(&data.target),
                    errno(data.errno)
                )
            }
            Data::FileMknod(data) => {
                format!("mknod {} {:o}{}", path(&data.path), data.mode, errno(data.errno))
            }
            Data::FileTruncate(data) => {
                format!("truncate {} {}{}", path(&data.path), data.length, errno(data.errno))
            }
            Data::FileChmod(data) => {
                format!("chmod {} {:o}{}", path(&data.path), data.mode, errno(data.errno))
            }
            Data::FileChown(data) => {
                let id = |id: Option<u32>| if id.is_some() { "set" } else { "-" };
                let (uid, gid) = (id(data.uid), id(data.gid));
                format!("chown {} {uid}:{gid}{}", path(&data.path), errno(data.errno))
            }
            Data::FileUtime(data) => {
                let time = |time: Option<i64>| time.map_or("-".into(), |time| time.to_string());
                let (atime, mtime) = (time(data.atime), time(data.mtime));
                format!("utime {} {atime} {mtime}{}", path(&data.path), errno(data.errno))
            }
            Data::FileXattr(data) => {
                let size = data.size.map_or("removed".into(), |size| size.to_string());
                format!(
                    "xattr {} {} {size}{}",
                    path(&data.path),
                    text(&data.name),
                    errno(data.errno)
                )
            }
            Data::FileMmap(data) => {
                format!(
                    "mmap {} {}+{}{}",
                    path(&data.path),
                    data.offset,
                    data.length,
                    errno(data.errno)
                )
            }
            Data::FileClone(data) => {
                format!("clone {} {}{}", path(&data.from), path(&data.to), errno(data.errno))
            }
            Data::Mount(data) => {
                let what = [&data.source, &data.target, &data.fstype].map(|bytes| path(bytes));
                let what = [&*data.op].into_iter().map(str::to_owned).chain(what);
                let what = words(what.filter(|word| !word.is_empty()));
                format!("{what} {:#x}{}", data.flags, errno(data.errno))
            }
            Data::DirChange(data) => format!("chdir {}{}", path(&data.path), errno(data.errno)),
            Data::NetConnect(data) => {
                let (peer, by) = (self.address(&data.peer), self.process(data.peer_pid));
                format!("connect {} {}{peer}{by}{}", data.fd, data.protocol, errno(data.errno))
            }
            Data::NetListen(data) => {
                let local = self.address(&data.local);
                format!("listen {} {}{local}{}", data.fd, data.protocol, errno(data.errno))
            }
            Data::NetAccept(data) => {
                let (peer, by) = (self.address(&data.peer), self.process(data.peer_pid));
                let listener = match data.listen {
                    Some(_) => self.opened_by(data.listen, None),
                    None => "nothing".into(),
                };
                format!("accept {} {}{peer}{by} through {listener}", data.fd, data.protocol)
            }
            Data::NetShutdown(data) => {
                let what = self.opened_by(data.open, None);
                format!("shutdown {what} {}{}", data.how, errno(data.errno))
            }
            Data::NetClose(data) => {
                let what = match &data.peer {
                    Some(peer) => format!("{}{}", peer.family, self.address(peer)),
                    None => self.opened_by(data.open, None),
                };
                format!("{name} {what} s{} r{}", data.sent, data.received)
            }
            Data::TermOutput(data) => match &data.data {
                Content::Inline(bytes) if bytes.len() < 100 => {
                    format!("output {} {:?}", data.fd, text(bytes))
                }
                Content::Inline(bytes) => format!("output {} {} bytes", data.fd, bytes.len()),
                Content::Object { .. } => panic!("the engine makes no objects"),
            },
            Data::TermInput(data) => match &data.data {
                Content::Inline(bytes) if data.hidden == 0 => format!("input {:?}", text(bytes)),
                Content::Inline(bytes) if bytes.is_empty() => {
                    format!("input {} hidden", data.hidden)
                }
                other => panic!("kept though hidden: {other:?}"),
            },
            Data::TermResize(data) => format!("resize {}x{}", data.cols, data.rows),
            Data::Lost(lost) => {
                let reason = match lost.peer_pid {
                    Some(pid) => lost.reason.replace(&format!("(pid {pid})"), "(pid)"),
                    None => lost.reason.to_string(),
                };
                format!("lost {}: {reason}", lost.place)
            }
            other => panic!("no engine event: {}", other.type_name()),
        }
    }

    fn opened_by(&self, open: Option<Seq>, path: Option<&[u8]>) -> String {
        match (open, path) {
            (Some(Seq(id)), None) => {
                let id = OpenId(u32::try_from(id).expect("ids are small"));
                self.opened.get(&id).expect("an open came before its close").clone()
            }
            // Pipes have a number that differs from run to run.
            (None, Some(path)) => self.path(path).split(':').next().unwrap_or_default().into(),
            other => panic!("a close names its open or a path: {other:?}"),
        }
    }

    /// With a space in front; nothing for an address without a name.
    fn address(&self, address: &Address<'_>) -> String {
        let name = match &*address.family {
            "unix" => self.path(&address.path),
            _ => address.host.to_string(),
        };
        if name.is_empty() { name } else { format!(" {name}") }
    }

    /// At the other end, with a space in front.
    fn process(&self, pid: Option<u32>) -> String {
        match pid.map(|pid| self.pids.get(&pid)) {
            Some(Some(proc)) => format!(" to p{}", proc.0),
            Some(None) => " to another".into(),
            None => String::new(),
        }
    }

    fn path(&self, path: &[u8]) -> String {
        let path = text(path);
        match path.strip_prefix(&self.dir) {
            Some(inside) => inside.into(),
            None if path == self.dir.trim_end_matches('/') => ".".into(),
            None => path,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn words(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn errno(errno: Option<i32>) -> String {
    let Some(errno) = errno else { return String::new() };
    format!(" {:?}", nix::errno::Errno::from_raw(errno))
}

/// Flags of open(2), the access mode as one letter.
fn flags(flags: u32) -> String {
    let flags = flags as i32;
    let mut out = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => "r",
        libc::O_WRONLY => "w",
        _ => "rw",
    }
    .to_owned();
    let mut left = flags & !libc::O_ACCMODE;
    for (flag, name) in [
        (libc::O_CREAT, "creat"),
        (libc::O_EXCL, "excl"),
        (libc::O_TRUNC, "trunc"),
        (libc::O_APPEND, "append"),
        (open_flags::TMPFILE.cast_signed(), "tmpfile"),
        (open_flags::DIRECTORY.cast_signed(), "directory"),
        (libc::O_CLOEXEC, "cloexec"),
        (libc::O_PATH, "path"),
    ] {
        if left & flag == flag {
            out.push('|');
            out.push_str(name);
            left &= !flag;
        }
    }
    if left != 0 {
        out.push_str(&format!("|{left:o}"));
    }
    out
}
