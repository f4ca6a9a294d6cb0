//! What an auditor asks of a trace: what went outside, what was secret, what can't be undone, what was not seen, and
//! which rules were broken.
//!
//! Pure: events go in one by one, in the order of the trace; nothing here reads the trace or prints. A trace is hostile
//! input: every list has a bound, and says what there was no room for. Rules are asked at every event, whatever is kept.

mod commands;
mod deeds;
mod files;
mod hosts;
mod links;
mod net;
mod people;
mod rules;
mod system;
mod tally;

#[cfg(test)]
mod tests;

use agentrec_trace::event::{Lost, Mount, ProcessExec, SessionStop};
use agentrec_trace::{Data, Event, Seq};

pub use deeds::{Act, Deeds, Outcome};
pub use net::{Distance, Flow, Host};
pub use people::Who;
pub use rules::{Place, Rule, Rules};
pub use tally::{Item, Part, Tally};

use crate::digest::OldContents;
use links::Links;
use people::People;
use rules::Kind;

/// What the session's tree is.
pub struct WorkingTree<'a> {
    /// The directories that snapshots hold, or the working directory.
    pub roots: Vec<Vec<u8>>,
    /// Whether the first snapshot says that a file holds secrets, whatever its name.
    pub is_secret: &'a dyn Fn(&[u8]) -> bool,
    /// What a symbolic link of the first snapshot holds.
    pub link: &'a dyn Fn(&[u8]) -> Option<Vec<u8>>,
}

impl WorkingTree<'_> {
    /// Whether `path` lies in it.
    pub fn holds(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| crate::digest::suffix_below(path, root).is_some())
    }
}

/// A program that was executed.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// What the kernel mapped, where that is not the path: an interpreter, or the end of a link.
    pub exe: Option<Vec<u8>>,
}

/// What was found so far.
pub struct Audit<'a> {
    rules: &'a Rules,
    tree: WorkingTree<'a>,
    session: String,
    people: People,
    /// The recording began with processes that ran already.
    attached: bool,
    /// It has no command: a watch.
    watches: bool,
    /// Nothing stood where the session made or moved a file, and nothing says that something was kept.
    keeps: bool,
    links: Links<'a>,
    files: files::Files,
    old: OldContents,
    net: net::Net,
    /// Rules that were broken, by what.
    pub violations: Tally<(Rule, Vec<u8>)>,
    /// Files that hold secrets.
    pub secrets: Tally<Vec<u8>, Deeds>,
    /// Acts that can't be taken back: what, and of which kind.
    pub irrevocable: Tally<(&'static str, String)>,
    /// Files outside the tree that were changed.
    pub writes: Tally<Vec<u8>, Deeds>,
    /// The same for what leaves nothing behind, such as /dev/null.
    pub system_writes: Tally<Vec<u8>, Deeds>,
    /// Peers.
    pub hosts: Tally<Host, Flow>,
    /// Programs by their paths.
    pub programs: Tally<Vec<u8>, Program>,
    /// Files outside the tree that were read.
    pub reads: Tally<Vec<u8>, Deeds>,
    /// The same for what every program reads.
    pub system_reads: Tally<Vec<u8>, Deeds>,
    /// What is not in the trace, with the number of events where that is known.
    pub unseen: Tally<String, u64>,
    /// Events that the trace says were lost, and places where an unknown number was.
    pub lost: u64,
}

/// What a process does that goes on after the recording.
pub const LEFT_RUNNING: &str = "left running";

/// Old contents that are remembered; beyond them they count as not kept.
const MAX_OLD: usize = 100_000;

/// Work that somebody else does.
const HANDED_OVER: &str = "handed over";

