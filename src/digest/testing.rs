//! Hand-built event lists for the tests of this module.

use agentrec_trace::event::{Address, FileMkdir, FileRmdir};
use agentrec_trace::event::{
    FileClose, FileOpen, FileRename, FileUnlink, NetConnect, ProcessExec, ProcessFork,
    SessionStart, ToolCall, ToolResult,
};
use agentrec_trace::{Data, Event, ProcId, Seq, Source};

use super::Digest;

/// A script of events; each is a second after the one before.
pub struct Script {
    events: Vec<Event<'static>>,
}

const SECOND: u64 = 1_000_000_000;

impl Script {
    /// A session in `cwd`.
    pub fn new(cwd: &str) -> Self {
        let mut script = Self { events: Vec::new() };
        let cwd = cwd.as_bytes().to_vec().into();
        script.push(None, SessionStart { cwd, ..SessionStart::default() });
        script
    }

    /// Time of the last event.
    pub fn now(&self) -> u64 {
        self.events.len() as u64 * SECOND
    }

    /// The events.
    pub fn events(&self) -> &[Event<'static>] {
        &self.events
    }

    /// The analysis.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.events.iter().for_each(|event| digest.add(event));
        digest
    }

    pub fn push(&mut self, proc: Option<u32>, data: impl Into<Data<'static>>) -> Seq {
        let seq = Seq(self.events.len() as u64 + 1);
        let mut event = Event::new(seq.0 * SECOND, Source::Kernel, data);
        event.seq = seq;
        event.proc = proc.map(ProcId);
        self.events.push(event);
        seq
    }

    pub fn fork(&mut self, parent: u32, child: u32) -> &mut Self {
        self.push(
            Some(parent),
            ProcessFork { child: ProcId(child), pid: 1000 + child, ..ProcessFork::default() },
        );
        self
    }

    pub fn exec(&mut self, proc: u32, argv: &[&str]) -> &mut Self {
        let argv = argv.iter().map(|arg| arg.as_bytes().to_vec().into()).collect();
        self.push(Some(proc), ProcessExec { argv, ..ProcessExec::default() });
        self
    }

    pub fn open(&mut self, proc: u32, path: &str, flags: i32, created: bool) -> Seq {
        let path = path.as_bytes().to_vec().into();
        let flags = flags.cast_unsigned();
        self.push(Some(proc), FileOpen { path, flags, fd: Some(3), created, ..FileOpen::default() })
    }

    pub fn close(&mut self, proc: u32, open: Seq, read: u64, written: u64) -> &mut Self {
        self.push(Some(proc), FileClose { open: Some(open), path: None, read, written });
        self
    }

    /// Creates a file and writes to it.
    pub fn create(&mut self, proc: u32, path: &str) -> &mut Self {
        let open = self.open(proc, path, libc::O_WRONLY | libc::O_CREAT, true);
        self.close(proc, open, 0, 1)
    }

    /// Writes to a file that was there.
    pub fn modify(&mut self, proc: u32, path: &str) -> &mut Self {
        let open = self.open(proc, path, libc::O_WRONLY | libc::O_TRUNC, false);
        self.close(proc, open, 0, 1)
    }

    pub fn unlink(&mut self, proc: u32, path: &str) -> &mut Self {
        let path = path.as_bytes().to_vec().into();
        self.push(Some(proc), FileUnlink { path, errno: None });
        self
    }

    pub fn failing_unlink(&mut self, proc: u32, path: &str, errno: i32) -> &mut Self {
        let path = path.as_bytes().to_vec().into();
        self.push(Some(proc), FileUnlink { path, errno: Some(errno) });
        self
    }

    pub fn mkdir(&mut self, proc: u32, path: &str) -> &mut Self {
        let path = path.as_bytes().to_vec().into();
        self.push(Some(proc), FileMkdir { path, mode: 0o755, errno: None });
        self
    }

    pub fn rmdir(&mut self, proc: u32, path: &str) -> &mut Self {
        let path = path.as_bytes().to_vec().into();
        self.push(Some(proc), FileRmdir { path, errno: None });
        self
    }

    pub fn rename(&mut self, proc: u32, from: &str, to: &str) -> &mut Self {
        let (from, to) = (from.as_bytes().to_vec().into(), to.as_bytes().to_vec().into());
        self.push(Some(proc), FileRename { from, to, flags: 0, errno: None });
        self
    }

    pub fn connect(&mut self, proc: u32, host: &str, port: u16, errno: Option<i32>) -> &mut Self {
        let peer = Address {
            family: "inet".into(),
            host: host.to_owned().into(),
            port,
            ..Address::default()
        };
        let connect = NetConnect { fd: 3, peer, errno, ..NetConnect::default() };
        self.push(Some(proc), NetConnect { protocol: "tcp".into(), ..connect });
        self
    }

    pub fn call(&mut self, proc: u32, id: &str) -> &mut Self {
        let id = id.to_owned();
        let call = ToolCall { name: id.clone().into(), id: id.into(), ..ToolCall::default() };
        self.push(Some(proc), call);
        self
    }

    pub fn result(&mut self, proc: u32, id: &str) -> &mut Self {
        let result = ToolResult { id: id.to_owned().into(), ..ToolResult::default() };
        self.push(Some(proc), result);
        self
    }
}
