//! What processes did, as strace saw it: independent of the recorder, from what the kernel says of each descriptor.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::deeds::{Deeds, Index};
use super::names::{LONGEST_NAME, absolute, physical, text};
use super::silent::is_silent;
use super::strace::{Call, Line, What, decoration, field, number, string, strings};

/// Arguments longer than this are cut, by strace (`-s`) and here.
pub const LONGEST_ARGUMENT: usize = 512;

/// Reads what strace wrote of a command that was started in `directory`. `output` is what strace calls the pipes
/// that were its descriptors 1 and 2.
pub fn reference(lines: &[Line], directory: &[u8], outputs: [&[u8]; 2]) -> Deeds {
    let mut reader = Reader {
        deeds: Deeds::default(),
        parents: parents(lines),
        processes: HashMap::new(),
        directories: Vec::new(),
        descriptors: HashMap::new(),
        linked: HashMap::new(),
        start: directory.to_vec(),
        outputs: outputs.map(<[u8]>::to_vec),
    };
    for line in lines {
        let process = reader.process(line.tid);
        let leads = !reader.parents.get(&line.tid).is_some_and(|parent| parent.thread);
        match &line.what {
            What::Call(call) => reader.call(process, call),
            What::Exited(code) if leads => reader.end(process, format!("exit {code}")),
            What::Killed(signal) if leads => reader.end(process, format!("killed by {signal}")),
            // A thread's end is no event.
            What::Exited(_) | What::Killed(_) => {}
        }
    }
    reader.deeds
}

/// Who started a thread or a process.
struct Parent {
    tid: u32,
    thread: bool,
}

/// A child's first calls may come before the end of the call that started it.
fn parents(lines: &[Line]) -> HashMap<u32, Parent> {
    let mut parents = HashMap::new();
    for line in lines {
        let What::Call(call) = &line.what else { continue };
        let forks = ["fork", "vfork", "clone", "clone3"].contains(&call.name.as_str());
        if let (true, Ok(child)) = (forks, &call.result) {
            let thread = call.args.iter().any(|arg| arg.contains("CLONE_THREAD"));
            let parent = Parent { tid: line.tid, thread };
            let reused = parents.insert(*child as u32, parent).is_some();
            assert!(!reused, "the kernel used a process id twice in one run");
        }
    }
    parents
}

struct Reader {
    deeds: Deeds,
    parents: HashMap<u32, Parent>,
    processes: HashMap<u32, Index>,
    /// Working directory of each process.
    directories: Vec<Vec<u8>>,
    /// What strace said last of a process's descriptor.
    descriptors: HashMap<(Index, i64), Vec<u8>>,
    /// The first name that a file without one was given: the kernel goes on to call its descriptors by number.
    linked: HashMap<Vec<u8>, Vec<u8>>,
    start: Vec<u8>,
    outputs: [Vec<u8>; 2],
}

impl Reader {
    fn process(&mut self, tid: u32) -> Index {
        if let Some(&process) = self.processes.get(&tid) {
            return process;
        }
        let process = match self.parents.get(&tid).map(|parent| (parent.tid, parent.thread)) {
            Some((parent, true)) => self.process(parent),
            Some((parent, false)) => {
                let parent = self.process(parent);
                self.directories.push(self.directories[parent].clone());
                self.deeds.process(Some(parent))
            }
            None => {
                assert!(self.processes.is_empty(), "nobody started {tid}");
                self.directories.push(self.start.clone());
                self.deeds.process(None)
            }
        };
        self.processes.insert(tid, process);
        process
    }

    fn end(&mut self, process: Index, how: String) {
        self.deeds.add(process, how, String::new(), None);
    }

