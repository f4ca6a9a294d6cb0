//! Between fork and exec: private mounts, working directory, the caller's hook, exec.
//!
//! The child of a fork may only make system calls (another thread may have held the allocator's lock), so all
//! memory is laid out in [`Prepared::new`] and every failure travels to the parent as twelve bytes on a pipe that a
//! successful exec closes.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::command_path;
use crate::{Error, Plan, PrivateMount, Step, inherited};

/// Why the caller's hook could not do its work.
pub type HookError = Errno;

/// A plan with all its memory laid out: ready for fork and exec.
pub struct Prepared {
    /// Where the command may be, in the order of the search.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    mounts: Vec<Mount>,
    uid_map: CString,
    gid_map: CString,
    /// For messages.
    plan_argv0: PathBuf,
    plan_cwd: PathBuf,
}

struct Mount {
    source: CString,
    target: CString,
    plan: PrivateMount,
}

/// A step that failed in the child, as it travels through the pipe.
#[derive(Clone, Copy)]
struct Failure {
    step: Step,
    /// Which mount, for the mount steps.
    index: u32,
    errno: Errno,
}

type ChildResult<T = ()> = Result<T, Failure>;

impl Failure {
    const LEN: usize = 12;

    fn new(step: Step, errno: Errno) -> Self {
        Self { step, index: 0, errno }
    }

    fn at(self, index: usize) -> Self {
        Self { index: index as u32, ..self }
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.step as u8;
        bytes[4..8].copy_from_slice(&self.index.to_ne_bytes());
        bytes[8..].copy_from_slice(&(self.errno as i32).to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let [step, _, _, _, i0, i1, i2, i3, e0, e1, e2, e3] = bytes;
        Some(Self {
            step: Step::from_byte(step)?,
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            errno: Errno::from_raw(i32::from_ne_bytes([e0, e1, e2, e3])),
        })
    }
}

impl Prepared {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Error> {
        let Some(argv0) = plan.argv.first() else {
            return Err(Error::Invalid { what: "nothing".into(), why: "no command was given" });
        };
        let mut env = Vec::with_capacity(plan.env.len());
        for (name, value) in &plan.env {
            if name.is_empty() {
                return Err(Error::Invalid {
                    what: command_path(argv0).display().to_string(),
                    why: "an environment variable has no name",
                });
            }
            let mut pair = name.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            env.push(c_string(OsStr::from_bytes(&pair))?);
        }
        let mut mounts = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            mounts.push(Mount {
                source: absolute(&mount.source)?,
                target: absolute(&mount.target)?,
                plan: mount.clone(),
            });
        }
        // A target may lie below another one: the outer mount comes first, or it would hide the inner one.
        mounts.sort_by_key(|mount| mount.plan.target.components().count());
        let path = plan.env_var("PATH").unwrap_or(OsStr::new("/bin:/usr/bin"));
        let ids = |id: u32| CString::new(format!("{id} {id} 1")).expect("digits hold no NUL");
        Ok(Self {
            candidates: candidates(argv0, path)?,
            argv: plan.argv.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?,
            env,
            cwd: absolute(&plan.cwd)?,
            mounts,
            uid_map: ids(nix::unistd::geteuid().as_raw()),
            gid_map: ids(nix::unistd::getegid().as_raw()),
            plan_argv0: command_path(argv0),
            plan_cwd: plan.cwd.clone(),
        })
    }

    /// Starts the program as a child of this process.
    ///
    /// # Errors
    /// [`Error::Fork`]. Everything else is the child's to report: see [`Child::started`].
    pub fn spawn(&self) -> Result<Child, Error> {
        // SAFETY: a hook that does nothing is async-signal-safe.
        unsafe { self.spawn_with(|| Ok(())) }
    }

    /// As [`spawn`](Self::spawn); `hook` runs in the child after everything but exec.
    ///
    /// # Safety
    /// `hook` runs between fork and exec: where this process has other threads, it may only make system calls
    /// (signal-safety(7)), and must not allocate, lock, or panic.
    pub unsafe fn spawn_with(
        &self,
        hook: impl FnOnce() -> Result<(), HookError>,
    ) -> Result<Child, Error> {
        let mut pointers = Pointers::new(self);
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| Error::Fork(e.into()))?;
        // SAFETY: the child only makes system calls until it execs or exits: `run` is written so, and the caller
        // vouches for `hook`.
        match unsafe { nix::unistd::fork() } {
            Err(errno) => Err(Error::Fork(errno.into())),
            Ok(nix::unistd::ForkResult::Parent { child }) => Ok(Child {
                pid: child,
                failures: read,
                argv0: self.plan_argv0.clone(),
                cwd: self.plan_cwd.clone(),
                mounts: self.mounts.iter().map(|mount| mount.plan.clone()).collect(),
            }),
            Ok(nix::unistd::ForkResult::Child) => {
                let failure = self.run(&mut pointers, hook);
                let bytes = failure.to_bytes();
                // SAFETY: the buffer lives on this stack, `write` is open; `_exit` runs no destructor of the
                // parent's memory.
                unsafe {
                    libc::write(write.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                    libc::_exit(125);
                }
            }
        }
    }