impl<'a> Audit<'a> {
    /// Of a session with this id.
    pub fn new(rules: &'a Rules, tree: WorkingTree<'a>, session: &str) -> Self {
        let links = Links::new(tree.link);
        Self {
            rules,
            tree,
            session: session.to_owned(),
            people: People::default(),
            attached: false,
            watches: false,
            links,
            files: files::Files::default(),
            keeps: false,
            old: OldContents::default(),
            net: net::Net::default(),
            violations: Tally::default(),
            secrets: Tally::default(),
            irrevocable: Tally::default(),
            writes: Tally::default(),
            system_writes: Tally::default(),
            hosts: Tally::default(),
            programs: Tally::default(),
            reads: Tally::default(),
            system_reads: Tally::default(),
            unseen: Tally::default(),
            lost: 0,
        }
    }

    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        self.people.add(event);
        match &event.data {
            Data::ProcessExec(e) if e.errno.is_none() => self.executed(event, e),
            Data::Lost(e) => self.lost(event, e),
            Data::Mount(e) if e.errno.is_none() => {
                self.mounted(event, e);
                self.file_event(event);
            }
            Data::SessionStart(e) => {
                self.watches = e.watch.is_some();
                self.keeps = e.keeps > 0 && e.engine == "ptrace";
            }
            Data::FileKept(_) if self.old.len() < MAX_OLD => self.old.add(event),
            Data::SessionStop(e) => self.stopped(event.seq, e),
            Data::NetConnect(_)
            | Data::NetListen(_)
            | Data::NetAccept(_)
            | Data::NetClose(_)
            | Data::NetOpaque(_)
            | Data::HttpRequest(_) => self.net_event(event),
            _ => self.file_event(event),
        }
    }

    fn executed(&mut self, event: &Event<'_>, e: &ProcessExec<'_>) {
        let who = self.people.who(event.proc);
        let exe = e.exe.as_ref().map(|exe| exe.to_vec());
        if let Some(program) = self.programs.note(e.path.to_vec(), &who, event.seq) {
            program.exe = exe;
        }
        if e.argv_len.is_some() {
            self.unseen("argument lists were cut".into(), &who, event.seq, 0);
        }
        // What ran before the recording began is told, and not judged.
        if e.initial {
            self.attached = true;
            return;
        }
        let real = self.links.resolve(&e.path, true);
        let names: Vec<&[u8]> =
            [Some(&*e.path), e.exe.as_deref(), real.as_deref()].into_iter().flatten().collect();
        if let Some(rule) = self.rules.denies(Kind::Exec, &names) {
            self.violations.note((rule, e.path.to_vec()), &who, event.seq);
        }
        if let Some(kind) = commands::irrevocable(&e.path, &e.argv) {
            self.irrevocable(who.command.to_string(), kind, &who, event.seq);
        }
    }

    fn irrevocable(&mut self, what: String, kind: &'static str, who: &Who, seq: Seq) {
        self.irrevocable.note((kind, what), who, seq);
    }

    fn lost(&mut self, event: &Event<'_>, e: &Lost<'_>) {
        let who = self.people.who(event.proc);
        let count = e.count.unwrap_or(1);
        self.lost = self.lost.saturating_add(count);
        if e.place == "outside" {
            self.irrevocable(e.reason.to_string(), HANDED_OVER, &who, event.seq);
            self.broken_by_loss(&e.reason, &who, event.seq);
        } else {
            self.unseen(
                format!("{}: {}", e.place, e.reason),
                &who,
                event.seq,
                e.count.unwrap_or(0),
            );
        }
    }

    /// Something is not in the trace; `count` events, where that is known.
    fn unseen(&mut self, what: String, who: &Who, seq: Seq, count: u64) {
        self.broken_by_loss(&what, who, seq);
        if let Some(events) = self.unseen.note(what, who, seq) {
            *events = events.saturating_add(count);
        }
    }

    fn broken_by_loss(&mut self, what: &str, who: &Who, seq: Seq) {
        if let Some(rule) = self.rules.lost() {
            self.violations.note((rule, what.as_bytes().to_vec()), who, seq);
        }
    }

    /// A path may be another file's from here on.
    fn mounted(&mut self, event: &Event<'_>, e: &Mount<'_>) {
        let what = match &*e.op {
            "mount" | "move_mount" | "pivot_root" => {
                "mounts: what lies below may be other files than the paths say"
            }
            "setns" => "another mount namespace was entered: paths are as it has them",
            _ => return,
        };
        let who = self.people.who(event.proc);
        self.unseen(what.to_owned(), &who, event.seq, 0);
    }

    fn stopped(&mut self, seq: Seq, stop: &SessionStop<'_>) {
        // Who is watched goes on in any case.
        if stop.left_running == 0 || self.watches {
            return;
        }
        let running: Vec<_> = self.people.running().cloned().collect();
        for who in running {
            self.irrevocable(who.command.to_string(), LEFT_RUNNING, &who, who.began);
            self.broken_by_loss("a process was left running, unrecorded", &who, seq);
        }
    }

    /// The trace has no more events. `cut` says why it may lack some, where it has no end.
    pub fn finish(&mut self, last: Seq, cut: Option<String>) {
        self.finish_files();
        self.finish_net();
        let nobody = self.people.who(None);
        if let Some(why) = cut {
            self.unseen(why, &nobody, last, 0);
        }
        let by_name: Vec<_> = self.rules.by_name().map(str::to_owned).collect();
        if self.net.unnamed > 0 && !by_name.is_empty() {
            let what = format!(
                "names of hosts are not known, only their addresses: not checked for {}",
                by_name.join(", ")
            );
            self.unseen(what, &nobody, last, 0);
        }
        let beyond = self.people.beyond + self.files.beyond + self.links.forgotten;
        if beyond > 0 {
            let what = "more processes, open files or links than an audit follows at a time";
            self.unseen(what.into(), &nobody, last, beyond);
        }
    }

    /// What a rule says.
    pub fn rule(&self, rule: Rule) -> &str {
        self.rules.text(rule)
    }

    /// Files outside the tree whose old content is gone.
    pub fn overwritten(&self) -> impl Iterator<Item = (&Vec<u8>, &Item<Deeds>)> {
        self.writes.iter().filter(|(path, item)| self.is_lost(path, item))
    }

    /// Whether a file outside the tree held something that neither the trace nor the store holds.
    pub fn is_lost(&self, path: &[u8], item: &Item<Deeds>) -> bool {
        let outcome = item.state.outcome();
        let kept = || match self.old.is_kept(path) {
            Some(kept) => kept,
            None => self.keeps && outcome == Outcome::Replaced,
        };
        outcome.loses_content() && !kept()
    }

    /// How many files outside the tree are changed or deleted, and can be had again.
    pub fn kept(&self) -> usize {
        let is_kept = |path: &[u8]| self.old.is_kept(path) == Some(true);
        let found = self.writes.iter();
        found.filter(|(path, item)| item.state.outcome().loses_content() && is_kept(path)).count()
    }
}
