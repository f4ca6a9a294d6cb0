//! The process that [`attach`](crate::attach) records: what /proc says of it, and why it can't be traced where it can't.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agentrec_launch::{Plan, PrivateMount};
use agentrec_trace::event::StandardFd;
use nix::unistd::{geteuid, getpid};

use crate::error::{Error, Result};
use crate::observation::split_nul;

/// A process that runs already.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id.
    pub pid: i32,
    /// The name of its program, as `ps` shows it.
    pub name: String,
    /// Its user.
    pub(crate) uid: u32,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    root: PathBuf,
}

/// Lines of /proc/PID/status and fields of /proc/PID/stat.
struct Process {
    status: String,
    /// Behind the name: state, parent, …, flags as the seventh.
    stat: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let stat = fields.split(' ').map(str::to_owned).collect();
        Some(Self { status, stat })
    }

    fn field(&self, name: &str) -> Option<&str> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.split_whitespace().next()
    }

    fn number(&self, name: &str) -> i32 {
        self.field(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn name(&self) -> String {
        self.field("Name").unwrap_or("?").to_owned()
    }

    fn is_zombie(&self) -> bool {
        self.stat.first().is_some_and(|state| state == "Z" || state == "X")
    }

    /// PF_KTHREAD in the flags (include/linux/sched.h).
    fn is_kernel_thread(&self) -> bool {
        let flags = self.stat.get(6).and_then(|text| text.parse::<u32>().ok());
        flags.is_some_and(|flags| flags & 0x0020_0000 != 0)
    }
}

impl Target {
    /// Looks a process up.
    ///
    /// # Errors
    /// [`Error::Target`] where there is none, or where it can't be traced.
    pub fn of(pid: i32) -> Result<Self> {
        let refused =
            |(reason, hint): (String, Option<String>)| Error::Target { pid, reason, hint };
        let process = examine(pid).map_err(refused)?;
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let gone = |error: io::Error| refused((error.to_string(), None));
        let strings = |name| fs::read(dir.join(name)).map_err(gone);
        let cmdline = strings("cmdline")?;
        let environ = strings("environ")?;
        let variable = |entry: &[u8]| {
            let at = entry.iter().position(|&byte| byte == b'=')?;
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            Some((text(&entry[..at]), text(&entry[at + 1..])))
        };
        Ok(Self {
            pid,
            name: process.name(),
            uid: process.number("Uid") as u32,
            argv: split_nul(&cmdline).map(|arg| OsString::from_vec(arg.to_vec())).collect(),
            env: split_nul(&environ).filter_map(variable).collect(),
            cwd: fs::read_link(dir.join("cwd")).map_err(gone)?,
            root: dir.join("root"),
        })
    }

    /// That nobody traces it, which stops nobody who does not trace.
    ///
    /// # Errors
    /// [`Error::Target`] where somebody does.
    pub(crate) fn refuse_traced(&self) -> Result<()> {
        let Some(process) = Process::read(self.pid) else { return Ok(()) };
        let refused = |(reason, hint)| Error::Target { pid: self.pid, reason, hint };
        refuse_traced(&process).map_err(refused)
    }

    /// What it runs and sees. Its files are looked for where it has them: it may be in a container.
    pub fn plan(&self) -> Plan {
        let inside = !same_file(&self.root, Path::new("/"));
        let source = || self.root.join(self.cwd.strip_prefix("/").unwrap_or(&self.cwd));
        let mount = inside.then(|| PrivateMount { source: source(), target: self.cwd.clone() });
        Plan {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            mounts: mount.into_iter().collect(),
        }
    }

    /// What its descriptors 0, 1 and 2 are.
    pub(crate) fn standard_fds(&self) -> Vec<StandardFd<'static>> {
        (0..3).map(|fd| StandardFd { kind: self.kind(fd).into(), cols: 0, rows: 0 }).collect()
    }

    fn kind(&self, fd: i32) -> &'static str {
        /// Unix98 slaves (Documentation/admin-guide/devices.txt).
        const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
        let Ok(metadata) = fs::metadata(format!("/proc/{}/fd/{fd}", self.pid)) else {
            return "closed";
        };
        let kind = metadata.file_type();
        let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        match () {
            () if kind.is_fifo() => "pipe",
            () if kind.is_file() => "file",
            () if kind.is_socket() => "socket",
            () if !kind.is_char_device() => "other",
            () if (major, minor) == (1, 3) => "null",
            () if PTS_MAJORS.contains(&major) || major == 4 => "tty",
            () => "other",
        }
    }
}

/// Why a process can't be attached to, and what the user can do.
type Refusal = (String, Option<String>);

