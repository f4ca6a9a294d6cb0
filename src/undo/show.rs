//! How a plan is shown before it is carried out, and what was done after.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_replay::undo::{Conflict, Done, Plan, Why};
use agentrec_store::{Entry, Kind, OperationKind, Step};
use agentrec_trace::Seq;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::outward::Outward;
use crate::digest::Digest;
use crate::error::with_hint;
use crate::output::{Output, Style, fit, home_relative, json, plural, printable_line, relative};
use crate::view::by;

/// More paths than this are folded by directory.
const FOLD: usize = 20;

/// A plan with what is known of the session.
pub struct Shown<'a, 'p> {
    /// The plan.
    pub plan: &'a Plan<'p>,
    /// The analysed trace, where there is one.
    pub digest: Option<&'a Digest>,
    /// The session's working directory: paths in it are shown relative to it.
    pub directory: &'a Path,
    /// What can't be taken back.
    pub outward: &'a [Outward],
}

/// What would become of a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    ComesBack,
    Changes,
    Goes,
}

impl Verb {
    fn of(step: &Step) -> Self {
        match (&step.before, &step.after) {
            (None, _) => Self::ComesBack,
            (_, None) => Self::Goes,
            _ => Self::Changes,
        }
    }

    fn sign(self) -> (char, Style) {
        match self {
            Self::ComesBack => ('+', Style::Good),
            Self::Changes => ('~', Style::Warn),
            Self::Goes => ('-', Style::Bad),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::ComesBack => "comes back",
            Self::Changes => "as before",
            Self::Goes => "goes",
        }
    }
}

impl Shown<'_, '_> {
    /// Writes what would be done.
    pub fn write(&self, out: &mut Output) -> Result<()> {
        if out.json {
            return self.write_json(out);
        }
        let paint = out.paint;
        for outward in self.outward {
            let times = if outward.times > 1 {
                format!(", {} times", outward.times)
            } else {
                String::new()
            };
            writeln!(
                out,
                "{} {} {} ({}{times})",
                paint.apply(Style::Bad, "can't take back:"),
                paint.address(outward.seq),
                fit(&outward.what, 100),
                outward.kind,
            )?;
        }
        let steps: Vec<_> = self.plan.changes().collect();
        if steps.len() > FOLD {
            self.folded(out, &steps)?;
        } else {
            let names: Vec<_> =
                steps.iter().map(|step| self.name(&step.full_path(), step)).collect();
            let columns =
                names.iter().map(|name| crate::output::width(name)).max().unwrap_or(0).min(60);
            for (step, name) in steps.iter().zip(&names) {
                let verb = Verb::of(step);
                let (sign, style) = verb.sign();
                let pad = columns.saturating_sub(crate::output::width(name));
                let shown = paint.apply(style, format!("{sign} {name}"));
                let by =
                    self.by(&step.full_path()).map(|by| format!("  by {by}")).unwrap_or_default();
                let outside = self.outside(&step.full_path());
                let line = format!("{shown}{:pad$}  {:<10}{by}{outside}", "", verb.word());
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        for conflict in &self.plan.conflicts {
            let name = self.name(&conflict.step.full_path(), &conflict.step);
            let mark = paint.apply(Style::Bad, "conflict");
            writeln!(out, "{mark} {name}  {}", self.why(conflict))?;
        }
        for (path, why) in &self.plan.unable {
            let mark = paint.apply(Style::Warn, "can't bring back");
            writeln!(out, "{mark} {}  {}", self.plain(path), why.as_str())?;
        }
        for path in &self.plan.stays {
            let mark = paint.apply(Style::Warn, "stays");
            writeln!(out, "{mark} {}/  something else is in it", self.plain(path))?;
        }
        Ok(())
    }

    /// `would bring back 23 files, change 1; 0 conflicts`
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<Verb, u64> = BTreeMap::new();
        for step in self.plan.changes() {
            *counts.entry(Verb::of(step)).or_default() += 1;
        }
        let parts: Vec<_> = [
            (Verb::ComesBack, "bring back"),
            (Verb::Changes, "change back"),
            (Verb::Goes, "remove"),
        ]
        .into_iter()
        .filter_map(|(verb, word)| Some(format!("{word} {}", counts.get(&verb)?)))
        .collect();
        let what = if parts.is_empty() {
            "would change nothing".to_owned()
        } else {
            format!("would {}", parts.join(", "))
        };
        format!("{what}; {}", plural(self.plan.conflicts.len() as u64, "conflict"))
    }

    fn folded(&self, out: &mut Output, steps: &[&Step]) -> Result<()> {
        let mut groups: BTreeMap<(std::path::PathBuf, Verb), (u64, u64)> = BTreeMap::new();
        for step in steps {
            let full = step.full_path();
            let parent = full.parent().unwrap_or(&full).to_owned();
            let counts = groups.entry((parent, Verb::of(step))).or_default();
            let is_dir = [&step.before, &step.after]
                .into_iter()
                .flatten()
                .any(|entry| entry.kind == Kind::Dir);
            if is_dir { counts.1 += 1 } else { counts.0 += 1 }
        }
        for ((parent, verb), (files, directories)) in groups {
            let (sign, style) = verb.sign();
            let shown = out.paint.apply(style, format!("{sign} {}/", self.plain(&parent)));
            let mut what = Vec::new();
            if files > 0 {
                what.push(plural(files, "file"));
            }
            if directories > 0 {
                let word = if directories == 1 { "directory" } else { "directories" };
                what.push(format!("{directories} {word}"));
            }
            writeln!(out, "{shown}  {} {}{}", what.join(", "), verb.word(), self.outside(&parent))?;
        }
        Ok(())
    }

    fn name(&self, path: &Path, step: &Step) -> String {
        let is_dir =
            |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.kind == Kind::Dir);
        let name = self.plain(path);
        if is_dir(&step.before) || is_dir(&step.after) { format!("{name}/") } else { name }
    }

