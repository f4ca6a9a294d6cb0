//! `agentrec export --format git`: a commit for each snapshot, so that git can show, compare and bisect what the agent did.

use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;

use agentrec_replay::{Error, GitCommit, GitExported, GitProjection, GitRefs, Sources};
use agentrec_trace::event::{Payload, RootTree};
use agentrec_trace::{Reader, Seq, Value};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::repository::{Import, Repository};
use crate::digest::{Digest, Snapshot, Turn};
use crate::error::WithHint;
use crate::exit::Exit;
use crate::output::{Output, Progress, Style, fit, plural, printable_line};
use crate::session::{self, Context, Opened};
use crate::view::{arguments, text_of};

/// Where the commits go.
pub(super) struct Target<'a> {
    pub(super) dir: &'a Path,
    /// It is a repository, of which only references of ours are touched.
    pub(super) add_refs: bool,
}

/// Of what was said and called before a snapshot, so much stands in its message.
const SAID: usize = 20;
/// Columns of a line of it.
const COLUMNS: usize = 120;
/// Of what the commits lack, so much is printed.
const SHOWN: usize = 20;

/// Carries it out.
pub(super) fn run(
    opened: &Opened,
    target: Target<'_>,
    allow_missing: bool,
    context: Context,
) -> Result<Exit> {
    let digest = session::analyse(&opened.reader)?;
    if digest.snapshots.is_empty() {
        bail!("cannot make commits of {}: it has no snapshots", opened.name);
    }
    let session = name_in_refs(digest.start.as_ref().map_or("", |start| &start.session));
    let (repository, branch, tags) = if target.add_refs {
        let base = format!("refs/agentrec/{session}");
        (Repository::existing(target.dir)?, format!("{base}/branch"), format!("{base}/"))
    } else {
        let repository = Repository::create(target.dir, &session)?;
        (repository, format!("refs/heads/{session}"), "refs/tags/".to_owned())
    };
    let refs = GitRefs { branch: branch.clone(), tags, author: author(&digest) };
    let mut import = repository.import()?;
    let input = BufWriter::with_capacity(1 << 20, import.input()?);
    let told = tell(opened, &digest, refs, input, allow_missing);
    let exported = ended(told, import)
        .with_context(|| format!("cannot export {} to {}", opened.name, target.dir.display()))?;
    repository.finish()?;
    report(&exported, &target, &branch, opened, context)?;
    Ok(Exit::OK)
}

/// Of two complaints git's own is the better one: ours is that it does not listen any more.
fn ended(
    told: Result<(GitExported, BufWriter<ChildStdin>), Error>,
    import: Import,
) -> Result<GitExported> {
    match told {
        Ok((exported, input)) => {
            drop(input);
            import.wait()?;
            Ok(exported)
        }
        Err(Error::Git(error)) => {
            import.wait()?;
            Err(Error::Git(error).into())
        }
        Err(error @ Error::NotHere { .. }) => Err(error).hint(
            "export on the machine that recorded it, or from a bundle that was made there; --allow-missing leaves it out",
        ),
        Err(error) => Err(error.into()),
    }
}

fn tell(
    opened: &Opened,
    digest: &Digest,
    refs: GitRefs,
    input: BufWriter<ChildStdin>,
    allow_missing: bool,
) -> Result<(GitExported, BufWriter<ChildStdin>), Error> {
    let store = session::store();
    let sources = Sources::new(&opened.reader, store.as_ref());
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in digest.snapshots.iter().flat_map(given_roots) {
        let path = root.path.as_path();
        if !roots.iter().any(|known| known == path) {
            roots.push(path.to_owned());
        }
    }
    let mut projection = GitProjection::begin(&sources, input, refs, &roots, allow_missing)?;
    let mut progress = Progress::new("exporting", digest.snapshots.len() as u64);
    let mut said = Said::of(&opened.reader, digest);
    for (n, snapshot) in digest.snapshots.iter().enumerate() {
        projection.commit(&commit(digest, snapshot, &mut said))?;
        progress.set(n as u64);
    }
    projection.finish()
}

/// What an agent keeps for itself is no part of the work: each root would be a directory, and other sessions' files among it.
fn given_roots(snapshot: &Snapshot) -> impl Iterator<Item = &RootTree<'static>> {
    snapshot.roots.iter().filter(|root| root.agent.is_none())
}

fn commit(digest: &Digest, snapshot: &Snapshot, said: &mut Said<'_>) -> GitCommit {
    let turn = turn_of(digest, snapshot);
    let lines = said.before(snapshot.seq);
    let text = printable_line(snapshot.description.as_bytes());
    let what = match (&*snapshot.description, lines.first()) {
        ("" | "start" | "end", Some(first)) => first.clone(),
        ("", None) => printable_line(snapshot.trigger.as_bytes()),
        _ => text,
    };
    let at = turn.map_or(String::new(), |turn| format!(" {}", turn.label));
    let mut message = format!("{}{at}: {}\n\n", snapshot.index, fit(&what, 72));
    for line in lines.iter().take(SAID) {
        message.push_str(line);
        message.push('\n');
    }
    if let Some(more) = lines.len().checked_sub(SAID).filter(|more| *more > 0) {
        message.push_str(&format!("… {more} more\n"));
    }
    let start = digest.start.as_ref();
    let mut trailers = vec![
        ("Agentrec-Session", start.map_or(String::new(), |start| start.session.to_string())),
        ("Agentrec-Snapshot", snapshot.index.to_string()),
    ];
    for root in given_roots(snapshot) {
        trailers.push(("Agentrec-Tree", format!("{} {}", root.tree, printable_line(&root.path))));
    }
    if let Some(turn) = turn {
        trailers.push(("Agentrec-Turn", turn.label.to_string()));
    }
    let roots = given_roots(snapshot).map(|root| (root.path.as_path().to_owned(), root.tree));
    GitCommit {
        index: snapshot.index,
        roots: roots.collect(),
        time: (
            digest.wall(snapshot.ts).div_euclid(1_000_000_000),
            start.map_or(0, |start| start.utc_offset),
        ),
        message,
        trailers,
    }
}

