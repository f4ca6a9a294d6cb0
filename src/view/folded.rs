//! The folded screen: one row a step (the command, its direct children, tool calls, messages), with what each did.

use std::collections::BTreeMap;
use std::io::{self, Write};

use agentrec_store::secret_files::is_secret_path;
use agentrec_trace::event::Payload;
use agentrec_trace::{Bytes, ProcId, Reader, Seq, Value};

use crate::digest::{
    Change, Contact, Digest, Effects, Net, Peer, Process, Read, RowKind, Snapshot,
};
use crate::output::{
    Output, Paint, Style, command_line, count, duration, fit, offset, plural, printable_line,
    relative, size, width,
};
use crate::view::describe::{call_address, net_style, peer, process_exit, server};
use crate::view::json;
use crate::view::lines::Line;
use crate::view::values::{arguments, text_of};

/// How much a row may say.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes listed below a row.
    pub changes: usize,
    /// Files that were read, named in a row.
    pub reads: usize,
    /// Peers named in a row.
    pub contacts: usize,
    /// Snapshots named in the summary.
    pub snapshots: usize,
    /// Show copies of a process that executed nothing and did nothing.
    pub forks: bool,
    /// Show messages that say what other rows tell, too.
    pub repeats: bool,
    /// From this many on, neighbours that did nothing to speak of share a row.
    pub idle: usize,
    /// From this many processes on, neighbours that run the same program quietly share a row.
    pub processes: usize,
}

impl Limits {
    /// For a screen.
    pub const SCREEN: Self = Self {
        changes: 6,
        reads: 2,
        contacts: 3,
        idle: 3,
        processes: 24,
        snapshots: 3,
        forks: false,
        repeats: false,
    };
    /// Everything.
    pub const NONE: Self = Self {
        changes: usize::MAX,
        reads: usize::MAX,
        contacts: usize::MAX,
        idle: usize::MAX,
        processes: usize::MAX,
        snapshots: usize::MAX,
        forks: true,
        repeats: true,
    };
}

/// The folded screen of a session.
pub struct Folded<'d> {
    /// The trace, for what it keeps as objects.
    pub reader: &'d Reader,
    /// The analysis.
    pub digest: &'d Digest,
    /// Whether a path was there at the start.
    pub existed: &'d dyn Fn(&[u8]) -> Option<bool>,
    /// How much a row may say.
    pub limits: Limits,
}

/// Width of the address column.
const ADDRESS: usize = 6;
/// Where the text of a row begins.
const INDENT: usize = ADDRESS + 16;

impl<'d> Folded<'d> {
    /// Writes all rows.
    pub fn write(&self, out: &mut Output) -> io::Result<()> {
        for line in self.lines() {
            let row = match line {
                Line::Step(row) => row,
                Line::Idle(ids) => {
                    self.idle(out, &ids)?;
                    continue;
                }
                Line::Alike(first, n) => {
                    self.alike(out, first, n)?;
                    continue;
                }
            };
            match row.kind {
                RowKind::Process(id) => self.process(out, id, false)?,
                RowKind::Call(i) => self.call(out, i)?,
                RowKind::Message(i) => self.message(out, i)?,
            }
            self.effects(out, &row.effects)?;
            for (id, effects) in &row.nested {
                self.process(out, *id, true)?;
                self.effects(out, effects)?;
            }
        }
        Ok(())
    }