/// Tells a process that can be attached to, as far as can be known before it is tried.
fn examine(pid: i32) -> std::result::Result<Process, Refusal> {
    let because = |reason: &str| Err((reason.to_owned(), None));
    let hinted = |reason: String, hint: &str| Err((reason, Some(hint.to_owned())));
    let Some(process) = Process::read(pid).filter(|_| pid > 0) else {
        return because("there is no such process");
    };
    let leader = process.number("Tgid");
    if leader != pid {
        let reason = format!("it is a thread of process {leader}");
        return Err((reason, Some(format!("agentrec attach {leader}"))));
    }
    if process.is_kernel_thread() {
        return because("it is a thread of the kernel");
    }
    if process.is_zombie() {
        return because("it has ended, and only waits for its parent to take note (a zombie)");
    }
    if pid == getpid().as_raw() {
        return because("it is this command itself");
    }
    if ancestors().any(|ancestor| ancestor == pid) {
        let reason = "it is an ancestor of this command, which would wait for itself".to_owned();
        return hinted(reason, "start agentrec from a terminal that it did not start");
    }
    // The kernel asks here what PTRACE_SEIZE asks (PTRACE_MODE_ATTACH in ptrace(2)), Yama included.
    match File::open(format!("/proc/{pid}/mem")) {
        Ok(_) => Ok(process),
        Err(_) => Err(forbidden(&process)),
    }
}

/// A process has one tracer at a time.
fn refuse_traced(process: &Process) -> std::result::Result<(), Refusal> {
    match process.number("TracerPid") {
        0 => Ok(()),
        tracer => {
            // It is a thread, whose name says little.
            let leader = Process::read(tracer).map_or(tracer, |thread| thread.number("Tgid"));
            let name = Process::read(leader).map_or("?".into(), |leader| leader.name());
            let hint = match name.as_str() {
                "agentrec" => {
                    "a process has one recorder at a time: `agentrec list` shows its session"
                }
                _ => "a process has one tracer at a time: end that one first",
            };
            Err((format!("it is traced already, by process {leader} ({name})"), Some(hint.into())))
        }
    }
}

fn ancestors() -> impl Iterator<Item = i32> {
    std::iter::successors(Some(getpid().as_raw()), |&pid| {
        let parent = Process::read(pid)?.number("PPid");
        (parent > 0).then_some(parent)
    })
    .skip(1)
}

/// ptrace(2), "Ptrace access mode checking"; Documentation/admin-guide/LSM/Yama.rst in the kernel's source.
fn forbidden(process: &Process) -> Refusal {
    let user = process.number("Uid") as u32;
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let root = geteuid().is_root();
    let (why, hint) = match scope.trim() {
        "3" => {
            ("kernel.yama.ptrace_scope is 3: nobody may trace", "it takes a reboot to change that")
        }
        _ if root => (
            "not permitted, although we are root",
            "in a container: give it the capability SYS_PTRACE, or attach from outside",
        ),
        "2" => ("kernel.yama.ptrace_scope is 2: only root may trace", "run as root"),
        _ if user != geteuid().as_raw() => {
            return (
                format!("not permitted: it runs as user {user}"),
                Some("run as that user, or as root".into()),
            );
        }
        "1" => (
            "kernel.yama.ptrace_scope is 1: a process may be traced only by who started it",
            "run as root, or `sudo sysctl kernel.yama.ptrace_scope=0`",
        ),
        _ => (
            "not permitted: it has rights that we don't have, or does not want to be looked into (PR_SET_DUMPABLE)",
            "run as root",
        ),
    };
    (why.to_owned(), Some(hint.to_owned()))
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(a).is_some_and(|a| Some(a) == id(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(pid: i32) -> String {
        let error = Target::of(pid).unwrap_err();
        format!("{error}: {}", error.hint().unwrap_or_default())
    }

    #[test]
    fn says_why_a_process_cannot_be_attached_to() {
        let own = getpid().as_raw();
        assert!(refusal(own).contains(&format!("cannot attach to process {own}: it is this")));
        let parent = nix::unistd::getppid().as_raw();
        assert!(refusal(parent).contains("it is an ancestor"), "{}", refusal(parent));
        assert!(refusal(i32::MAX).contains("there is no such process"));
        assert!(refusal(-1).contains("there is no such process"));
        let thread = std::thread::spawn(|| refusal(nix::unistd::gettid().as_raw())).join().unwrap();
        assert!(thread.contains(&format!("it is a thread of process {own}")), "{thread}");
    }

    #[test]
    fn a_zombie_is_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        while !Process::read(pid).unwrap().is_zombie() {
            std::thread::yield_now();
        }
        assert!(refusal(pid).contains("a zombie"));
        child.wait().unwrap();
        assert!(refusal(pid).contains("no such process"));
    }
}
