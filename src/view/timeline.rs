//! The flat timeline: one line an event.

use std::io::{self, Write};

use agentrec_trace::event::{Address, Content, FileKept, Payload};
use agentrec_trace::{Data, Event, Reader, Seq, open_flags};

use crate::digest::{Naming, Peer};
use crate::output::{
    Output, Style, command_line, duration, fit, plural, printable_line, relative, size, width,
};
use crate::view::describe::{peer, server_name};
use crate::view::values::{arguments, text_of};

/// Prints events as they come, with the names that earlier events gave.
#[derive(Default)]
pub struct Timeline {
    naming: Naming,
    cwd: Vec<u8>,
    first_ts: Option<u64>,
}

impl Timeline {
    /// Learns from an event, whether it is printed or not.
    pub fn learn(&mut self, event: &Event<'_>) {
        self.naming.add(event);
        self.first_ts.get_or_insert(event.ts);
        if let Data::SessionStart(start) = &event.data {
            self.cwd = start.cwd.to_vec();
            self.first_ts = Some(event.ts);
        }
    }

    /// Nanoseconds from the start of the session to `ts`.
    pub fn since_start(&self, ts: u64) -> u64 {
        ts.saturating_sub(self.first_ts.unwrap_or(ts))
    }

    /// The path that the `file.open` named.
    pub fn opened(&self, open: Seq) -> Option<&[u8]> {
        self.naming.opened(open)
    }

    /// Writes one line.
    pub fn write(&self, out: &mut Output, reader: &Reader, event: &Event<'_>) -> io::Result<()> {
        let paint = out.paint;
        let millis = self.since_start(event.ts) / 1_000_000;
        let at = format!("+{}:{:02}.{:03}", millis / 60_000, millis / 1000 % 60, millis % 1000);
        let who = event.proc.map_or(String::new(), |proc| {
            let program = self.naming.program(proc).map(printable_line).unwrap_or_default();
            format!("{proc} {program}")
        });
        let (what, errno) = self.what(reader, &event.data);
        let errno = errno.map(errno_name);
        let used = 55 + errno.as_ref().map_or(0, |name| 2 + width(name));
        write!(
            out,
            "{} {} {:<16} {} {}",
            paint.address(format_args!("{:<7}", event.seq.to_string())),
            paint.dim(format_args!("{at:>11}")),
            fit(&who, 16),
            paint.strong(format_args!("{:<16}", printable_line(event.data.type_name().as_bytes()))),
            fit(&what, out.columns.saturating_sub(used).max(30)),
        )?;
        if let Some(errno) = errno {
            write!(out, "  {}", paint.apply(Style::Bad, errno))?;
        }
        writeln!(out)
    }

    fn path(&self, path: &[u8]) -> String {
        relative(path, &self.cwd)
    }

    /// Who is at the other end of the connection that began with `open`.
    fn peer(&self, open: Option<Seq>) -> Option<String> {
        open.and_then(|open| self.naming.peer(open)).map(peer)
    }

    /// What the event says beside its type, and its error.
    fn what(&self, reader: &Reader, data: &Data<'_>) -> (String, Option<i32>) {
        let pair = |from: &[u8], to: &[u8]| format!("{} -> {}", self.path(from), self.path(to));
        match data {
            Data::ProcessExec(e) => (command_line(&e.argv), e.errno),
            Data::FileOpen(e) => {
                (format!("{}  {}", self.path(&e.path), opened(e.flags, e.created)), e.errno)
            }
            Data::FileRename(e) => (pair(&e.from, &e.to), e.errno),
            Data::FileUnlink(e) => (self.path(&e.path), e.errno),
            Data::FileMkdir(e) => (self.path(&e.path), e.errno),
            Data::FileRmdir(e) => (self.path(&e.path), e.errno),
            Data::FileLink(e) => (pair(&e.from, &e.to), e.errno),
            Data::FileSymlink(e) => {
                (format!("{} -> {}", self.path(&e.path), printable_line(&e.target)), e.errno)
            }
            Data::FileMknod(e) => (self.path(&e.path), e.errno),
            Data::FileTruncate(e) => {
                (format!("{} to {}", self.path(&e.path), size(e.length)), e.errno)
            }
            Data::FileChmod(e) => (format!("{} {:04o}", self.path(&e.path), e.mode), e.errno),
            Data::FileChown(e) => {
                (format!("{} {}", self.path(&e.path), owner(e.uid, e.gid)), e.errno)
            }
            Data::FileUtime(e) => (self.path(&e.path), e.errno),
            Data::FileXattr(e) => {
                (format!("{} {}", self.path(&e.path), printable_line(&e.name)), e.errno)
            }
            Data::FileMmap(e) => (format!("{} {}", self.path(&e.path), size(e.length)), e.errno),
            Data::FileClone(e) => (pair(&e.from, &e.to), e.errno),
            Data::Mount(e) => (
                format!(
                    "{} {} {}",
                    printable_line(e.op.as_bytes()),
                    self.path(&e.source),
                    self.path(&e.target)
                ),
                e.errno,
            ),
            Data::DirChange(e) => (self.path(&e.path), e.errno),
            Data::NetConnect(e) => {
                (format!("{} {}", printable_line(e.protocol.as_bytes()), address(&e.peer)), e.errno)
            }
            Data::NetListen(e) => (address(&e.local), e.errno),
            Data::NetShutdown(e) => {
                let peer = self.peer(e.open).unwrap_or_default();
                (format!("{peer}  {}", printable_line(e.how.as_bytes())), e.errno)
            }
            other => (self.what_without_error(reader, other), None),
        }
    }