/// The turn at whose request a snapshot was taken, else the last one that began before it.
fn turn_of<'d>(digest: &'d Digest, snapshot: &Snapshot) -> Option<&'d Turn> {
    let at = digest.turns.iter().find(|turn| Some(turn.seq) == snapshot.cause);
    at.or_else(|| digest.turns.iter().filter(|turn| turn.seq < snapshot.seq).last())
}

/// What the model said and called, in order, a line each.
struct Said<'a> {
    reader: &'a Reader,
    pieces: std::iter::Peekable<std::vec::IntoIter<(Seq, Piece<'a>)>>,
}

enum Piece<'a> {
    Text(&'a Payload),
    Call(&'a str, &'a Payload),
}

impl<'a> Said<'a> {
    fn of(reader: &'a Reader, digest: &'a Digest) -> Self {
        let texts = digest.messages.iter().filter(|message| message.role == "assistant");
        let calls = digest.calls.iter().filter(|call| call.carries_out.is_none());
        let mut pieces: Vec<_> = texts
            .map(|message| (message.seq, Piece::Text(&message.content)))
            .chain(calls.map(|call| (call.seq, Piece::Call(&call.name, &call.arguments))))
            .collect();
        pieces.sort_by_key(|(seq, _)| *seq);
        Self { reader, pieces: pieces.into_iter().peekable() }
    }

    /// The lines that nobody had yet of what came before `seq`.
    fn before(&mut self, seq: Seq) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((_, piece)) = self.pieces.next_if(|(at, _)| *at < seq) {
            let value = |payload| self.reader.payload(payload).unwrap_or(Value::Nil);
            let line = match piece {
                Piece::Text(payload) => first_line(&value(payload)),
                Piece::Call(name, payload) => {
                    let name = printable_line(name.as_bytes());
                    format!("{name} {}", arguments(&value(payload)))
                }
            };
            if !line.trim().is_empty() {
                lines.push(fit(line.trim(), COLUMNS));
            }
        }
        lines
    }
}

/// The first line of a text; of blocks, as they are shown on one line.
fn first_line(value: &Value) -> String {
    match value.as_str() {
        Some(text) => {
            let line = text.trim_start().lines().next().unwrap_or_default();
            printable_line(line.as_bytes())
        }
        None => text_of(value),
    }
}

/// `python3 <python3@agentrec.invalid>`: the program that was recorded, at an address that can't be one.
fn author(digest: &Digest) -> String {
    let argv = digest.start.as_ref().and_then(|start| start.argv.first());
    let program = argv.and_then(|program| program.as_path().file_name());
    let name = name_in_refs(&program.unwrap_or("agent".as_ref()).to_string_lossy());
    format!("{name} <{name}@agentrec.invalid>")
}

/// What of a name git takes anywhere.
fn name_in_refs(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = text.chars().map(plain).take(64).collect();
    match name.trim_matches('-') {
        "" => "session".to_owned(),
        name => name.to_owned(),
    }
}

fn report(
    exported: &GitExported,
    target: &Target<'_>,
    branch: &str,
    opened: &Opened,
    context: Context,
) -> Result<()> {
    let mut out = Output::new(context.preferences);
    let dir = target.dir;
    if out.json {
        let bytes = |path: &Path| crate::output::json::bytes(path.as_os_str().as_bytes());
        let lacks = exported.lacks.iter().map(|(path, (snapshot, lack))| {
            json!({"path": bytes(path), "snapshot": snapshot, "reason": lack.as_str()})
        });
        out.json_line(&json!({
            "kind": "git", "dir": bytes(dir), "branch": branch, "commits": exported.commits,
            "left_out": lacks.collect::<Vec<_>>(),
        }))?;
        return Ok(out.finish()?);
    }
    let commits = plural(exported.commits, "commit");
    writeln!(out, "exported {} to {}: {commits} on {branch}", opened.name, dir.display())?;
    for (path, (snapshot, lack)) in exported.lacks.iter().take(SHOWN) {
        let name = printable_line(path.as_os_str().as_bytes());
        let what = out.paint.apply(Style::Warn, "left out").to_string();
        writeln!(out, "  {what} from {snapshot} on {name}: {}", lack.as_str())?;
    }
    if let Some(more) = exported.lacks.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        writeln!(out, "  {more} more, which --json lists")?;
    }
    Ok(out.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_git_takes() {
        assert_eq!(name_in_refs("7q3kabcd"), "7q3kabcd");
        assert_eq!(name_in_refs("../../HEAD.lock"), "HEAD-lock");
        assert_eq!(name_in_refs("<a@b>\n"), "a-b");
        assert_eq!(name_in_refs("\u{1}"), "session");
    }
}
