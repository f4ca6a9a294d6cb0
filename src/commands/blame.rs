//! `agentrec blame FILE`: for each line of a file the turn, tool call and process that it came from.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_replay::{Sources, line_origins};
use agentrec_store::{Entry, Kind, Objects, Tree};
use agentrec_trace::{Bytes, ObjectId, Seq, SnapshotIndex};
use anyhow::{Result, anyhow, bail};
use serde_json::json;

use crate::address::Address;
use crate::commands::why;
use crate::digest::{ActionKind, Digest};
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::{Output, fit, json, printable_line, relative, width};
use crate::session::{self, Context};
use crate::view::Hands;

/// Arguments of `agentrec blame`.
#[derive(clap::Args)]
pub struct Args {
    /// The file, as it is now; where it is gone, as the session's last snapshot has it; in another session as 7q3k@FILE
    file: PathBuf,
    /// The session (default: this directory's last)
    #[arg(long, short, value_name = "SESSION")]
    trace: Option<Address>,
}

/// Longer files are not told line by line, bytes.
const MAX: u64 = 4 << 20;

/// Columns for who it was.
const WHO: usize = 48;

/// Where a line came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who may have written it, each as `sh 4180 <- t5 Bash`; several where that can't be told apart, none where it was nobody recorded.
    pub by: Vec<String>,
    /// The snapshot before it was there; none where it was there from the start.
    pub after: Option<SnapshotIndex>,
    /// The snapshot that has it first; none where it came after the last.
    pub before: Option<SnapshotIndex>,
    /// The events of the two; none where it was there from the start.
    pub between: Option<(Seq, Seq)>,
}

