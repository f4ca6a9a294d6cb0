//! A section of the report: a heading, and rows whose columns are as wide as what stands in them.

use std::io::{self, Write};

use agentrec_trace::Seq;

use crate::audit::{Item, Part};
use crate::output::{Output, Style, count, fit, width};

/// A row.
pub(super) struct Row {
    /// Where to look it up.
    pub first: Seq,
    /// What it is about.
    pub subject: String,
    /// How that is shown.
    pub style: Style,
    /// What was done.
    pub what: String,
    /// How much.
    pub size: String,
    /// How often.
    pub times: u64,
    /// Who did it first, and how many others.
    pub who: Doers,
}

/// Who did it first, and how many others did it too.
#[derive(Clone, Default)]
pub(super) struct Doers {
    pub first: String,
    pub others: u64,
}

impl Doers {
    /// Of one subject.
    pub fn of<S>(item: &Item<S>) -> Self {
        let first = item.by.iter().min_by_key(|(_, part)| part.first);
        let first = first.map_or(String::new(), |(proc, part)| named(proc.0, part));
        Self { first, others: item.by.len().saturating_sub(1) as u64 }
    }

    fn fit(&self, columns: usize) -> String {
        let others = match self.others {
            0 => String::new(),
            others => format!(", +{}", count(others)),
        };
        fit(&self.first, columns.saturating_sub(width(&others))) + &others
    }
}

/// `p7 git clone …`
pub(super) fn named(proc: u32, part: &Part) -> String {
    match proc {
        0 => String::new(),
        proc => format!("p{proc} {}", part.command),
    }
}

/// A section with its rows.
#[derive(Default)]
pub(super) struct Section {
    /// What it is about.
    pub title: &'static str,
    /// Behind the title.
    pub note: String,
    /// What stands there instead of rows.
    pub none: &'static str,
    /// The rows, the most important first.
    pub rows: Vec<Row>,
    /// Lines that follow.
    pub after: Vec<String>,
    /// Subjects are sentences, which mean little when they are cut.
    pub sentences: bool,
}

/// Columns of a subject, and of who did it: more is cut, unless everything is to be shown.
const SUBJECT: usize = 64;
const SENTENCE: usize = 100;
const WHO: usize = 60;
const WHO_LEAST: usize = 16;

impl Section {
    /// Writes it with at most `limit` rows.
    pub fn write(&self, out: &mut Output, limit: usize) -> io::Result<()> {
        let paint = out.paint;
        let note =
            if self.rows.is_empty() && self.note.is_empty() { self.none } else { &self.note };
        let gap = if note.is_empty() { "" } else { "  " };
        writeln!(out, "{}{gap}{}", paint.strong(self.title), paint.dim(note))?;
        let shown = &self.rows[..self.rows.len().min(limit)];
        let all = limit == usize::MAX;
        let widest = |cell: fn(&Row) -> usize| shown.iter().map(cell).max().unwrap_or(0);
        let first = widest(|row| width(&row.first.to_string())).max(5);
        let what = widest(|row| width(&row.what));
        let size = widest(|row| width(&row.size));
        let times = widest(|row| width(&often(row.times)));
        // Two columns stand before each that is not empty.
        let fixed: usize =
            [first, what, size, times].iter().filter(|w| **w > 0).map(|w| w + 2).sum();
        let room = out.columns.saturating_sub(fixed + 2);
        let most = match (all, self.sentences) {
            (true, _) => usize::MAX,
            (_, true) => SENTENCE.min(room.saturating_sub(WHO_LEAST)),
            (_, false) => SUBJECT.min(room * 3 / 5),
        };
        let subject = widest(|row| width(&row.subject)).min(most.max(12));
        let left = out.columns.saturating_sub(fixed + subject + 4);
        let who = if all { left } else { left.min(WHO) };
        for row in shown {
            let text = fit_end(&row.subject, subject);
            let pad = subject - width(&text);
            let mut line = format!(
                "  {}  {}{:pad$}",
                paint.address(format_args!("{:<first$}", row.first.to_string())),
                paint.apply(row.style, text),
                ""
            );
            if what > 0 {
                line += &format!("  {:<what$}", row.what);
            }
            if size > 0 {
                line += &format!("  {:>size$}", row.size);
            }
            if times > 0 {
                line += &format!("  {:>times$}", often(row.times));
            }
            line += &format!("  {}", row.who.fit(who));
            writeln!(out, "{}", line.trim_end())?;
        }
        let more = self.rows.len() - shown.len();
        if more > 0 {
            let line = format!("… and {} more (--all)", count(more as u64));
            writeln!(out, "  {}", paint.dim(line))?;
        }
        for line in &self.after {
            writeln!(out, "  {}", paint.dim(line))?;
        }
        writeln!(out)
    }
}

/// `3×`; nothing for once.
fn often(times: u64) -> String {
    if times > 1 { format!("{}×", count(times)) } else { String::new() }
}

/// At most `columns` columns of `text`; what was cut stood at its beginning, since a path's name is at its end.
fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns || !text.contains('/') || text.contains(' ') {
        return fit(text, columns);
    }
    let mut from = text.len();
    for (at, _) in text.char_indices().rev() {
        if width(&text[at..]) + 1 > columns {
            break;
        }
        from = at;
    }
    format!("…{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_their_ends() {
        assert_eq!(fit_end("/a/b/c", 6), "/a/b/c");
        assert_eq!(fit_end("/a/long/name", 6), "…/name");
        assert_eq!(fit_end("/日本/語", 5), "…/語");
        assert_eq!(fit_end("in words/x", 5), "in w…");
    }
}
