//! Differences between two trees: as unified diffs with colour, or a line each.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use agentrec_replay::{ContentDiff, Hunk, Side, content_diff};
use agentrec_store::{Change, ChangeKind, Entry, Kind, Objects};
use anyhow::Result;
use serde_json::json;

use crate::output::{Output, Paint, Style, json, printable_line, size};

/// Writes a change with its contents, as `diff -u` would.
pub fn write_unified(out: &mut Output, objects: &dyn Objects, change: &Change) -> Result<()> {
    if let Some(words) = in_words(change) {
        return line(out, change, &words);
    }
    match content_diff(objects, change)? {
        ContentDiff::Text(hunks) => {
            let paint = out.paint;
            let label = |side: &str, entry: Option<&Entry>| match entry {
                Some(_) => format!("{side}/{}", name(change)),
                None => "/dev/null".to_owned(),
            };
            writeln!(
                out,
                "{}",
                paint.strong(format_args!("--- {}", label("a", change.before.as_ref())))
            )?;
            writeln!(
                out,
                "{}",
                paint.strong(format_args!("+++ {}", label("b", change.after.as_ref())))
            )?;
            for hunk in &hunks {
                write_hunk(out, paint, hunk)?;
            }
            Ok(())
        }
        other => line(out, change, &content_in_words(&other)),
    }
}

/// Writes a change in one line.
pub fn write_stat(out: &mut Output, objects: &dyn Objects, change: &Change) -> Result<()> {
    let words = match in_words(change) {
        Some(words) => words,
        None => content_in_words(&content_diff(objects, change)?),
    };
    line(out, change, &words)
}

fn line(out: &mut Output, change: &Change, words: &str) -> Result<()> {
    let (sign, style) = match change.kind {
        ChangeKind::Added => ('+', Style::Good),
        ChangeKind::Deleted => ('-', Style::Bad),
        _ => ('~', Style::Warn),
    };
    let paint = out.paint;
    writeln!(out, "{}  {words}", paint.apply(style, format_args!("{sign} {}", name(change))))?;
    Ok(())
}

fn write_hunk(out: &mut impl Write, paint: Paint, hunk: &Hunk) -> std::io::Result<()> {
    // A count of one is left out, as diff(1) does.
    let range = |(first, count): (usize, usize)| match count {
        1 => first.to_string(),
        count => format!("{first},{count}"),
    };
    let heading = format!("@@ -{} +{} @@", range(hunk.before), range(hunk.after));
    writeln!(out, "{}", paint.address(heading))?;
    for line in &hunk.lines {
        let text =
            line.text.split(|&b| b == b'\t').map(printable_line).collect::<Vec<_>>().join("\t");
        match line.side {
            Side::Before => writeln!(out, "{}", paint.apply(Style::Bad, format_args!("-{text}")))?,
            Side::After => writeln!(out, "{}", paint.apply(Style::Good, format_args!("+{text}")))?,
            Side::Both => writeln!(out, " {text}")?,
        }
        if line.no_newline {
            writeln!(out, "\\ No newline at end of file")?;
        }
    }
    Ok(())
}

fn name(change: &Change) -> String {
    printable_line(change.path.as_os_str().as_bytes())
}

/// What a change is, where its contents have nothing to say.
fn in_words(change: &Change) -> Option<String> {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    let kind = |entry: Option<&Entry>| entry.map_or("nothing", |entry| kind_name(entry.kind));
    match (change.kind, before, after) {
        (ChangeKind::Unknown, ..) => {
            return Some("left out of a snapshot, so it cannot be compared".into());
        }
        (ChangeKind::Type, ..) => return Some(format!("was {}, is {}", kind(before), kind(after))),
        (ChangeKind::Time, ..) => return Some("only the time".into()),
        (ChangeKind::Attributes, Some(before), Some(after))
            if before.meta.mode != after.meta.mode =>
        {
            return Some(format!("mode {:04o} -> {:04o}", before.meta.mode, after.meta.mode));
        }
        (ChangeKind::Attributes, ..) => return Some("owner or extended attributes".into()),
        _ => {}
    }
    let entry = change.entry();
    match (entry.left_out, entry.kind) {
        (Some(why), _) => Some(format!("{}, {}", kind_name(entry.kind), why.as_str())),
        (None, Kind::File | Kind::Symlink) => None,
        (None, kind) => Some(kind_name(kind).into()),
    }
}

fn content_in_words(diff: &ContentDiff) -> String {
    let length = |side: &Option<(u64, agentrec_trace::ObjectId)>| {
        side.as_ref().map_or("nothing".to_owned(), |(len, _)| size(*len))
    };
    let target = |side: &Option<Vec<u8>>| {
        side.as_ref().map_or("nothing".to_owned(), |target| printable_line(target))
    };
    match diff {
        ContentDiff::Text(_) => {
            let (added, removed) = diff.line_counts();
            format!("+{added} -{removed}")
        }
        ContentDiff::Binary { before, after } => {
            let hash = |side: &Option<(u64, agentrec_trace::ObjectId)>| {
                side.as_ref().map_or(String::new(), |(_, id)| format!(" {}", &id.to_string()[..12]))
            };
            let (old, new) = (hash(before), hash(after));
            format!("binary: {}{old} -> {}{new}", length(before), length(after))
        }
        ContentDiff::Link { before, after } => {
            format!("link: {} -> {}", target(before), target(after))
        }
        ContentDiff::Secret => "a secret file, not shown".into(),
        ContentDiff::NotHere => {
            "its content is neither in the trace nor in this machine's store".into()
        }
        ContentDiff::Same => "same content".into(),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Dir => "a directory",
        Kind::Symlink => "a link",
        Kind::Fifo => "a FIFO",
        Kind::Socket => "a socket",
        Kind::Char | Kind::Block => "a device",
    }
}

/// A change as an object.
pub fn to_json(root: &[u8], change: &Change) -> serde_json::Value {
    let entry = |entry: &Entry| {
        json!({
            "type": kind_name(entry.kind).rsplit(' ').next(),
            "mode": entry.meta.mode,
            "size": entry.size,
            "object": entry.id.map(|id| id.to_string()),
            "secret": entry.secret,
            "left_out": entry.left_out.map(agentrec_store::LeftOut::as_str),
        })
    };
    json!({
        "kind": "difference",
        "change": match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Deleted => "deleted",
            ChangeKind::Type => "type",
            ChangeKind::Content => "content",
            ChangeKind::Attributes => "attributes",
            ChangeKind::Time => "time",
            ChangeKind::Unknown => "unknown",
        },
        "root": json::bytes(root),
        "path": json::bytes(change.path.as_os_str().as_bytes()),
        "before": change.before.as_ref().map(entry),
        "after": change.after.as_ref().map(entry),
    })
}

#[cfg(test)]
mod tests {
    use agentrec_replay::Line;

    use super::*;
    use crate::output::ColorChoice;

    #[test]
    fn hunks_look_like_those_of_diff() {
        let line = |side, text: &[u8], no_newline| Line { side, text: text.to_vec(), no_newline };
        let hunk = Hunk {
            before: (1, 2),
            after: (1, 1),
            lines: vec![line(Side::Both, b"a\tb", false), line(Side::Before, b"\x1b[2J", true)],
        };
        let mut out = Vec::new();
        write_hunk(&mut out, Paint::new(ColorChoice::Never, false), &hunk)
            .expect("a Vec takes every write");
        let expected = "@@ -1,2 +1 @@\n a\tb\n-\\u{1b}[2J\n\\ No newline at end of file\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