    fn plain(&self, path: &Path) -> String {
        let path = path.as_os_str().as_bytes();
        if self.is_outside(path) {
            home_relative(path)
        } else {
            relative(path, self.directory.as_os_str().as_bytes())
        }
    }

    fn is_outside(&self, path: &[u8]) -> bool {
        crate::digest::suffix_below(path, self.directory.as_os_str().as_bytes()).is_none()
    }

    fn outside(&self, path: &Path) -> &'static str {
        let path = path.as_os_str().as_bytes();
        let in_tree = match self.digest {
            Some(digest) => digest.in_tree(path),
            None => !self.is_outside(path),
        };
        if in_tree { "" } else { "  OUTSIDE the tree" }
    }

    /// Who changed a path last within the span.
    fn by(&self, path: &Path) -> Option<String> {
        let last = self.plan.last.get(path)?;
        self.by_event(*last)
    }

    fn by_event(&self, seq: Seq) -> Option<String> {
        let digest = self.digest?;
        let actions = digest.files.actions();
        let at = actions.binary_search_by(|action| action.seq.cmp(&seq)).ok()?;
        Some(by(digest, actions[at].proc, seq, actions[at].ts))
    }

    fn why(&self, conflict: &Conflict) -> String {
        let names = |seqs: &[Seq]| {
            let mut names: Vec<_> = seqs.iter().filter_map(|seq| self.by_event(*seq)).collect();
            names.dedup();
            let more = names.len().saturating_sub(2);
            names.truncate(2);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", names.join(", "))
        };
        match &conflict.why {
            Why::Changed(later) if later.is_empty() => "changed since, not by a recorded process".into(),
            Why::Changed(later) => format!("changed since by {}, and perhaps by others", names(later)),
            Why::Shared(others) => format!("changed at the same time by {}", names(others)),
            Why::Foreign => "changed in the same span, and not by a recorded process alone".into(),
            Why::Held => "was open for writing before or after, too".into(),
            Why::NotRecorded => "changed after the last recorded act, and no snapshot tells what was there in between".into(),
            Why::BeforeNotKnown => "came from another name; whether it replaced something is not known".into(),
            Why::KeptLate => "its old content was read when it could have changed already".into(),
            Why::OtherNames => "has other names (hard links), which would keep what was done".into(),
        }
    }

    fn write_json(&self, out: &mut Output) -> Result<()> {
        let path = |path: &Path| json::bytes(path.as_os_str().as_bytes());
        for outward in self.outward {
            out.json_line(&json!({
                "kind": "outward", "seq": outward.seq, "what": outward.what, "why": outward.kind, "times": outward.times,
            }))?;
        }
        for step in self.plan.changes() {
            let full = step.full_path();
            let change = match Verb::of(step) {
                Verb::ComesBack => "created",
                Verb::Changes => "changed",
                Verb::Goes => "removed",
            };
            out.json_line(&json!({
                "kind": "step", "path": path(&full), "change": change, "seq": self.plan.last.get(&full),
                "by": self.by(&full), "before": state(&step.before), "after": state(&step.after),
            }))?;
        }
        for conflict in &self.plan.conflicts {
            let full = conflict.step.full_path();
            out.json_line(&json!({
                "kind": "conflict", "path": path(&full), "why": self.why(conflict),
                "mine": state(&conflict.step.before), "theirs": state(&conflict.step.after),
            }))?;
        }
        for (unable, why) in &self.plan.unable {
            out.json_line(&json!({ "kind": "unable", "path": path(unable), "why": why.as_str() }))?;
        }
        for stays in &self.plan.stays {
            out.json_line(&json!({ "kind": "stays", "path": path(stays) }))?;
        }
        Ok(())
    }
}