/// A file line by line.
pub struct Blamed {
    /// The lines, without their ends.
    pub lines: Vec<Vec<u8>>,
    /// The places that lines came from.
    pub origins: Vec<Origin>,
    /// For each line, which of the origins.
    pub of: Vec<usize>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let (opened, file) = session::open_of_file(args.trace.as_ref(), &args.file)?;
    let digest = session::analyse(&opened.reader)?;
    let path = why::absolute(&file, &digest)?;
    let store = session::store();
    let sources = Sources::new(&opened.reader, store.as_ref());
    let blamed = blame(&digest, &sources, Bytes::from(path.as_slice()).as_path())?;
    let mut out = Output::paged(context.preferences);
    let who: Vec<_> = blamed.origins.iter().map(|origin| fit(&in_words(origin), WHO)).collect();
    let spans: Vec<_> = blamed.origins.iter().map(span).collect();
    let widest =
        |texts: &[String]| blamed.of.iter().map(|&of| width(&texts[of])).max().unwrap_or(0);
    let (columns, span_columns) = (widest(&who), widest(&spans));
    let digits = blamed.lines.len().to_string().len();
    for (number, (line, &of)) in blamed.lines.iter().zip(&blamed.of).enumerate() {
        let origin = &blamed.origins[of];
        if out.json {
            out.json_line(&json!({
                "kind": "line", "line": number + 1, "text": json::bytes(line), "by": origin.by,
                "after": origin.after, "before": origin.before,
                "from": if origin.after.is_none() { "start" } else if origin.by.is_empty() { "not recorded" } else { "recorded" },
            }))?;
            continue;
        }
        let paint = out.paint;
        let pad = columns - width(&who[of]);
        let text = line.split(|&b| b == b'\t').map(printable_line).collect::<Vec<_>>().join("\t");
        writeln!(
            out,
            "{}{:pad$}  {:<span_columns$}  {:>digits$}) {text}",
            paint.dim(&who[of]),
            "",
            paint.address(&spans[of]),
            number + 1,
        )?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// Who wrote a line, as printed.
pub fn in_words(origin: &Origin) -> String {
    match (origin.after, origin.by.as_slice()) {
        (None, _) => "there from the start".to_owned(),
        (_, []) => "not by a recorded process".to_owned(),
        (_, [by]) => by.clone(),
        (_, several) => format!("ambiguous: {}", several.join(" or ")),
    }
}

/// Between which snapshots a line came: `s3..s4`.
pub fn span(origin: &Origin) -> String {
    match (origin.after, origin.before) {
        (None, Some(first)) => first.to_string(),
        (Some(after), Some(before)) => format!("{after}..{before}"),
        (Some(after), None) => format!("{after}.."),
        (None, None) => String::new(),
    }
}

/// A state of the file.
struct Version {
    /// The snapshots that have it; none stands for now.
    first: Option<(Seq, SnapshotIndex)>,
    last: Option<(Seq, SnapshotIndex)>,
    path: PathBuf,
    content: Vec<u8>,
    id: ObjectId,
}

/// Tells of each line of the file at `path` where it came from.
pub fn blame(digest: &Digest, sources: &Sources<'_>, path: &Path) -> Result<Blamed> {
    let versions = versions(digest, sources, path)?;
    let hands = Hands::new(digest);
    let contents: Vec<_> = versions.iter().map(|version| version.content.as_slice()).collect();
    let mut origins = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        // The first version stands for what was there; if there was nothing at the first snapshot it is an empty one.
        let earlier = at.checked_sub(1).map(|at| &versions[at]);
        let from = earlier.and_then(|earlier| earlier.last);
        let to = version.first.map_or(Seq(u64::MAX), |(seq, _)| seq);
        let between = from.map(|(from, _)| (from, to));
        let mut by = Vec::new();
        if let Some(between) = between {
            by = hands.between(&version.path, between);
            if let Some(earlier) = earlier.filter(|earlier| earlier.path != version.path) {
                let earlier = hands.between(&earlier.path, between);
                by.extend(
                    earlier.into_iter().filter(|name| !by.contains(name)).collect::<Vec<_>>(),
                );
            }
        }
        let index = |end: Option<(Seq, SnapshotIndex)>| end.map(|(_, index)| index);
        origins.push(Origin { by, after: index(from), before: index(version.first), between });
    }
    let (lines, of) = line_origins(&contents);
    Ok(Blamed { lines, origins, of })
}

/// The states of the file, the oldest first, as snapshots have it and then as it is now; equal neighbours once.
fn versions(digest: &Digest, sources: &Sources<'_>, path: &Path) -> Result<Vec<Version>> {
    let shown = relative(path.as_os_str().as_bytes(), digest.cwd());
    let mut found: Vec<Version> = Vec::new();
    let mut name = path.to_owned();
    match fs::read(path) {
        Ok(content) if content.len() as u64 <= MAX => {
            let id = ObjectId::of(&content);
            found.push(Version { first: None, last: None, path: name.clone(), content, id });
        }
        Ok(_) => bail!("cannot tell the lines of {shown}: it is too large"),
        Err(_) => {}
    }
    let mut in_tree = false;
    for snapshot in digest.snapshots.iter().rev() {
        let Some((root, rest)) = snapshot
            .roots
            .iter()
            .find_map(|root| Some((root.tree, name.strip_prefix(root.path.as_path()).ok()?)))
        else {
            continue;
        };
        in_tree = true;
        // It was written to while the snapshot was taken: which acts it shows is not known.
        if snapshot.late.iter().chain(&snapshot.torn).any(|late| late.as_path() == name) {
            continue;
        }
        let at = Some((snapshot.seq, snapshot.index));
        let entry = entry(sources, root, rest);
        let (content, id) = match &entry {
            Some(Entry { kind: Kind::File, id: Some(id), size, .. }) if *size <= MAX => {
                match sources.get(id)? {
                    Some(content) => (content, *id),
                    None => bail!(
                        "cannot tell the lines of {shown}: what {} had is not here any more",
                        snapshot.index
                    ),
                }
            }
            Some(Entry { kind: Kind::File, .. }) => {
                bail!("cannot tell the lines of {shown}: {} left it out", snapshot.index)
            }
            _ => (Vec::new(), ObjectId::of(b"")),
        };
        match found.last_mut() {
            // What came between the two did not change it.
            Some(later) if later.id == id && later.path == name => later.first = at,
            _ => found.push(Version { first: at, last: at, path: name.clone(), content, id }),
        }
        if entry.is_none()
            && let Some(earlier) = earlier_name(digest, &name, snapshot.seq)
        {
            name = earlier;
        }
    }
    if !in_tree {
        return Err(with_hint(
            anyhow!("cannot tell the lines of {shown}: no snapshot holds it"),
            "snapshots hold the session's directory and every --root; agentrec why tells who changed other files",
        ));
    }
    if found.iter().all(|version| version.content.is_empty()) {
        bail!("cannot tell the lines of {shown}: it has none, now and in every snapshot");
    }
    found.reverse();
    Ok(found)
}

/// The name that a file had before it came to this one, after the event.
fn earlier_name(digest: &Digest, name: &Path, after: Seq) -> Option<PathBuf> {
    let id = digest.files.find(name.as_os_str().as_bytes())?;
    let action = digest.files.actions().iter().find(|action| {
        action.path == id && action.seq > after && matches!(action.kind, ActionKind::RenamedFrom(_))
    })?;
    let ActionKind::RenamedFrom(from) = action.kind else { return None };
    Some(Bytes::from(digest.files.path(from)).as_path().to_owned())
}

fn entry(sources: &Sources<'_>, root: ObjectId, path: &Path) -> Option<Entry> {
    let mut entry = Entry { kind: Kind::Dir, id: Some(root), ..Entry::default() };
    for name in path.iter() {
        let id = entry.id.filter(|_| entry.kind == Kind::Dir)?;
        entry = Tree::load(sources, id).ok()?.entry(name.as_bytes())?.clone();
    }
    Some(entry)
}