    fn call(&mut self, process: Index, call: &Call) {
        // What the kernel says it is: the program's own moves may have been by a link.
        for arg in call.args.iter().filter(|arg| arg.starts_with("AT_FDCWD<")) {
            let mut directory = decoration(arg).expect("a directory");
            // strace says so of descriptors behind their names, of this one inside.
            if directory.ends_with(b" (deleted)") {
                directory.truncate(directory.len() - " (deleted)".len());
            }
            self.directories[process] = directory;
        }
        let opened = call.result.as_ref().ok().zip(call.names.clone());
        let opened = opened.map(|(&fd, name)| (fd, name));
        let named = call.args.iter().filter_map(|arg| Some((number(arg)?, decoration(arg)?)));
        for (fd, name) in named.chain(opened) {
            self.descriptors.insert((process, fd), name);
        }
        let errno = call.result.clone().err();
        let by_name = |index| Place::Name { dir: None, name: index };
        let by_dir = |dir| Place::Name { dir: Some(dir), name: dir + 1 };
        let add = |reader: &mut Self, operation: String, path: Option<String>| {
            if let Some(path) = path {
                reader.deeds.add(process, operation, path, errno.clone());
            }
        };
        let meant =
            |reader: &Self, place| reader.path(process, call, place).map(|path| text(&path));
        let file = |reader: &Self, place| {
            reader.path(process, call, place).map(|path| text(&physical(&path)))
        };
        match call.name.as_str() {
            "open" => add(self, open(call.arg(1)), meant(self, by_name(0))),
            "openat" => add(self, open(call.arg(2)), meant(self, by_dir(0))),
            "openat2" => {
                let flags = field(call.arg(2), "flags").expect("flags");
                add(self, open(flags), meant(self, by_dir(0)));
            }
            "creat" => add(self, open("O_WRONLY|O_CREAT|O_TRUNC"), meant(self, by_name(0))),
            "execve" => self.exec(process, call, by_name(0), 1),
            "execveat" => self.exec(process, call, by_dir(0), 2),
            "rename" => self.two(process, call, "rename", by_name(0), by_name(1)),
            "renameat" => self.two(process, call, "rename", by_dir(0), by_dir(2)),
            "renameat2" => {
                let flags = if call.arg(4) == "0" { "" } else { call.arg(4) };
                self.two(process, call, &format!("rename{flags}"), by_dir(0), by_dir(2));
            }
            "link" => self.two(process, call, "link", by_name(0), by_name(1)),
            "linkat" => {
                let from = match call.has(4, "AT_EMPTY_PATH") {
                    true => Place::NameOrFd { fd: 0, name: 1 },
                    false => by_dir(0),
                };
                self.two(process, call, "link", from, by_dir(2));
            }
            "symlink" | "symlinkat" => {
                let place = if call.name == "symlink" { by_name(1) } else { by_dir(1) };
                let target =
                    string(call.arg(0)).map(|(target, _)| text(&target)).unwrap_or_default();
                add(self, format!("symlink to {target}"), meant(self, place));
            }
            "unlink" => add(self, "unlink".into(), meant(self, by_name(0))),
            "unlinkat" => {
                let operation = if call.has(2, "AT_REMOVEDIR") { "rmdir" } else { "unlink" };
                add(self, operation.into(), meant(self, by_dir(0)));
            }
            "rmdir" => add(self, "rmdir".into(), meant(self, by_name(0))),
            "mkdir" => add(self, mode("mkdir", call.arg(1)), meant(self, by_name(0))),
            "mkdirat" => add(self, mode("mkdir", call.arg(2)), meant(self, by_dir(0))),
            "mknod" => add(self, "mknod".into(), meant(self, by_name(0))),
            "mknodat" => add(self, "mknod".into(), meant(self, by_dir(0))),
            "truncate" => add(self, format!("truncate {}", call.arg(1)), file(self, by_name(0))),
            "ftruncate" => add(self, format!("truncate {}", call.arg(1)), file(self, Place::Fd(0))),
            "fallocate" => {
                let number = |index| number(call.arg(index)).expect("a number");
                let operation = format!("truncate {}", number(2) + number(3));
                add(self, operation, file(self, Place::Fd(0)));
            }
            "chmod" => add(self, mode("chmod", call.arg(1)), file(self, by_name(0))),
            "fchmod" => add(self, mode("chmod", call.arg(1)), file(self, Place::Fd(0))),
            "fchmodat" | "fchmodat2" => {
                add(
                    self,
                    mode("chmod", call.arg(2)),
                    file(self, Place::NameOrFd { fd: 0, name: 1 }),
                );
            }
            "chown" | "lchown" => add(self, "chown".into(), file(self, by_name(0))),
            "fchown" => add(self, "chown".into(), file(self, Place::Fd(0))),
            "fchownat" => {
                add(self, "chown".into(), file(self, Place::NameOrFd { fd: 0, name: 1 }));
            }
            "utime" | "utimes" => add(self, "utime".into(), file(self, by_name(0))),
            "futimesat" | "utimensat" => {
                add(self, "utime".into(), file(self, Place::NameOrFd { fd: 0, name: 1 }));
            }
            "setxattr" | "lsetxattr" => {
                add(self, attribute("set", call, 1), file(self, by_name(0)));
            }
            "fsetxattr" => add(self, attribute("set", call, 1), file(self, Place::Fd(0))),
            "removexattr" | "lremovexattr" => {
                add(self, attribute("remove", call, 1), file(self, by_name(0)));
            }
            "fremovexattr" => add(self, attribute("remove", call, 1), file(self, Place::Fd(0))),
            "mmap" => {
                let shared = call.has(3, "MAP_SHARED") || call.has(3, "MAP_SHARED_VALIDATE");
                if shared && call.has(2, "PROT_WRITE") {
                    add(self, format!("mmap {}", call.arg(1)), file(self, Place::Fd(4)));
                }
            }
            "chdir" | "fchdir" => {
                let place = if call.name == "chdir" { by_name(0) } else { Place::Fd(0) };
                let path = self.path(process, call, place);
                if let (Some(path), None) = (&path, &errno) {
                    self.directories[process] = physical(path);
                }
                let operation = "chdir".into();
                add(self, operation, path.map(|path| text(&physical(&path))));
            }
            "connect" => {
                let peer = self.peer(process, call.arg(1));
                add(self, "connect".into(), Some(peer));
            }
            "read" | "pread64" | "readv" | "preadv" | "preadv2" => {
                self.moved(process, call, Some(0), None)
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => {
                self.moved(process, call, None, Some(0));
            }
            "sendfile" => self.moved(process, call, Some(1), Some(0)),
            "splice" | "copy_file_range" => self.moved(process, call, Some(0), Some(2)),
            // Sums of connections are not compared: their peers have no name.
            "sendto" | "sendmsg" | "sendmmsg" | "recvfrom" | "recvmsg" | "recvmmsg" => {}
            // Children are processes, which are compared.
            "fork" | "vfork" | "clone" | "clone3" => {}
            name => {
                assert!(
                    is_silent(name),
                    "strace saw a call that nothing is known of here: {call:?}"
                );
            }
        }
    }

    fn exec(&mut self, process: Index, call: &Call, place: Place, argv: usize) {
        // EFAULT is all that an unreadable name can come to, and then nothing is known of it.
        let Some(path) = self.path(process, call, place) else { return };
        let mut argv = strings(call.arg(argv));
        if call.result.is_ok() {
            let name = string(call.arg(if call.name == "execveat" { 1 } else { 0 }));
            interpreted(&mut argv, &path, name.map(|(name, _)| name).unwrap_or_default());
        }
        let argv: Vec<String> = argv.iter().map(|arg| text(arg)).collect();
        self.deeds.exec(process, text(&path), &argv, call.result.clone().err());
    }

    fn two(&mut self, process: Index, call: &Call, operation: &str, from: Place, to: Place) {
        let path = |place| self.path(process, call, place).map(|path| text(&path));
        let (Some(shown), Some(to_shown)) = (path(from), path(to)) else { return };
        let errno = call.result.clone().err();
        self.deeds.add(process, operation.into(), format!("{shown} -> {to_shown}"), errno);
        let unnamed = self.descriptor(process, call, from).filter(|name| directory(name).is_some());
        if let (Some(unnamed), Some(to), Ok(_)) =
            (unnamed, self.path(process, call, to), &call.result)
        {
            self.linked.entry(unnamed).or_insert(to);
        }
    }

    /// Bytes go from one descriptor to another, or from or to memory.
    fn moved(&mut self, process: Index, call: &Call, from: Option<usize>, to: Option<usize>) {
        let Ok(bytes) = call.result else { return };
        let bytes = u64::try_from(bytes).expect("a count");
        if let Some(path) = from.and_then(|arg| self.path(process, call, Place::Fd(arg))) {
            self.deeds.moved(process, text(&physical(&path)), bytes, 0);
        }
        let Some(to) = to else { return };
        let name = decoration(call.arg(to));
        let output = self.outputs.iter().position(|output| name.as_ref() == Some(output));
        if let Some(path) = self.path(process, call, Place::Fd(to)) {
            self.deeds.moved(process, text(&physical(&path)), 0, bytes);
        } else if let Some(output) = output {
            self.deeds.moved(process, format!("output {}", output + 1), 0, bytes);
        }
    }

    /// The path that a call means; none where that is not readable, or where a descriptor has no path.
    fn path(&self, process: Index, call: &Call, place: Place) -> Option<Vec<u8>> {
        match place {
            Place::Fd(fd) => decoration(call.arg(fd)).and_then(|name| self.named(name)),
            Place::Name { dir, name } => {
                let (name, whole) = string(call.arg(name))?;
                assert!(whole || name.len() >= LONGEST_NAME, "strace cuts no names of files");
                let base = dir.filter(|&dir| !call.arg(dir).starts_with("AT_FDCWD"));
                let directory = match base {
                    Some(dir) => decoration(call.arg(dir)),
                    None => Some(self.directories[process].clone()),
                };
                match directory {
                    _ if name.is_empty() => Some(name),
                    _ if let Some(path) = self.by_descriptor(process, &name) => Some(path),
                    Some(directory) => Some(absolute(&directory, &name)),
                    // The descriptor is none, so there is no directory to see the name from.
                    None => Some(name),
                }
            }
            Place::NameOrFd { fd, name } => {
                let itself = string(call.arg(name)).is_none_or(|(name, _)| name.is_empty());
                let place =
                    if itself { Place::Fd(fd) } else { Place::Name { dir: Some(fd), name } };
                self.path(process, call, place)
            }
        }
    }

    /// What a name means that leads to one of the process's descriptors by a link of the kernel's.
    fn by_descriptor(&self, process: Index, name: &[u8]) -> Option<Vec<u8>> {
        let (fd, below) = descriptor(name)?;
        let directory = self.named(self.descriptors.get(&(process, fd))?.clone());
        directory.map(|path| absolute(&path, below))
    }

    /// What strace says of the descriptor that a call means, if it means one.
    fn descriptor(&self, process: Index, call: &Call, place: Place) -> Option<Vec<u8>> {
        match place {
            Place::Fd(fd) => decoration(call.arg(fd)),
            Place::NameOrFd { fd, name } if string(call.arg(name))?.0.is_empty() => {
                decoration(call.arg(fd))
            }
            Place::Name { name, .. } | Place::NameOrFd { name, .. } => {
                let (name, _) = string(call.arg(name))?;
                let (fd, below) = descriptor(&name)?;
                let itself = below.is_empty();
                self.descriptors.get(&(process, fd)).filter(|_| itself).cloned()
            }
        }
    }

    /// The path of a descriptor that strace calls `name`: pipes, sockets and memory files have none, and a file without
    /// a name (O_TMPFILE) has its directory's, which is what the program said, until it is given one.
    fn named(&self, name: Vec<u8>) -> Option<Vec<u8>> {
        if !name.starts_with(b"/") || name.starts_with(b"/memfd:") {
            return None;
        }
        let Some(directory) = directory(&name) else { return Some(name) };
        Some(self.linked.get(&name).cloned().unwrap_or_else(|| directory.to_vec()))
    }

    /// Whom a `struct sockaddr` names.
    fn peer(&self, process: Index, address: &str) -> String {
        let quoted = |text: &str| {
            let quote = text.find('"')?;
            string(&text[quote..=quote + 1 + text[quote + 1..].find('"')?]).map(|(bytes, _)| bytes)
        };
        if let Some(path) = field(address, "sun_path") {
            let name = quoted(path).unwrap_or_default();
            return match path.starts_with('@') || name.is_empty() {
                true => format!("unix \\x00{}", text(&name)),
                false => format!("unix {}", text(&absolute(&self.directories[process], &name))),
            };
        }
        let port = field(address, "sin_port").or(field(address, "sin6_port"));
        let port = port.and_then(|port| port.strip_prefix("htons(")?.strip_suffix(')'));
        let host = field(address, "inet_addr(\"").or(field(address, "sin_addr"));
        let host = host.and_then(quoted).unwrap_or_default();
        format!("inet {}:{}", text(&host), port.unwrap_or_default())
    }
}

/// The arguments that a script's interpreter is given (execve(2)): itself, what stands behind it, and `name`. A
/// recording has the arguments that a program was started with, strace those that it was asked to be started with.
fn interpreted(argv: &mut Vec<Vec<u8>>, path: &[u8], name: Vec<u8>) {
    let content = fs::read(OsStr::from_bytes(path)).unwrap_or_default();
    let Some(line) = content.strip_prefix(b"#!") else { return };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let words = line.splitn(2, |&byte| byte == b' ').map(|word| word.trim_ascii().to_vec());
    let words: Vec<Vec<u8>> = words.chain([name]).collect();
    let interpreter = words[0].clone();
    argv.splice(..argv.len().min(1), words);
    // It may be a script itself.
    interpreted(argv, &interpreter, interpreter.clone());
}

/// Where a call has a name.
#[derive(Clone, Copy)]
enum Place {
    /// In an argument, seen from the directory that another names, or from the working directory.
    Name { dir: Option<usize>, name: usize },
    /// It is what a descriptor names.
    Fd(usize),
    /// One of the two: without a name, or with an empty one, it is the descriptor.
    NameOrFd { fd: usize, name: usize },
}

/// The descriptor that a name leads to by a link of the kernel's, and what stands behind it.
fn descriptor(name: &[u8]) -> Option<(i64, &[u8])> {
    let rest = match name {
        b"/dev/stdin" => b"0",
        b"/dev/stdout" => b"1",
        b"/dev/stderr" => b"2",
        _ => name.strip_prefix(b"/proc/self/fd/").or(name.strip_prefix(b"/dev/fd/"))?,
    };
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    let fd = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((fd, rest.get(end + 1..).unwrap_or_default()))
}

/// The directory of a file without a name, which the kernel calls by its number there.
fn directory(name: &[u8]) -> Option<&[u8]> {
    let slash = name.iter().rposition(|&byte| byte == b'/')?;
    let digits = name[slash..].strip_prefix(b"/#")?;
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then(|| &name[..slash])
}

/// An open with flags in a fixed order.
fn open(flags: &str) -> String {
    let mut flags: Vec<&str> = flags.split('|').collect();
    flags.sort_unstable();
    format!("open {}", flags.join("|"))
}

fn mode(operation: &str, mode: &str) -> String {
    format!("{operation} {:o}", number(mode).expect("a mode"))
}

fn attribute(operation: &str, call: &Call, name: usize) -> String {
    let name = string(call.arg(name)).map(|(name, _)| text(&name)).unwrap_or_default();
    format!("{operation} attribute {name}")
}