    /// What the event says, for those that can't fail.
    fn what_without_error(&self, reader: &Reader, data: &Data<'_>) -> String {
        match data {
            Data::SessionStart(e) => {
                format!("{}  in {}", command_line(&e.argv), self.path(&e.cwd))
            }
            Data::SessionStop(e) => {
                let mut text = ended(e.code, e.signal);
                text += &format!("  after {}", duration(e.duration));
                if e.left_running > 0 {
                    text += &format!("  {} left running", plural(e.left_running.into(), "process"));
                }
                text
            }
            Data::ProcessFork(e) => format!("{} (pid {})", e.child, e.pid),
            Data::ProcessExit(e) => format!(
                "{}  cpu {}  peak {}",
                ended(e.code, e.signal),
                duration(e.utime.saturating_add(e.stime)),
                size(e.max_rss)
            ),
            Data::FileClose(e) => {
                let opened = e.open.and_then(|open| self.naming.opened(open));
                let path = match (opened, &e.path, e.open) {
                    (Some(path), ..) => self.path(path),
                    (None, Some(path), _) => self.path(path),
                    (None, None, Some(open)) => open.to_string(),
                    (None, None, None) => String::new(),
                };
                let mut text = path;
                if e.read > 0 {
                    text += &format!("  read {}", size(e.read));
                }
                if e.written > 0 {
                    text += &format!("  wrote {}", size(e.written));
                }
                text
            }
            Data::FileKept(e) => format!("{}  {}", self.path(&e.path), kept(e)),
            Data::FdInitial(e) => format!("{} {}", e.fd, self.path(&e.path)),
            Data::NetAccept(e) => address(&e.peer),
            Data::NetClose(e) => {
                let before = || e.peer.as_ref().map(address);
                let peer = self.peer(e.open).or_else(before).unwrap_or_default();
                format!("{peer}  sent {}  received {}", size(e.sent), size(e.received))
            }
            Data::NetOpaque(e) => {
                format!("{}  {}", address(&e.peer), printable_line(e.reason.as_bytes()))
            }
            Data::HttpRequest(e) => printable_line(format!("{} {}", e.method, e.url).as_bytes()),
            Data::HttpResponse(e) => format!("{} {}", e.status, size(e.wire_len)),
            Data::HttpMessage(e) => {
                let from = if e.client { "client" } else { "server" };
                format!("{from} {} {}", printable_line(e.kind.as_bytes()), content(reader, &e.data))
            }
            Data::TermOutput(e) => format!("{} {}", e.fd, content(reader, &e.data)),
            Data::TermInput(e) if e.hidden > 0 => {
                format!("{}, not shown and not kept", plural(e.hidden, "byte"))
            }
            Data::TermInput(e) => content(reader, &e.data),
            Data::TermResize(e) => format!("{}x{}", e.cols, e.rows),
            Data::ModelRequest(e) => {
                let what = e.side.as_deref().or(e.conversation.as_deref()).unwrap_or_default();
                let again = if e.repeats { "  again" } else { "" };
                printable_line(format!("{}  {what}{again}", e.model).as_bytes())
            }
            Data::ModelResponse(e) => {
                let said = [e.finish.as_deref(), e.error.as_deref(), e.incomplete.as_deref()];
                let said: Vec<&str> = said.into_iter().flatten().collect();
                printable_line(format!("{}  {}", e.model, said.join("  ")).as_bytes())
            }
            Data::HistoryDropped(e) => {
                format!(
                    "{} {}",
                    printable_line(e.how.as_bytes()),
                    plural(e.messages.into(), "message")
                )
            }
            Data::ToolCall(e) => {
                let args = value(reader, &e.arguments);
                let server = server_name(e.server.as_deref());
                format!("{}{server} {}", printable_line(e.name.as_bytes()), arguments(&args))
            }
            Data::ToolResult(e) => match &e.error {
                Some(error) => format!("raised {}", printable_line(error.as_bytes())),
                None => text_of(&value(reader, &e.result)),
            },
            Data::Message(e) => {
                let text = text_of(&value(reader, &e.content));
                format!("{}: {text}", printable_line(e.role.as_bytes()))
            }
            Data::Usage(e) => format!(
                "{} {} in, {} out",
                printable_line(e.model.as_bytes()),
                plural(e.input, "token"),
                plural(e.output, "token")
            ),
            Data::SnapshotCreated(e) => {
                let files: u64 = e.roots.iter().map(|root| root.files).sum();
                let text = format!("{} {}  {}", e.index, e.description, plural(files, "file"));
                printable_line(text.as_bytes())
            }
            Data::Link(e) => {
                printable_line(format!("{} {} -> {}", e.kind, e.from, e.to).as_bytes())
            }
            Data::Lost(e) => {
                let count = e.count.map(|count| format!("{count} ")).unwrap_or_default();
                printable_line(format!("{count}{}: {}", e.place, e.reason).as_bytes())
            }
            Data::Other { fields, .. } => arguments(fields),
            // Those that can fail are told by the caller.
            _ => String::new(),
        }
    }
}