    /// Replaces this process by the program. Returns only when that failed.
    pub fn exec(&self) -> Error {
        let failure = self.run(&mut Pointers::new(self), || Ok(()));
        let mounts: Vec<_> = self.mounts.iter().map(|mount| mount.plan.clone()).collect();
        describe(failure, &self.plan_argv0, &self.plan_cwd, &mounts)
    }

    /// Everything from fork to exec. Makes system calls only.
    fn run(
        &self,
        pointers: &mut Pointers,
        hook: impl FnOnce() -> Result<(), HookError>,
    ) -> Failure {
        match self.run_to_exec(pointers, hook) {
            Err(failure) => failure,
            Ok(never) => match never {},
        }
    }

    fn run_to_exec(
        &self,
        pointers: &mut Pointers,
        hook: impl FnOnce() -> Result<(), HookError>,
    ) -> ChildResult<std::convert::Infallible> {
        if !self.mounts.is_empty() {
            self.enter_mounts(&mut pointers.trees)?;
        }
        // SAFETY: `cwd` is a C string.
        check(unsafe { libc::chdir(self.cwd.as_ptr()) }, Step::Chdir)?;
        // The search is over before the hook, so that a tracer that the hook lets in sees one exec, not the search.
        let program = self.find()?;
        inherited::restore();
        hook().map_err(|errno| Failure::new(Step::Hook, errno))?;
        // SAFETY: the arrays end with a null pointer and point into `self`, which outlives the call.
        unsafe {
            libc::execve(
                self.candidates[program].as_ptr(),
                pointers.argv.as_ptr(),
                pointers.env.as_ptr(),
            );
        }
        let mut errno = Errno::last();
        if errno == Errno::ENOEXEC {
            // As execvp(3) and every shell: a text without an interpreter line is a shell script.
            let argv = &pointers.shell_argv[program];
            // SAFETY: as above.
            unsafe {
                libc::execve(c"/bin/sh".as_ptr(), argv.as_ptr(), pointers.env.as_ptr());
            }
            errno = Errno::last();
        }
        Err(Failure::new(Step::Exec, errno))
    }

    /// The first candidate that is an executable file; with a slash in the name, exec itself will judge.
    fn find(&self) -> ChildResult<usize> {
        if let [_] = self.candidates.as_slice() {
            return Ok(0);
        }
        let mut errno = Errno::ENOENT;
        for (index, candidate) in self.candidates.iter().enumerate() {
            match executable(candidate) {
                Ok(()) => return Ok(index),
                Err(Errno::EACCES) => errno = Errno::EACCES,
                Err(_) => {}
            }
        }
        Err(Failure::new(Step::Exec, errno))
    }

    fn enter_mounts(&self, trees: &mut [RawFd]) -> ChildResult {
        // SAFETY: unshare(2) takes no pointer; this process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } == -1 {
            // Not privileged: a user namespace with the same, unchanged ids gives the right.
            // SAFETY: as above.
            let result = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
            check(result, Step::Namespace)?;
            // The kernel wants this before an unprivileged gid_map (user_namespaces(7)).
            write_file(c"/proc/self/setgroups", c"deny")?;
            write_file(c"/proc/self/uid_map", &self.uid_map)?;
            write_file(c"/proc/self/gid_map", &self.gid_map)?;
        }
        // Slave, not private: what the machine mounts later is still seen, what we mount stays here.
        // SAFETY: the strings are C strings; type and data may be null here (mount(2)).
        let result = unsafe {
            let flags = libc::MS_REC | libc::MS_SLAVE;
            libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
        };
        check(result, Step::Propagation)?;
        // All sources are taken before anything is covered: one may lie below the target of another.
        for (index, (mount, tree)) in self.mounts.iter().zip(trees.iter_mut()).enumerate() {
            let flags = libc::OPEN_TREE_CLONE
                | libc::OPEN_TREE_CLOEXEC
                | libc::AT_RECURSIVE as libc::c_uint;
            // SAFETY: `source` is a C string.
            let fd = unsafe {
                libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, mount.source.as_ptr(), flags)
            };
            *tree = check(fd as RawFd, Step::MountSource).map_err(|failure| failure.at(index))?;
        }
        for (index, (mount, tree)) in self.mounts.iter().zip(trees).enumerate() {
            // SAFETY: both paths are C strings.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_move_mount,
                    *tree,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    mount.target.as_ptr(),
                    libc::MOVE_MOUNT_F_EMPTY_PATH,
                )
            };
            check(result as RawFd, Step::MountTarget).map_err(|failure| failure.at(index))?;
        }
        Ok(())
    }
}

/// The null-terminated arrays that execve(2) takes, pointing into a [`Prepared`].
struct Pointers {
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// For each candidate, the arguments where it has to be run by the shell.
    shell_argv: Vec<Vec<*const libc::c_char>>,
    /// Room for the descriptors of the detached mounts.
    trees: Vec<RawFd>,
}

