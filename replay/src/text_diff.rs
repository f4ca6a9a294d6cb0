//! What changed inside a file, line by line where it is text, as data: printing it is the command's work.

use std::time::Duration;

use agentrec_store::{Change, Entry, Kind, Objects};
use agentrec_trace::ObjectId;
use similar::{Algorithm, ChangeTag, DiffTag, TextDiff};

use crate::error::Result;

/// Longer contents are not compared line by line, bytes.
const MAX_TEXT: u64 = 4 << 20;

/// A comparison that takes longer than this comes out coarser, never wrong.
const DEADLINE: Duration = Duration::from_secs(2);

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// How two contents differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentDiff {
    /// Both are text (or one of them, where the other is not there).
    Text(Vec<Hunk>),
    /// At least one of them is not, or is too long.
    Binary {
        /// Length in bytes and address of the old content.
        before: Option<(u64, ObjectId)>,
        /// Length in bytes and address of the new content.
        after: Option<(u64, ObjectId)>,
    },
    /// Where a link points, before and after.
    Link {
        /// Before.
        before: Option<Vec<u8>>,
        /// After.
        after: Option<Vec<u8>>,
    },
    /// The file holds secrets: that it changed is all that is said.
    Secret,
    /// A content is neither in the trace nor in this machine's store.
    NotHere,
    /// No content differs.
    Same,
}

/// A run of changed lines with their neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// First line in the old file, from 1 (0 where it has none here), and how many.
    pub before: (usize, usize),
    /// First line in the new file, from 1 (0 where it has none here), and how many.
    pub after: (usize, usize),
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether it is in the old file, in the new one, or in both.
    pub side: Side,
    /// The line without its end.
    pub text: Vec<u8>,
    /// It is the last line and has no newline.
    pub no_newline: bool,
}

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the old file only.
    Before,
    /// In the new file only.
    After,
    /// In both.
    Both,
}

impl ContentDiff {
    /// Added and deleted lines.
    pub fn line_counts(&self) -> (usize, usize) {
        let Self::Text(hunks) = self else { return (0, 0) };
        let count = |side| {
            hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.side == side).count()
        };
        (count(Side::After), count(Side::Before))
    }
}

/// Compares the contents of a change.
pub fn content_diff(objects: &dyn Objects, change: &Change) -> Result<ContentDiff> {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    if [before, after].into_iter().flatten().any(|entry| entry.secret) {
        return Ok(ContentDiff::Secret);
    }
    let target = |entry: Option<&Entry>| {
        entry.and_then(|entry| entry.target.as_ref()).map(|target| target.to_vec())
    };
    let (link_before, link_after) = (target(before), target(after));
    if link_before.is_some() || link_after.is_some() {
        return Ok(ContentDiff::Link { before: link_before, after: link_after });
    }
    let file = |entry: Option<&Entry>| {
        entry
            .filter(|entry| entry.kind == Kind::File)
            .and_then(|entry| Some((entry.size, entry.id?)))
    };
    let (before, after) = (file(before), file(after));
    if before.map(|(_, id)| id) == after.map(|(_, id)| id) {
        return Ok(ContentDiff::Same);
    }
    let binary = ContentDiff::Binary { before, after };
    if [before, after].into_iter().flatten().any(|(size, _)| size > MAX_TEXT) {
        return Ok(binary);
    }
    let mut contents = [Vec::new(), Vec::new()];
    for (content, file) in contents.iter_mut().zip([before, after]) {
        let Some((_, id)) = file else { continue };
        match objects.get(&id)? {
            Some(bytes) => *content = bytes,
            None => return Ok(ContentDiff::NotHere),
        }
    }
    let [before, after] = contents;
    Ok(if is_text(&before) && is_text(&after) { text_diff(&before, &after) } else { binary })
}