    /// The same rows as objects, by kind; then the snapshots.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let (reader, digest) = (self.reader, self.digest);
        let mut lines = Vec::new();
        for row in digest.rows(self.existed) {
            let process = |id: ProcId, effects: &Effects| {
                digest
                    .processes
                    .get(id)
                    .map(|process| json::process(digest, process, Some(effects)))
            };
            match row.kind {
                RowKind::Process(id) => lines.extend(process(id, &row.effects)),
                RowKind::Message(i) => {
                    lines.push(json::message(reader, digest, &digest.messages[i]));
                }
                RowKind::Call(i) => {
                    let call = &digest.calls[i];
                    lines.push(json::call(reader, digest, call, &row.effects));
                    lines.extend(row.nested.iter().filter_map(|(id, effects)| {
                        let mut line = process(*id, effects)?;
                        line["call"] = serde_json::json!(call.seq);
                        Some(line)
                    }));
                }
            }
        }
        lines.extend(digest.snapshots.iter().map(|snapshot| json::snapshot(digest, snapshot)));
        lines
    }

    /// Columns for the text of a row that begins `used` columns after the others.
    fn text_columns(&self, out: &Output, used: usize) -> usize {
        out.columns.saturating_sub(INDENT + 10 + used).clamp(20, 100)
    }

    fn begin(&self, out: &mut Output, address: &str, ts: u64, took: &str) -> io::Result<()> {
        let paint = out.paint;
        let at = offset(self.digest.since_start(ts));
        write!(out, "{} {at:<7}{took:>6}  ", paint.address(format_args!("{address:<ADDRESS$}")))
    }

    fn process(&self, out: &mut Output, id: ProcId, nested: bool) -> io::Result<()> {
        let Some(process) = self.digest.processes.get(id) else { return Ok(()) };
        let paint = out.paint;
        let took = process
            .exit
            .map_or("…".to_owned(), |exit| duration(exit.ts.saturating_sub(process.started)));
        self.begin(out, &process.id.to_string(), process.started, &took)?;
        let mark = if nested { "└ " } else { "" };
        let columns = self.text_columns(out, width(mark));
        let text = fit(&self.process_text(process), columns);
        let pad = columns.saturating_sub(width(&text)).min(60usize.saturating_sub(width(&text)));
        write!(out, "{mark}{text}{:pad$}  {}", "", process_exit(paint, process.exit, 0))?;
        let callers = self.digest.callers(process);
        if callers.len() > 1 {
            let callers: Vec<_> = callers.iter().map(Seq::to_string).collect();
            let found = format!("ambiguous: {}", callers.join(" or "));
            write!(out, "  {}", paint.apply(Style::Warn, found))?;
        }
        writeln!(out)
    }

    fn process_text(&self, process: &Process) -> String {
        let argv = command_line(self.digest.processes.argv(process.id));
        if self.digest.processes.executed(process.id) { argv } else { format!("(fork of) {argv}") }
    }

    /// `… 5 that changed nothing  p2 true  p3 cat  p4 cat  …2`
    fn idle(&self, out: &mut Output, ids: &[ProcId]) -> io::Result<()> {
        let started = ids.first().and_then(|id| self.digest.processes.get(*id));
        let at = offset(self.digest.since_start(started.map_or(0, |process| process.started)));
        let mut line = format!("{} that changed nothing", count(ids.len() as u64));
        let mut left = self.text_columns(out, width(&line));
        for (n, id) in ids.iter().enumerate() {
            let program = self.digest.processes.argv(*id).get(..1).unwrap_or_default();
            let named = format!("  {id} {}", fit(&command_line(program), 20));
            if width(&named) > left {
                line += &format!("  …{}", count((ids.len() - n) as u64));
                break;
            }
            left -= width(&named);
            line += &named;
        }
        writeln!(out, "{:ADDRESS$} {at:<7}{:6}  {}", "…", "", out.paint.dim(line))
    }

    fn alike(&self, out: &mut Output, first: ProcId, n: u64) -> io::Result<()> {
        let started = self.digest.processes.get(first).map_or(0, |process| process.started);
        self.begin(out, &first.to_string(), started, "")?;
        let argv = self.digest.processes.argv(first);
        let program = command_line(argv.get(..1).unwrap_or_default());
        let more = out.paint.dim(format!("and {} more of them: agentrec ps", count(n - 1)));
        writeln!(out, "{program}  {more}")
    }

    fn call(&self, out: &mut Output, index: usize) -> io::Result<()> {
        let paint = out.paint;
        let call = &self.digest.calls[index];
        let took =
            call.ended.map_or("…".to_owned(), |ended| duration(ended.saturating_sub(call.ts)));
        let address = call_address(self.digest, call.seq);
        self.begin(out, &address, call.ts, &took)?;
        let name = printable_line(call.name.as_bytes());
        let server = server(call);
        let columns = self.text_columns(out, width(&name) + width(&server) + 1);
        let args = fit(&arguments(&self.value(&call.arguments)), columns);
        write!(out, "{}{} {args}", paint.strong(name), paint.dim(server))?;
        match &call.error {
            Some(error) => {
                let error = fit(&printable_line(error.as_bytes()), 60);
                writeln!(out, "  {}", paint.apply(Style::Bad, error))
            }
            None => writeln!(out),
        }
    }

    fn message(&self, out: &mut Output, index: usize) -> io::Result<()> {
        let message = &self.digest.messages[index];
        let turn = self.digest.turns.of_message(message.seq);
        let address = turn.map_or_else(|| message.seq.to_string(), |turn| turn.label.to_string());
        self.begin(out, &address, message.ts, "")?;
        let role = printable_line(message.role.as_bytes());
        let columns = self.text_columns(out, width(&role) + 4);
        let text = fit(&text_of(&self.value(&message.content)), columns);
        let line = out.paint.dim(format!("{role}: “{text}”"));
        writeln!(out, "{line}")
    }

    fn value(&self, payload: &Payload) -> Value {
        // A cut trace may lack the object; the row is worth showing all the same.
        self.reader.payload(payload).unwrap_or(Value::Nil)
    }

    fn effects(&self, out: &mut Output, effects: &Effects) -> io::Result<()> {
        let more = |out: &mut Output, n: usize, what: &str| {
            let line = out.paint.dim(format!("… {} more {what}", count(n as u64)));
            writeln!(out, "{:INDENT$}{line}", "")
        };
        let changes: Vec<_> = self.notable_changes(effects).collect();
        for change in changes.iter().take(self.limits.changes) {
            self.change(out, change)?;
        }
        if changes.len() > self.limits.changes {
            more(out, changes.len() - self.limits.changes, "changed")?;
        }
        let reads = self.notable_reads(&effects.reads);
        if !reads.is_empty() {
            let line = self.reads_line(out.paint, &reads);
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
        let contacts = self.notable_contacts(effects);
        if !contacts.is_empty() {
            let line = self.contacts_line(out.paint, &contacts);
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
        Ok(())
    }

    fn change(&self, out: &mut Output, change: &Change) -> io::Result<()> {
        let paint = out.paint;
        let style = net_style(change.net);
        let mut name = relative(&change.path, self.digest.cwd());
        if change.directory {
            name.push('/');
        }
        let sign = change.net.sign();
        write!(out, "{:INDENT$}{}", "", paint.apply(style, format_args!("{sign} {name}")))?;
        if change.directory && change.inside > 0 {
            write!(out, "  {}", plural(change.inside, "file"))?;
        }
        if change.net != Net::Deleted && change.written > 0 {
            write!(out, "  {}", paint.dim(size(change.written)))?;
        }
        if is_secret_path(Bytes::from(change.path.as_slice()).as_path()) {
            write!(out, "  {}", paint.apply(Style::Warn, "SECRET"))?;
        }
        if !self.digest.in_tree(&change.path) {
            write!(out, "  {}", paint.apply(Style::Warn, "OUTSIDE the tree"))?;
            if let Some(old) = self.digest.files.old_content_of(change) {
                write!(out, ", {old}")?;
            }
        }
        writeln!(out)
    }

    /// All but what the user's shell did: where it sent the output is not the agent's doing.
    pub(super) fn notable_changes<'e>(
        &self,
        effects: &'e Effects,
    ) -> impl Iterator<Item = &'e Change> {
        let redirected = |change: &&Change| change.inherited && !self.digest.in_tree(&change.path);
        effects.changes.iter().filter(move |change| !redirected(change))
    }

    /// Reads inside the tree, and of secrets anywhere, those first.
    pub(super) fn notable_reads<'r>(&self, reads: &'r [Read]) -> Vec<(&'r Read, bool)> {
        let mut notable: Vec<_> = reads
            .iter()
            .map(|read| (read, is_secret_path(Bytes::from(read.path.as_slice()).as_path())))
            .filter(|(read, secret)| *secret || self.digest.in_tree(&read.path))
            .collect();
        notable.sort_by_key(|(_, secret)| !secret);
        notable
    }

    fn reads_line(&self, paint: Paint, reads: &[(&Read, bool)]) -> String {
        let named = reads.iter().take(self.limits.reads).map(|(read, secret)| {
            let name = relative(&read.path, self.digest.cwd());
            if *secret { format!("{name} {}", paint.apply(Style::Warn, "SECRET")) } else { name }
        });
        let mut line = format!("reads {}", named.collect::<Vec<_>>().join("  "));
        if reads.len() > self.limits.reads {
            line += &paint.dim(format_args!(" …{}", reads.len() - self.limits.reads)).to_string();
        }
        line
    }

    /// All but services of this machine that are not there: every C library asks for a few.
    pub(super) fn notable_contacts<'e>(&self, effects: &'e Effects) -> Vec<&'e Contact> {
        let absent =
            |contact: &&Contact| contact.made == 0 && matches!(contact.peer, Peer::Unix(_));
        effects.contacts.iter().filter(|contact| self.limits.forks || !absent(contact)).collect()
    }

    fn contacts_line(&self, paint: Paint, contacts: &[&Contact]) -> String {
        let named = contacts.iter().take(self.limits.contacts).map(|contact| {
            let name = peer(&contact.peer);
            match (contact.made, contact.failed) {
                (1, 0) => name,
                (made, 0) => format!("{name} {}", count(made)),
                (0, _) => format!("{name} {}", paint.apply(Style::Bad, "failed")),
                (made, failed) => format!("{name} {} ({failed} failed)", count(made)),
            }
        });
        let mut line = format!("connects {}", named.collect::<Vec<_>>().join("  "));
        if contacts.len() > self.limits.contacts {
            line +=
                &paint.dim(format_args!(" …{}", contacts.len() - self.limits.contacts)).to_string();
        }
        line
    }

    /// Writes hosts, snapshots and what was not seen: the lines below the rows.
    pub fn write_summary(&self, out: &mut Output) -> io::Result<()> {
        let paint = out.paint;
        let all = self
            .digest
            .effects(|_| Some(()), |_, _| None, |_| None)
            .remove(&())
            .unwrap_or_default();
        let hosts: Vec<_> = all.contacts.iter().filter(|c| c.made > 0).collect();
        if !hosts.is_empty() {
            let named: Vec<_> = hosts
                .iter()
                .take(self.limits.contacts.saturating_mul(2))
                .map(|contact| format!("{} {}", peer(&contact.peer), count(contact.made)))
                .collect();
            let more = hosts.len() - named.len();
            let more = if more > 0 { format!("   …{more}") } else { String::new() };
            writeln!(out, "hosts    {}{}", named.join("   "), paint.dim(more))?;
        }
        if !self.digest.snapshots.is_empty() {
            let said = (out.columns.saturating_sub(64) / 2).clamp(10, 32);
            writeln!(out, "saved    {}", self.snapshots_line(paint, said))?;
        }
        let [turns, messages, _] = self.digest.in_transcripts();
        if messages > 0 {
            let line = format!(
                "{}, {} from the agent's transcript",
                plural(turns, "turn"),
                plural(messages, "message")
            );
            writeln!(out, "said     {line}")?;
        }
        if !self.digest.lost.is_empty() {
            let mut places: BTreeMap<&str, u64> = BTreeMap::new();
            for lost in self.digest.lost.iter().map(|loss| &loss.lost) {
                *places.entry(&*lost.place).or_default() += lost.count.unwrap_or(1);
            }
            let places: Vec<_> = places
                .iter()
                .map(|(place, n)| format!("{} {}", printable_line(place.as_bytes()), count(*n)))
                .collect();
            let hint = paint.dim("-> agentrec info");
            writeln!(
                out,
                "{}     {}   {hint}",
                paint.apply(Style::Warn, "lost"),
                places.join("   ")
            )?;
        }
        Ok(())
    }

    /// `s1 start   s2 +0:31 “before the fix”   …4   s7 end`
    fn snapshots_line(&self, paint: Paint, columns: usize) -> String {
        let snapshots = &self.digest.snapshots;
        let named = |snapshot: &Snapshot| {
            let index = paint.address(snapshot.index);
            let text = match &*snapshot.trigger {
                "start" | "end" => return format!("{index} {}", snapshot.trigger),
                _ => printable_line(snapshot.description.as_bytes()),
            };
            let said =
                if text.is_empty() { text } else { format!(" “{}”", fit(&text, columns)) };
            format!("{index} {}{said}", offset(self.digest.since_start(snapshot.ts)))
        };
        let shown = self.limits.snapshots.min(snapshots.len());
        let mut parts: Vec<_> = snapshots.iter().take(shown).map(named).collect();
        if let Some(last) = snapshots.get(shown..).and_then(<[_]>::last) {
            let left = snapshots.len() - shown - 1;
            if left > 0 {
                parts.push(paint.dim(format_args!("…{left}")).to_string());
            }
            parts.push(named(last));
        }
        parts.join("   ")
    }
}
