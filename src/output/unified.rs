//! Unified diffs of file contents, with colour.

use std::io::{self, Write};

use similar::{ChangeTag, TextDiff};

use super::{Paint, Style, printable_line, size};

/// One side of a comparison.
pub struct Side<'a> {
    /// Label, such as `a/src/db.py`; `/dev/null` where the file does not exist on this side.
    pub label: String,
    /// The content.
    pub content: &'a [u8],
}

/// Lines around a change.
const CONTEXT: usize = 3;
/// Contents longer than this are compared but not printed: nobody reads such a diff.
const MAX_BYTES: usize = 16 << 20;

/// Writes what differs; binary contents are only named.
pub fn unified(out: &mut impl Write, paint: Paint, old: &Side<'_>, new: &Side<'_>) -> io::Result<()> {
    writeln!(out, "{}", paint.strong(format_args!("--- {}", old.label)))?;
    writeln!(out, "{}", paint.strong(format_args!("+++ {}", new.label)))?;
    if is_binary(old.content) || is_binary(new.content) {
        return writeln!(
            out,
            "binary files differ: {}, {}",
            size(old.content.len() as u64),
            size(new.content.len() as u64)
        );
    }
    if old.content.len().max(new.content.len()) > MAX_BYTES {
        return writeln!(
            out,
            "too large to print: {}, {}",
            size(old.content.len() as u64),
            size(new.content.len() as u64)
        );
    }
    let diff = TextDiff::from_lines(old.content, new.content);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        writeln!(out, "{}", paint.address(hunk.header()))?;
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Equal => (' ', None),
                ChangeTag::Delete => ('-', Some(Style::Bad)),
                ChangeTag::Insert => ('+', Some(Style::Good)),
            };
            let line = change.value();
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = tabs_kept(text);
            match style {
                Some(style) => writeln!(out, "{}", paint.apply(style, format_args!("{sign}{text}")))?,
                None => writeln!(out, "{sign}{text}")?,
            }
            if change.missing_newline() {
                writeln!(out, "\\ No newline at end of file")?;
            }
        }
    }
    Ok(())
}

/// As git does: a NUL byte in the first 8,000 means binary.
fn is_binary(content: &[u8]) -> bool {
    content.iter().take(8000).any(|&b| b == 0)
}

fn tabs_kept(line: &[u8]) -> String {
    line.split(|&b| b == b'\t').map(printable_line).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ColorChoice;

    fn diff(old: &[u8], new: &[u8]) -> String {
        let mut out = Vec::new();
        let side = |label: &str, content| Side { label: label.to_owned(), content };
        let paint = Paint::new(ColorChoice::Never, false);
        let Ok(()) = unified(&mut out, paint, &side("a/f", old), &side("b/f", new)) else {
            panic!("a Vec takes every write")
        };
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn lines_and_missing_newlines() {
        assert_eq!(
            diff(b"one\ntwo\n", b"one\n2\tx"),
            "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+2\tx\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn escape_sequences_stay_text() {
        assert!(diff(b"", b"\x1b[2J\n").contains("+\\u{1b}[2J"));
    }

    #[test]
    fn binary_is_only_named() {
        assert!(diff(b"\0", b"a").ends_with("binary files differ: 1 B, 1 B\n"));
    }
}
