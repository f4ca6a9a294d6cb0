//! The report of an audit: sections of what matters, the most important first; or objects for machines.

mod json;
mod roll_up;
mod table;

use std::io;

use crate::audit::{Act, Audit, Deeds, Distance, Host, Item, LEFT_RUNNING, Outcome};
use crate::output::{Output, Style, count, plural, printable_line, relative, size};
use crate::view::describe::peer;

use roll_up::{Line, drop_directories, roll_up};
use table::{Doers, Row, Section};

/// Rows of a section: of those that must not be overlooked, and of the others.
const SERIOUS: usize = 20;
const SHOWN: usize = 12;

/// A report.
pub struct Report<'a> {
    /// What was found.
    pub audit: &'a Audit<'a>,
    /// The rules file, where there are rules.
    pub rules: Option<&'a str>,
    /// Working directory of the session.
    pub cwd: &'a [u8],
    /// Home directories: of the session's user, and of who reads this.
    pub homes: Vec<Vec<u8>>,
    /// The session's tree is the root directory: all files are told of as if they were outside.
    pub everything: bool,
    /// Cut and fold nothing.
    pub all: bool,
}

impl Report<'_> {
    /// Writes the sections.
    pub fn write(&self, out: &mut Output) -> io::Result<()> {
        let limit = |limit: usize| if self.all { usize::MAX } else { limit };
        if let Some(file) = self.rules {
            self.violations(file).write(out, limit(SERIOUS))?;
        }
        self.secrets().write(out, limit(SERIOUS))?;
        self.irrevocable().write(out, limit(SERIOUS))?;
        self.writes().write(out, limit(SHOWN))?;
        self.hosts().write(out, limit(SHOWN))?;
        self.unseen().write(out, limit(SHOWN))?;
        self.programs().write(out, limit(SHOWN))?;
        self.reads().write(out, limit(SHOWN))
    }

    fn path(&self, path: &[u8]) -> String {
        relative(path, self.cwd)
    }

    fn violations(&self, file: &str) -> Section {
        let found = &self.audit.violations;
        let mut rows: Vec<_> = found
            .iter()
            .map(|((rule, what), item)| Row {
                first: item.first,
                subject: self.path(what),
                style: Style::Bad,
                what: printable_line(self.audit.rule(*rule).as_bytes()),
                size: String::new(),
                times: item.times,
                who: Doers::of(item),
            })
            .collect();
        rows.sort_by_key(|row| row.first);
        let note = match rows.len() as u64 {
            0 => String::new(),
            n => format!("{} of {file}", count(n)),
        };
        Section {
            title: "violations",
            note,
            none: "none",
            rows,
            after: beyond(found.beyond),
            ..Section::default()
        }
    }

    fn secrets(&self) -> Section {
        let mut rows: Vec<_> = self
            .audit
            .secrets
            .iter()
            .map(|(path, item)| Row {
                first: item.first,
                subject: self.path(path),
                style: if item.state.has(Act::Read) { Style::Warn } else { Style::Strong },
                what: item.state.words().join(", "),
                size: bytes(item.state.read.max(item.state.written)),
                times: item.times,
                who: Doers::of(item),
            })
            .collect();
        rows.sort_by_key(|row| (row.style != Style::Warn, row.first));
        let after = beyond(self.audit.secrets.beyond);
        Section {
            title: "secret files",
            none: "none were touched",
            rows,
            after,
            ..Section::default()
        }
    }

    fn irrevocable(&self) -> Section {
        let found = &self.audit.irrevocable;
        let mut rows: Vec<_> = found
            .iter()
            .map(|((kind, what), item)| {
                let what = printable_line(what.as_bytes());
                let who = Doers::of(item);
                // The command line stands where it says who it was.
                let subject = match *kind {
                    LEFT_RUNNING => "left running, unrecorded".to_owned(),
                    _ if who.first.ends_with(&what) => (*kind).to_owned(),
                    "handed over" => what,
                    kind => format!("{kind}: {what}"),
                };
                Row {
                    first: item.first,
                    subject,
                    style: Style::Warn,
                    what: String::new(),
                    size: String::new(),
                    times: item.times,
                    who,
                }
            })
            .collect();
        let gone: Vec<_> = self.audit.overwritten().collect();
        if let Some((_, first)) = gone.iter().min_by_key(|(_, item)| item.first) {
            let place = if self.everything { "" } else { " outside the tree" };
            let files = plural(gone.len() as u64, "file");
            rows.push(Row {
                first: first.first,
                subject: format!("{files}{place} changed or deleted, old content not kept"),
                style: Style::Warn,
                what: String::new(),
                size: String::new(),
                times: 1,
                who: Doers::of(first),
            });
        }
        rows.sort_by_key(|row| row.first);
        Section {
            title: "can't be undone",
            none: "nothing that is known to be so",
            rows,
            after: beyond(found.beyond),
            sentences: true,
            ..Section::default()
        }
    }

    fn writes(&self) -> Section {
        let found = &self.audit.writes;
        let is_temporary = |item: &Item<Deeds>| item.state.outcome() == Outcome::Temporary;
        let lasting = found.iter().filter(|(_, item)| self.all || !is_temporary(item));
        let mut lines: Vec<_> = lasting.map(|(path, item)| Line::of(path, item)).collect();
        if !self.all {
            drop_directories(&mut lines);
        }
        let files = lines.len() as u64;
        if !self.all {
            lines = roll_up(lines, SHOWN, &self.homes);
        }
        lines.sort_by_key(|line| line.outcomes.first().copied());
        let mut after = beyond(found.beyond);
        let temporary = found.iter().filter(|(_, item)| is_temporary(item)).count();
        if temporary > 0 && !self.all {
            after.push(format!(
                "made and removed again: {}, --all lists them",
                count(temporary as u64)
            ));
        }
        let mut rows: Vec<_> = lines.iter().map(|line| self.file(line, true)).collect();
        fold_system(
            &self.audit.system_writes,
            "devices and the like written",
            self.all,
            &mut after,
            |path, item| {
                rows.push(self.file(&Line::of(path, item), true));
            },
        );
        let mut note = if files == 0 { String::new() } else { plural(files, "file") };
        if self.audit.kept() > 0 {
            note += &format!(", old content of {} kept", self.audit.kept());
        }
        Section {
            title: if self.everything { "files written" } else { "written outside the tree" },
            note,
            none: "nothing",
            rows,
            after,
            ..Section::default()
        }
    }

    fn reads(&self) -> Section {
        let found = &self.audit.reads;
        // What the session itself had made says nothing about what it looked for.
        let made = |path: &Vec<u8>| {
            self.audit.writes.get(path).is_some_and(|item| item.state.outcome().is_new())
        };
        let own = found.iter().filter(|(path, _)| made(path)).count();
        let others = found.iter().filter(|(path, _)| self.all || !made(path));
        let mut lines: Vec<_> = others.map(|(path, item)| Line::of(path, item)).collect();
        let files = lines.len() as u64;
        if !self.all {
            lines = roll_up(lines, SHOWN, &self.homes);
        }
        let mut rows: Vec<_> = lines.iter().map(|line| self.file(line, false)).collect();
        let mut after = beyond(found.beyond);
        if own > 0 && !self.all {
            after.push(format!(
                "files of its own making read: {}, --all lists them",
                count(own as u64)
            ));
        }
        fold_system(
            &self.audit.system_reads,
            "system files read",
            self.all,
            &mut after,
            |path, item| {
                rows.push(self.file(&Line::of(path, item), false));
            },
        );
        let note = if files == 0 { String::new() } else { plural(files, "file") };
        Section {
            title: if self.everything { "files read" } else { "read outside the tree" },
            note,
            none: "nothing",
            rows,
            after,
            ..Section::default()
        }
    }

    fn file(&self, line: &Line, written: bool) -> Row {
        let mut subject = self.path(&line.path);
        if line.inside > 0 {
            let slash = if line.path.starts_with(b"/proc/*/") { "" } else { "/" };
            subject += &format!("{slash}  {}", plural(line.inside, "file"));
        }
        let words: Vec<_> = line.outcomes.iter().map(|outcome| outcome.word()).collect();
        let lost = line.outcomes.iter().any(|outcome| outcome.loses_content());
        Row {
            first: line.first,
            subject,
            style: if written && lost { Style::Warn } else { Style::Strong },
            what: if written { words.join(", ") } else { String::new() },
            size: bytes(if written { line.written } else { line.read }),
            times: if line.inside > 0 { 1 } else { line.times },
            who: line.who(),
        }
    }

    fn hosts(&self) -> Section {
        let found = &self.audit.hosts;
        let rows = found.iter().map(|(Host { distance, peer: host, protocol }, item)| {
            let flow = &item.state;
            let protocol = printable_line(protocol.as_bytes());
            let what = match distance {
                Distance::Listens => format!("{protocol}, listens"),
                Distance::Unix => "unix".to_owned(),
                _ if flow.made == 0 => format!("{protocol}, failed"),
                // Of a datagram socket only the sum over its peers is known.
                _ if flow.sent == 0 && flow.received == 0 && protocol != "udp" => {
                    format!("{protocol}, no data")
                }
                _ => protocol,
            };
            let moved = if flow.sent > 0 || flow.received > 0 {
                format!("{} sent, {} received", size(flow.sent), size(flow.received))
            } else {
                String::new()
            };
            let style = match distance {
                Distance::Remote if flow.made > 0 => Style::Warn,
                _ => Style::Strong,
            };
            Row {
                first: item.first,
                subject: peer(host),
                style,
                what,
                size: moved,
                times: item.times,
                who: Doers::of(item),
            }
        });
        let rows = rows.collect();
        Section {
            title: "hosts and services reached",
            none: "none",
            rows,
            after: beyond(found.beyond),
            ..Section::default()
        }
    }

    fn unseen(&self) -> Section {
        let found = &self.audit.unseen;
        let mut rows: Vec<_> = found
            .iter()
            .map(|(what, item)| Row {
                first: item.first,
                subject: printable_line(what.as_bytes()),
                style: Style::Warn,
                what: if item.state > 0 { plural(item.state, "event") } else { String::new() },
                size: String::new(),
                times: item.times,
                who: Doers::of(item),
            })
            .collect();
        rows.sort_by_key(|row| row.first);
        let mut after = beyond(found.beyond);
        after.push("not covered: who wrote through shared mappings".into());
        Section {
            title: "not seen",
            none: "nothing was lost of what is covered",
            rows,
            after,
            sentences: true,
            ..Section::default()
        }
    }

    fn programs(&self) -> Section {
        let found = &self.audit.programs;
        let mut list: Vec<_> = found.iter().collect();
        // The system's own come after what was brought along.
        list.sort_by_key(|(path, item)| {
            (is_system(path), std::cmp::Reverse(item.times), item.first)
        });
        let rows = list
            .into_iter()
            .map(|(path, item)| Row {
                first: item.first,
                subject: self.path(path),
                style: if is_system(path) { Style::Strong } else { Style::Warn },
                what: String::new(),
                size: String::new(),
                times: item.times,
                who: Doers::of(item),
            })
            .collect();
        let note = plural(found.len() as u64, "program");
        Section {
            title: "programs executed",
            note,
            none: "none",
            rows,
            after: beyond(found.beyond),
            ..Section::default()
        }
    }

    /// Writes the same as objects.
    pub fn write_json(&self, out: &mut Output) -> io::Result<()> {
        json::write(self, out)
    }
}

/// A program of the distribution.
fn is_system(path: &[u8]) -> bool {
    [&b"/usr/"[..], b"/bin/", b"/sbin/", b"/lib", b"/nix/store/"]
        .iter()
        .any(|dir| path.starts_with(dir))
        && !path.starts_with(b"/usr/local/")
}

/// One line for what everybody does, or, where everything is shown, each of them.
fn fold_system(
    found: &crate::audit::Tally<Vec<u8>, Deeds>,
    what: &str,
    all: bool,
    after: &mut Vec<String>,
    mut show: impl FnMut(&[u8], &Item<Deeds>),
) {
    after.extend(beyond(found.beyond));
    if all {
        found.iter().for_each(|(path, item)| show(path, item));
    } else if !found.is_empty() {
        after.push(format!("{what}: {}, --all lists them", count(found.len() as u64)));
    }
}

fn bytes(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { size(bytes) }
}

/// What a list had no room for.
fn beyond(events: u64) -> Vec<String> {
    let line = || format!("{} about others: more than an audit lists", plural(events, "event"));
    (events > 0).then(line).into_iter().collect()
}