impl Pointers {
    fn new(prepared: &Prepared) -> Self {
        let array = |strings: &mut dyn Iterator<Item = &CString>| -> Vec<_> {
            strings.map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let shell_argv = |script: &CString| -> Vec<_> {
            [c"/bin/sh".as_ptr(), script.as_ptr()]
                .into_iter()
                .chain(prepared.argv.iter().skip(1).map(|arg| arg.as_ptr()))
                .chain([std::ptr::null()])
                .collect()
        };
        Self {
            argv: array(&mut prepared.argv.iter()),
            env: array(&mut prepared.env.iter()),
            shell_argv: prepared.candidates.iter().map(shell_argv).collect(),
            trees: vec![-1; prepared.mounts.len()],
        }
    }
}

/// A program that was forked, and that may have been started.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    failures: OwnedFd,
    argv0: PathBuf,
    cwd: PathBuf,
    mounts: Vec<PrivateMount>,
}

impl Child {
    /// Its process id, in this process's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the program runs, or says why it doesn't; the child is not reaped.
    ///
    /// # Errors
    /// The step that failed in the child, as an [`Error`].
    pub fn started(self) -> Result<Pid, Error> {
        let mut bytes = [0; Failure::LEN];
        let mut pipe = std::fs::File::from(self.failures);
        match pipe.read_exact(&mut bytes) {
            // The pipe closed on exec. (It also closes when the child is killed; its wait status tells.)
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(self.pid),
            Err(error) => Err(Error::Fork(error)),
            Ok(()) => match Failure::from_bytes(bytes) {
                Some(failure) => Err(describe(failure, &self.argv0, &self.cwd, &self.mounts)),
                None => Err(Error::Fork(io::ErrorKind::InvalidData.into())),
            },
        }
    }

    /// Readable, or closed by the other side, once [`started`](Self::started) will not block: for poll(2).
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.failures.as_fd()
    }
}

fn describe(failure: Failure, argv0: &Path, cwd: &Path, mounts: &[PrivateMount]) -> Error {
    let Failure { step, index, errno } = failure;
    match step {
        Step::Namespace | Step::IdMap | Step::Propagation => Error::Namespace { step, errno },
        Step::MountSource | Step::MountTarget => {
            let mount = mounts.get(index as usize);
            Error::Mount {
                source_path: mount.map(|m| m.source.clone()).unwrap_or_default(),
                target: mount.map(|m| m.target.clone()).unwrap_or_default(),
                step,
                errno,
            }
        }
        Step::Chdir => Error::Chdir { path: cwd.to_owned(), errno },
        Step::Hook => Error::Hook { errno },
        Step::Exec => Error::Exec { command: argv0.to_owned(), errno },
    }
}

fn check(result: libc::c_int, step: Step) -> ChildResult<libc::c_int> {
    Errno::result(result).map_err(|errno| Failure::new(step, errno))
}

/// Writes a file of /proc in one write(2), as the id maps demand.
fn write_file(path: &CStr, content: &CStr) -> ChildResult {
    // SAFETY: C strings, and a length that is theirs.
    unsafe {
        let fd = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC), Step::IdMap)?;
        let written = libc::write(fd, content.as_ptr().cast(), content.count_bytes());
        let errno = Errno::last();
        libc::close(fd);
        if written == -1 {
            return Err(Failure::new(Step::IdMap, errno));
        }
    }
    Ok(())
}

/// Whether execve(2) would take the file, as far as permissions and type tell.
fn executable(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string, and a buffer that stat(2) fills where it returns 0; all zeroes is a valid `stat`.
    let (result, stat) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::stat(path.as_ptr(), &raw mut stat), stat)
    };
    Errno::result(result)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Errno::EACCES);
    }
    // SAFETY: a C string.
    Errno::result(unsafe {
        libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    })?;
    Ok(())
}

/// Where the command may be: as it is where it holds a slash, else in each directory of `path`.
fn candidates(command: &OsStr, path: &OsStr) -> Result<Vec<CString>, Error> {
    if command.as_bytes().contains(&b'/') || command.is_empty() {
        return Ok(vec![c_string(command)?]);
    }
    path.as_bytes()
        .split(|byte| *byte == b':')
        // An empty element is the working directory (environ(7)).
        .map(|dir| if dir.is_empty() { &b"."[..] } else { dir })
        .map(|dir| c_string(Path::new(OsStr::from_bytes(dir)).join(command).as_os_str()))
        .collect()
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Invalid {
        what: text.display().to_string(),
        why: "it holds a NUL byte",
    })
}

fn absolute(path: &Path) -> Result<CString, Error> {
    if !path.is_absolute() {
        return Err(Error::Invalid {
            what: format!("with the path {}", path.display()),
            why: "it is not absolute",
        });
    }
    c_string(path.as_os_str())
}