fn state(entry: &Option<Entry>) -> Value {
    match entry {
        None => Value::Null,
        Some(entry) => {
            json!({ "mode": entry.meta.mode, "size": entry.size, "object": entry.id.map(|id| id.to_string()) })
        }
    }
}

/// Asks `question` on the terminal.
pub fn confirmed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(with_hint(
            anyhow!("cannot ask whether to go on: standard input is not a terminal"),
            "--yes goes on without asking; --dry-run only shows",
        ));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says what an operation did, and how to take it back; whether all of it was done.
pub fn say_done(out: &mut Output, done: &Done, kind: OperationKind) -> Result<bool> {
    let path = |path: &Path| json::bytes(path.as_os_str().as_bytes());
    if out.json {
        let missing: Vec<_> = done
            .missing
            .iter()
            .map(
                |missing| json!({ "path": path(&missing.path), "reason": missing.reason.as_str() }),
            )
            .collect();
        let not_set: Vec<_> = done
            .not_set
            .iter()
            .map(|not_set| json!({ "path": path(&not_set.path), "what": not_set.what, "reason": not_set.reason }))
            .collect();
        out.json_line(&json!({
            "kind": "done", "operation": format!("o{}", done.id), "files": done.files, "removed": done.removed,
            "missing": missing, "not_set": not_set,
        }))?;
        return Ok(done.missing.is_empty());
    }
    let paint = out.paint;
    for missing in &done.missing {
        let name = printable_line(missing.path.as_os_str().as_bytes());
        writeln!(
            out,
            "{} {name}: {}",
            paint.apply(Style::Bad, "not done"),
            missing.reason.as_str()
        )?;
    }
    for not_set in &done.not_set {
        let name = printable_line(not_set.path.as_os_str().as_bytes());
        writeln!(
            out,
            "{} {name}: {}: {}",
            paint.apply(Style::Warn, "not set"),
            not_set.what,
            not_set.reason
        )?;
    }
    let back = match kind {
        OperationKind::Undo => "agentrec redo".to_owned(),
        _ => format!("agentrec undo o{}", done.id),
    };
    writeln!(
        out,
        "done: {}; `{back}` takes this back",
        paint.address(format_args!("o{}", done.id))
    )?;
    Ok(done.missing.is_empty())
}
