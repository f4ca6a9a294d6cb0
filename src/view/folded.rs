//! The folded screen: one row a step (the command, its direct children, tool calls, messages), with what each did.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use agentrec_store::secret_files::is_secret_path;
use agentrec_trace::event::Payload;
use agentrec_trace::{Bytes, ProcId, Reader, Seq, Value};

use crate::digest::{Change, Contact, Digest, Effects, Net, Process, Read};
use crate::output::{
    Output, Paint, Style, command_line, count, duration, fit, offset, plural, printable_line,
    relative, size, width,
};
use crate::view::describe::{peer, process_exit};
use crate::view::json;
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
    /// Show copies of a process that executed nothing and did nothing.
    pub forks: bool,
    /// From this many processes on, neighbours that run the same program quietly share a row.
    pub processes: usize,
}

impl Limits {
    /// For a screen.
    pub const SCREEN: Self =
        Self { changes: 6, reads: 2, contacts: 3, processes: 24, forks: false };
    /// Everything.
    pub const NONE: Self = Self {
        changes: usize::MAX,
        reads: usize::MAX,
        contacts: usize::MAX,
        processes: usize::MAX,
        forks: true,
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

/// What a row is about.
#[derive(Clone, Copy)]
enum Row<'d> {
    /// A process: what it and its descendants did, or, for the command, it alone.
    Process(&'d Process),
    /// A tool call.
    Call(usize),
    /// A message.
    Message(usize),
    /// Neighbours that run the same program and did nothing to speak of: the first, and how many.
    Alike(&'d Process, usize),
}

/// Width of the address column.
const ADDRESS: usize = 6;
/// Where the text of a row begins.
const INDENT: usize = ADDRESS + 16;

impl<'d> Folded<'d> {
    /// Writes all rows.
    pub fn write(&self, out: &mut Output) -> io::Result<()> {
        let groups = self.groups();
        let effects = self.digest.effects(|proc| groups.get(&proc).copied(), self.existed);
        let nothing = Effects::default();
        let mut under: HashMap<Seq, Vec<&Process>> = HashMap::new();
        let mut rows: Vec<(u64, Row<'d>)> = Vec::new();
        for group in effects.keys() {
            let Some(process) = self.digest.processes.get(*group) else { continue };
            match self.caller(process) {
                Some(call) => under.entry(call).or_default().push(process),
                None => rows.push((process.started, Row::Process(process))),
            }
        }
        rows.extend(self.digest.calls.iter().enumerate().map(|(i, call)| (call.ts, Row::Call(i))));
        rows.extend(self.digest.messages.iter().enumerate().map(|(i, m)| (m.ts, Row::Message(i))));
        // Stable: the command stays before what happened at the same moment.
        rows.sort_by_key(|(ts, _)| *ts);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        for row in self.join_alike(self.without_idle_forks(rows, &effects), &effects) {
            match row {
                Row::Process(process) => {
                    self.process(out, process, false)?;
                    self.effects(out, effects.get(&process.id).unwrap_or(&nothing))?;
                }
                Row::Call(i) => {
                    self.call(out, i)?;
                    for process in under.get(&self.digest.calls[i].seq).into_iter().flatten() {
                        self.process(out, process, true)?;
                        self.effects(out, effects.get(&process.id).unwrap_or(&nothing))?;
                    }
                }
                Row::Message(i) => self.message(out, i)?,
                Row::Alike(first, n) => self.alike(out, first, n)?,
            }
        }
        Ok(())
    }

    /// The same rows as objects, by kind.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let (reader, digest) = (self.reader, self.digest);
        let groups = self.groups();
        let effects = digest.effects(|proc| groups.get(&proc).copied(), self.existed);
        let rows = effects.iter().filter_map(|(group, effects)| {
            let process = digest.processes.get(*group)?;
            let mut row = json::process(digest, process, Some(effects));
            row["call"] = serde_json::json!(self.caller(process));
            Some(row)
        });
        let calls = digest.calls.iter().map(|call| json::call(reader, digest, call));
        let messages = digest.messages.iter().map(|message| json::message(reader, digest, message));
        let snapshots = digest.snapshots.iter().map(|snapshot| json::snapshot(digest, snapshot));
        rows.chain(calls).chain(messages).chain(snapshots).collect()
    }

    /// Every process by the row that it belongs to: a direct child of the command, or a root itself.
    fn groups(&self) -> BTreeMap<ProcId, ProcId> {
        let processes = &self.digest.processes;
        let mut groups = BTreeMap::new();
        for root in processes.roots() {
            groups.insert(root.id, root.id);
            for &child in &root.children {
                let subtree = processes.subtree(child);
                groups.extend(subtree.into_iter().map(|(_, process)| (process.id, child)));
            }
        }
        groups
    }

    /// The one tool call that a process can be shown under.
    fn caller(&self, process: &Process) -> Option<Seq> {
        process.parent?;
        let found = self.digest.attribute(process.id, process.fork?, process.started)?;
        match found.calls.as_slice() {
            [call] => Some(call.seq),
            _ => None,
        }
    }

    /// Leaves out copies of the command that executed nothing and did nothing to speak of, such as a shell's subshells.
    fn without_idle_forks(
        &self,
        mut rows: Vec<Row<'d>>,
        effects: &BTreeMap<ProcId, Effects>,
    ) -> Vec<Row<'d>> {
        if self.limits.forks {
            return rows;
        }
        rows.retain(|row| match row {
            Row::Process(process) => {
                process.parent.is_none()
                    || !process.children.is_empty()
                    || self.digest.processes.executed(process.id)
                    || !is_quiet(process, effects.get(&process.id))
            }
            _ => true,
        });
        rows
    }

    /// Where there are very many rows, neighbours that are quiet and alike become one.
    fn join_alike(&self, rows: Vec<Row<'d>>, effects: &BTreeMap<ProcId, Effects>) -> Vec<Row<'d>> {
        if rows.iter().filter(|row| matches!(row, Row::Process(_))).count() <= self.limits.processes
        {
            return rows;
        }
        let program = |process: &Process| self.digest.processes.argv(process.id).first().cloned();
        let quiet = |process: &Process| is_quiet(process, effects.get(&process.id));
        let mut joined: Vec<Row<'d>> = Vec::new();
        for row in rows {
            match (joined.last_mut(), row) {
                (Some(last @ Row::Process(_)), Row::Process(next)) => {
                    let Row::Process(first) = *last else { continue };
                    if quiet(first) && quiet(next) && program(first) == program(next) {
                        *last = Row::Alike(first, 2);
                    } else {
                        joined.push(row);
                    }
                }
                (Some(Row::Alike(first, n)), Row::Process(next))
                    if quiet(next) && program(first) == program(next) =>
                {
                    *n += 1;
                }
                _ => joined.push(row),
            }
        }
        joined
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

    fn process(&self, out: &mut Output, process: &Process, nested: bool) -> io::Result<()> {
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
        if let Some(found) = self.ambiguous(process) {
            write!(out, "  {}", paint.apply(Style::Warn, found))?;
        }
        writeln!(out)
    }

    fn process_text(&self, process: &Process) -> String {
        let argv = command_line(self.digest.processes.argv(process.id));
        if self.digest.processes.executed(process.id) { argv } else { format!("(fork of) {argv}") }
    }

    fn ambiguous(&self, process: &Process) -> Option<String> {
        process.parent?;
        let found = self.digest.attribute(process.id, process.fork?, process.started)?;
        let calls: Vec<_> = found.calls.iter().map(|call| call.seq.to_string()).collect();
        (calls.len() > 1).then(|| format!("ambiguous: {}", calls.join(" or ")))
    }

    fn alike(&self, out: &mut Output, first: &Process, n: usize) -> io::Result<()> {
        self.begin(out, &first.id.to_string(), first.started, "")?;
        let program = self.digest.processes.argv(first.id).first().map(Bytes::clone);
        let program = command_line(program.as_slice());
        let more = out.paint.dim(format!("{} times, to {}", count(n as u64), "agentrec ps"));
        writeln!(out, "{program}  {more}")
    }

    fn call(&self, out: &mut Output, index: usize) -> io::Result<()> {
        let paint = out.paint;
        let call = &self.digest.calls[index];
        let took =
            call.ended.map_or("…".to_owned(), |ended| duration(ended.saturating_sub(call.ts)));
        self.begin(out, &call.seq.to_string(), call.ts, &took)?;
        let name = printable_line(call.name.as_bytes());
        let columns = self.text_columns(out, width(&name) + 1);
        let args = fit(&arguments(&self.value(&call.arguments)), columns);
        write!(out, "{} {args}", paint.strong(name))?;
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
        self.begin(out, &message.seq.to_string(), message.ts, "")?;
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
        // Where the user's shell sent the output is not the agent's doing.
        let redirected = |change: &Change| change.inherited && !self.digest.in_tree(&change.path);
        let changes: Vec<_> = effects.changes.iter().filter(|change| !redirected(change)).collect();
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
        if !effects.contacts.is_empty() {
            let line = self.contacts_line(out.paint, &effects.contacts);
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
        Ok(())
    }

    fn change(&self, out: &mut Output, change: &Change) -> io::Result<()> {
        let paint = out.paint;
        let style = match change.net {
            Net::Added => Style::Good,
            Net::Modified => Style::Warn,
            Net::Deleted => Style::Bad,
        };
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
        }
        writeln!(out)
    }

    /// Reads inside the tree, and of secrets anywhere, those first.
    fn notable_reads<'r>(&self, reads: &'r [Read]) -> Vec<(&'r Read, bool)> {
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

    fn contacts_line(&self, paint: Paint, contacts: &[Contact]) -> String {
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
        let all = self.digest.effects(|_| Some(()), |_| None).remove(&()).unwrap_or_default();
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
            let saved: Vec<_> = self
                .digest
                .snapshots
                .iter()
                .map(|snapshot| {
                    let said = match &*snapshot.description {
                        "" => String::new(),
                        text => format!(" “{}”", fit(&printable_line(text.as_bytes()), 40)),
                    };
                    let trigger = match &*snapshot.trigger {
                        "start" | "end" => printable_line(snapshot.trigger.as_bytes()),
                        _ => offset(self.digest.since_start(snapshot.ts)),
                    };
                    let said = if snapshot.trigger == "start" || snapshot.trigger == "end" {
                        String::new()
                    } else {
                        said
                    };
                    format!("{} {trigger}{said}", paint.address(snapshot.index))
                })
                .collect();
            writeln!(out, "saved    {}", saved.join("   "))?;
        }
        if !self.digest.lost.is_empty() {
            let mut places: BTreeMap<&str, u64> = BTreeMap::new();
            for (_, _, lost) in &self.digest.lost {
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
}

/// Whether a process ended well, changed nothing, and talked to nobody.
fn is_quiet(process: &Process, effects: Option<&Effects>) -> bool {
    let failed = process.exit.is_some_and(|exit| exit.code != Some(0));
    !failed
        && effects.is_none_or(|effects| effects.changes.is_empty() && effects.contacts.is_empty())
}