/// The lines of the last of several versions of a file, without their ends, and for each the version that it came with.
pub fn line_origins(versions: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<usize>) {
    let lines = |content: &[u8]| -> Vec<Vec<u8>> {
        let all = content.split_inclusive(|&b| b == b'\n');
        all.map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect()
    };
    let Some((first, later)) = versions.split_first() else { return (Vec::new(), Vec::new()) };
    let mut origins = vec![0; lines(first).len()];
    let mut before = *first;
    for (at, after) in later.iter().enumerate() {
        let diff = TextDiff::configure()
            .algorithm(Algorithm::Myers)
            .timeout(DEADLINE)
            .diff_lines(before, *after);
        let mut next = Vec::new();
        for op in diff.ops() {
            if op.tag() == DiffTag::Equal {
                next.extend(
                    op.old_range().map(|line| origins.get(line).copied().unwrap_or(at + 1)),
                );
            } else {
                next.extend(op.new_range().map(|_| at + 1));
            }
        }
        (origins, before) = (next, *after);
    }
    let lines = lines(before);
    origins.resize(lines.len(), versions.len() - 1);
    (lines, origins)
}

/// As git judges, no NUL byte near the start; nor, in what is not UTF-8, other control characters: a short compressed file has
/// no NUL byte either.
fn is_text(content: &[u8]) -> bool {
    let start = &content[..content.len().min(8000)];
    let whole = match std::str::from_utf8(start) {
        Ok(_) => true,
        // Only the cut went through a character.
        Err(error) => error.error_len().is_none() && start.len() < content.len(),
    };
    let control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\r\x08\x0c\x1b".contains(byte);
    !start.contains(&0) && (whole || !start.iter().any(control))
}

fn text_diff(before: &[u8], after: &[u8]) -> ContentDiff {
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(DEADLINE)
        .diff_lines(before, after);
    let hunks = diff
        .grouped_ops(CONTEXT)
        .iter()
        .map(|group| {
            let lines = group.iter().flat_map(|op| diff.iter_changes(op)).map(|change| {
                let text = change.value();
                Line {
                    side: match change.tag() {
                        ChangeTag::Delete => Side::Before,
                        ChangeTag::Insert => Side::After,
                        ChangeTag::Equal => Side::Both,
                    },
                    text: text.strip_suffix(b"\n").unwrap_or(text).to_vec(),
                    no_newline: !text.ends_with(b"\n"),
                }
            });
            let range = |start: usize, end: usize| {
                let len = end - start;
                (if len == 0 { start } else { start + 1 }, len)
            };
            let (first, last) = (&group[0], &group[group.len() - 1]);
            Hunk {
                before: range(first.old_range().start, last.old_range().end),
                after: range(first.new_range().start, last.new_range().end),
                lines: lines.collect(),
            }
        })
        .collect();
    ContentDiff::Text(hunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_what_only_lacks_zeros() {
        for text in
            [&b"plain\ttext\n"[..], "gr\u{fc}n \u{1}".as_bytes(), b"latin-1 gr\xfcn\r\n", b""]
        {
            assert!(is_text(text), "{text:?}");
        }
        let long = "\u{e4}\u{1}".repeat(4000);
        assert!(is_text(long.as_bytes()), "the cut goes through a character");
        for binary in [&b"a\0b"[..], b"\x1f\x8b\x08\x01\xff\xd4", b"\xa4`\x1c\t\xd4"] {
            assert!(!is_text(binary), "{binary:?}");
        }
    }

    #[test]
    fn hunks_are_numbered_as_diff_does() {
        let before: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let after = before.replace("10\n", "ten\n") + "21";
        let ContentDiff::Text(hunks) = text_diff(before.as_bytes(), after.as_bytes()) else {
            panic!("both are text");
        };
        let ranges: Vec<_> = hunks.iter().map(|hunk| (hunk.before, hunk.after)).collect();
        assert_eq!(ranges, [((7, 7), (7, 7)), ((18, 3), (18, 4))]);
        let last = hunks[1].lines.last().unwrap();
        assert_eq!(
            (last.side, last.text.as_slice(), last.no_newline),
            (Side::After, &b"21"[..], true)
        );
        assert_eq!(ContentDiff::Text(hunks).line_counts(), (2, 1));
    }

    #[test]
    fn a_new_file_begins_at_line_zero_of_the_old_one() {
        let ContentDiff::Text(hunks) = text_diff(b"", b"a\n") else { panic!("both are text") };
        assert_eq!((hunks[0].before, hunks[0].after), ((0, 0), (1, 1)));
    }
}