fn ended(code: Option<i32>, signal: Option<i32>) -> String {
    let plain = crate::output::Paint::new(crate::output::ColorChoice::Never, false);
    crate::view::exit_text(plain, code, signal, 0)
}

fn address(address: &Address<'_>) -> String {
    peer(&Peer::from(address))
}

fn owner(uid: Option<u32>, gid: Option<u32>) -> String {
    let id = |id: Option<u32>| id.map_or(String::new(), |id| id.to_string());
    format!("{}:{}", id(uid), id(gid))
}

/// `read`, `write`, `read+write`, with `create`, `truncate`, `append`.
fn opened(flags: u32, created: bool) -> String {
    let mut words = vec![match flags.cast_signed() & libc::O_ACCMODE {
        libc::O_WRONLY => "write",
        libc::O_RDWR => "read+write",
        _ => "read",
    }];
    if created {
        words.push("created");
    }
    for (flag, word) in [
        (libc::O_TRUNC.cast_unsigned(), "truncate"),
        (libc::O_APPEND.cast_unsigned(), "append"),
        (open_flags::DIRECTORY, "directory"),
        (libc::O_PATH.cast_unsigned(), "path"),
    ] {
        if flags & flag == flag {
            words.push(word);
        }
    }
    words.join(" ")
}

/// What became of the old content: `kept, 3 KB`, or why it was not.
fn kept(event: &FileKept<'_>) -> String {
    let mut text = match (&event.reason, &event.object) {
        (Some(reason), _) => format!("not kept: {}", printable_line(reason.as_bytes())),
        (None, Some(_)) => format!("kept, {}", size(event.size)),
        (None, None) => "kept".to_owned(),
    };
    if event.secret {
        text += ", in the local store only";
    }
    if event.late {
        text += ", late";
    }
    text
}

fn errno_name(errno: i32) -> String {
    // `EACCES: Permission denied`: the first word is what people know.
    let name = format!("{:?}", nix::errno::Errno::from_raw(errno));
    if name.starts_with("Unknown") { format!("errno {errno}") } else { name }
}

fn value(reader: &Reader, payload: &Payload) -> agentrec_trace::Value {
    reader.payload(payload).unwrap_or(agentrec_trace::Value::Nil)
}

fn content(reader: &Reader, content: &Content<'_>) -> String {
    match reader.content(content) {
        Ok(bytes) => printable_line(&bytes),
        Err(_) => String::new(),
    }
}
