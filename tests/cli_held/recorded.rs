//! What processes did, as a trace tells it. Any engine's: only events are read.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use agentrec_trace::event::{Address, Content};
use agentrec_trace::{Data, ProcId, Reader, Seq};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::deeds::{Deeds, Index};
use super::names::{physical, text};
use super::reference::LONGEST_ARGUMENT;

/// Reads the events of a trace, which must be complete, and must close what it opens.
pub fn recorded(trace: &Path) -> Deeds {
    let reader = Reader::open(trace).expect("a trace");
    let mut deeds = Deeds::default();
    let mut processes: HashMap<ProcId, Index> = HashMap::new();
    processes.insert(ProcId(1), deeds.process(None));
    let mut opened: HashMap<Seq, String> = HashMap::new();
    let mut left_open: BTreeSet<Seq> = BTreeSet::new();
    for event in reader.iter() {
        let event = event.expect("a readable trace");
        if let Data::Lost(lost) = &event.data {
            panic!("lost: {lost:?}");
        }
        let Some(proc) = event.proc else { continue };
        let process = *processes.get(&proc).unwrap_or_else(|| panic!("{proc} was not started"));
        let mut add = |operation: String, path: String, errno: Option<i32>| {
            deeds.add(process, operation, path, errno.map(name));
        };
        let file = |path: &[u8]| text(&physical(path));
        match &event.data {
            Data::ProcessFork(fork) => {
                processes.insert(fork.child, deeds.process(Some(process)));
            }
            Data::ProcessExec(exec) => {
                let cut = |arg: &[u8]| text(&arg[..arg.len().min(LONGEST_ARGUMENT)]);
                let argv: Vec<String> = exec.argv.iter().map(|arg| cut(arg)).collect();
                deeds.exec(process, text(&exec.path), &argv, exec.errno.map(name));
            }
            Data::ProcessExit(exit) => match (exit.code, exit.signal) {
                (Some(code), _) => add(format!("exit {code}"), String::new(), None),
                (None, signal) => {
                    let signal = Signal::try_from(signal.expect("one of both")).expect("a signal");
                    add(format!("killed by {signal}"), String::new(), None);
                }
            },
            Data::FileOpen(open) => {
                add(format!("open {}", flags(open.flags)), text(&open.path), open.errno);
                if open.errno.is_none() {
                    opened.insert(event.seq, file(&open.path));
                    left_open.insert(event.seq);
                }
            }
            Data::FileClose(close) => {
                let path = match (&close.open, &close.path) {
                    (Some(open), _) => {
                        left_open.remove(open);
                        opened.get(open).expect("a close follows its open").clone()
                    }
                    (None, Some(path)) if path.starts_with(b"/") => file(path),
                    // Pipes that were open before.
                    (None, _) => continue,
                };
                deeds.moved(process, path, close.read, close.written);
            }
            Data::FileRename(rename) => {
                let operation = match rename.flags {
                    0 => "rename",
                    libc::RENAME_NOREPLACE => "renameRENAME_NOREPLACE",
                    libc::RENAME_EXCHANGE => "renameRENAME_EXCHANGE",
                    other => panic!("flags {other:#x}"),
                };
                add(operation.into(), two(&rename.from, &rename.to), rename.errno);
            }
            Data::FileLink(link) => add("link".into(), two(&link.from, &link.to), link.errno),
            Data::FileSymlink(link) => {
                add(format!("symlink to {}", text(&link.target)), text(&link.path), link.errno);
            }
            Data::FileUnlink(data) => add("unlink".into(), text(&data.path), data.errno),
            Data::FileRmdir(data) => add("rmdir".into(), text(&data.path), data.errno),
            Data::FileMkdir(data) => {
                add(format!("mkdir {:o}", data.mode), text(&data.path), data.errno);
            }
            Data::FileMknod(data) => add("mknod".into(), text(&data.path), data.errno),
            Data::FileTruncate(data) => {
                add(format!("truncate {}", data.length), file(&data.path), data.errno);
            }
            Data::FileChmod(data) => {
                add(format!("chmod {:o}", data.mode), file(&data.path), data.errno);
            }
            Data::FileChown(data) => add("chown".into(), file(&data.path), data.errno),
            // Most times are the present one.
            Data::FileUtime(data) => add("utime".into(), file(&data.path), data.errno),
            Data::FileXattr(data) => {
                let operation = if data.size.is_some() { "set" } else { "remove" };
                let operation = format!("{operation} attribute {}", text(&data.name));
                add(operation, file(&data.path), data.errno);
            }
            Data::FileMmap(data) => {
                add(format!("mmap {}", data.length), file(&data.path), data.errno);
            }
            Data::DirChange(data) => add("chdir".into(), file(&data.path), data.errno),
            Data::NetConnect(data) => add("connect".into(), peer(&data.peer), data.errno),
            Data::TermOutput(data) => {
                let len = match &data.data {
                    Content::Inline(bytes) => bytes.len() as u64,
                    Content::Object { len, .. } => *len,
                };
                deeds.moved(process, format!("output {}", data.fd), 0, len);
            }
            // Sums of connections are not compared: their peers have no name.
            Data::NetClose(_) => {}
            other => panic!("an event that nothing is known of here: {other:?}"),
        }
    }
    assert!(left_open.is_empty(), "opened and never closed: {left_open:?}");
    deeds
}

fn name(errno: i32) -> String {
    format!("{:?}", Errno::from_raw(errno))
}

fn two(from: &[u8], to: &[u8]) -> String {
    format!("{} -> {}", text(from), text(to))
}

fn peer(peer: &Address<'_>) -> String {
    match &*peer.family {
        "unix" => format!("unix {}", text(&peer.path)),
        _ => format!("inet {}:{}", peer.host, peer.port),
    }
}

/// Flags of open(2) by name, in a fixed order.
fn flags(flags: u32) -> String {
    const LARGEFILE: i32 = 0o100_000;
    const NAMES: &[(i32, &str)] = &[
        (libc::O_CREAT, "O_CREAT"),
        (libc::O_EXCL, "O_EXCL"),
        (libc::O_NOCTTY, "O_NOCTTY"),
        (libc::O_TRUNC, "O_TRUNC"),
        (libc::O_APPEND, "O_APPEND"),
        (libc::O_NONBLOCK, "O_NONBLOCK"),
        // These hold the ones behind them.
        (libc::O_SYNC, "O_SYNC"),
        (libc::O_DSYNC, "O_DSYNC"),
        (libc::O_TMPFILE, "O_TMPFILE"),
        (libc::O_DIRECTORY, "O_DIRECTORY"),
        (libc::O_DIRECT, "O_DIRECT"),
        (LARGEFILE, "O_LARGEFILE"),
        (libc::O_NOFOLLOW, "O_NOFOLLOW"),
        (libc::O_NOATIME, "O_NOATIME"),
        (libc::O_CLOEXEC, "O_CLOEXEC"),
        (libc::O_PATH, "O_PATH"),
    ];
    let flags = flags as i32;
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"];
    let mut found = vec![access[(flags & libc::O_ACCMODE) as usize].to_owned()];
    let mut left = flags & !libc::O_ACCMODE;
    for (bits, name) in NAMES {
        if left & bits == *bits {
            found.push((*name).to_owned());
            left &= !bits;
        }
    }
    if left != 0 {
        found.push(format!("{left:#x}"));
    }
    found.sort_unstable();
    found.join("|")
}
