//! Runs a program under the tracer alone, without a session, and gathers what it reports.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use agentrec_recorder::ptrace::{Error, Filter, Tracer};
use agentrec_recorder::source::{Captured, Config, Control, ExitStatus, Report};
use agentrec_trace::{Data, Event, ProcId};

/// The descriptor number that these tests keep for the session's socket.
pub const RESERVED_FD: i32 = 900;

/// A program to record.
pub struct Recording {
    program: PathBuf,
    args: Vec<OsString>,
    cwd: PathBuf,
    uid: Option<u32>,
    socket: Option<PathBuf>,
}

/// A program that is being recorded.
pub struct Running {
    reports: Receiver<Report>,
    seen: Vec<Report>,
    control: Control,
    command: JoinHandle<io::Result<(Vec<u8>, Vec<u8>)>>,
    tracer: JoinHandle<Result<(), Error>>,
    pub pid: i32,
}

/// What came of it.
pub struct Recorded {
    pub reports: Vec<Report>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Recording {
    pub fn of(program: impl Into<PathBuf>, cwd: &Path) -> Self {
        let cwd = cwd.canonicalize().unwrap();
        Self { program: program.into(), args: Vec::new(), cwd, uid: None, socket: None }
    }

    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// As another user, without capabilities. Needs root.
    pub fn uid(mut self, uid: Option<u32>) -> Self {
        self.uid = uid;
        self
    }

    pub fn socket(mut self, socket: PathBuf) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Starts the program and its tracer.
    pub fn start(self) -> Running {
        let env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
        let config = Config {
            cwd: self.cwd.clone(),
            env: env.clone(),
            reserved_fd: Some(RESERVED_FD),
            socket: self.socket,
            outputs: vec![1, 2],
        };
        let (mut pid_from, pid_to) = io::pipe().unwrap();
        let (go_from, mut go_to) = io::pipe().unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.cwd).env_clear().envs(env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        hold_back(&mut command, Filter::new(&config), self.uid, pid_to, go_from);
        // `spawn` returns only after the exec, which waits for the tracer.
        let command = thread::spawn(move || command.spawn().and_then(output));
        let mut pid = [0; 4];
        pid_from.read_exact(&mut pid).unwrap();
        let pid = i32::from_ne_bytes(pid);
        let (send, reports) = sync_channel(64);
        let (control_to, control_from) = sync_channel(1);
        let tracer = thread::spawn(move || {
            let (tracer, control) = Tracer::<Report>::seize(pid, &config, send)?;
            control_to.send(control).unwrap();
            go_to.write_all(b"!").unwrap();
            drop(go_to);
            tracer.run()
        });
        let control = control_from.recv().expect("the tracer started");
        Running { reports, seen: Vec::new(), control, command, tracer, pid }
    }

    /// Runs it to the end of its tree.
    pub fn run(self) -> Recorded {
        self.start().finish()
    }
}

/// What the program printed. Its status is the tracer's to wait for, which lives in this process too.
fn output(mut child: Child) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut stderr = child.stderr.take().expect("piped");
    let stderr = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stdout = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut stdout)?;
    Ok((stdout, stderr.join().expect("the reader ended")?))
}

/// The child says who it is, waits to be traced, and becomes what it is to be.
fn hold_back(
    command: &mut Command,
    filter: Filter,
    uid: Option<u32>,
    pid_to: PipeWriter,
    go_from: PipeReader,
) {
    let prepare = move || {
        (&pid_to).write_all(&std::process::id().to_ne_bytes())?;
        if let Some(uid) = uid {
            // SAFETY: plain system calls on this process alone.
            let done = unsafe {
                libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setresgid(uid, uid, uid) == 0
                    && libc::setresuid(uid, uid, uid) == 0
            };
            if !done {
                return Err(io::Error::last_os_error());
            }
        }
        (&go_from).read_exact(&mut [0])?;
        filter.install().map(|_| ())
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

impl Running {
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for the first report that `wanted` picks.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Report) -> Option<T>) -> T {
        loop {
            let report = self.reports.recv().expect("the report comes before the tree ends");
            let found = wanted(&report);
            self.seen.push(report);
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub fn finish(mut self) -> Recorded {
        self.seen.extend(self.reports.iter());
        self.tracer.join().unwrap().unwrap();
        let (stdout, stderr) = self.command.join().unwrap().unwrap();
        assert_eq!(self.seen.last(), Some(&Report::TreeEnded));
        Recorded { reports: self.seen, stdout, stderr }
    }
}

impl Recorded {
    /// All events in order.
    pub fn events(&self) -> impl Iterator<Item = &Event<'static>> {
        self.captured().map(|captured| &captured.event)
    }

    pub fn captured(&self) -> impl Iterator<Item = &Captured> {
        self.reports.iter().filter_map(|report| match report {
            Report::Event(captured) => Some(captured),
            _ => None,
        })
    }

    /// What the events of one type say, with the process.
    pub fn of_type<'a, T>(
        &'a self,
        pick: impl Fn(&'a Data<'static>) -> Option<T>,
    ) -> Vec<(u32, T)> {
        let proc = |event: &Event<'_>| event.proc.unwrap_or(ProcId(0)).0;
        self.events().filter_map(|event| Some((proc(event), pick(&event.data)?))).collect()
    }

    pub fn command_status(&self) -> ExitStatus {
        let status = |report: &Report| match report {
            Report::CommandExited(status) => Some(*status),
            _ => None,
        };
        self.reports.iter().find_map(status).expect("the command ended")
    }

}
