//! Where results go: standard output or a pager, with or without colour; and the shared forms of what is printed.

mod format;
pub mod json;
mod pager;
mod progress;
mod style;
mod text;

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};

use clap::ValueEnum;

pub use format::{count, duration, offset, plural, size, wall};
pub use progress::{Progress, of_files};
pub use style::{Paint, Style};
pub use text::{command_line, fit, home_relative, printable, printable_line, relative, width};

use pager::Pager;

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the user wants results, for every command alike.
#[derive(Clone, Copy, Debug)]
pub struct Preferences {
    /// When to colour.
    pub color: ColorChoice,
    /// One JSON object per line instead of text.
    pub json: bool,
    /// A pager may be started.
    pub pager: bool,
}

/// Standard output, or the pager in front of it.
pub struct Output {
    sink: Sink,
    /// Colours what goes there.
    pub paint: Paint,
    /// Whether results are objects for machines.
    pub json: bool,
    /// Columns of the terminal; a generous number where there is none.
    pub columns: usize,
}

enum Sink {
    Stdout(BufWriter<io::Stdout>),
    Pager(Pager),
}

/// Columns where the output is not a terminal: nothing is cut there but what is absurdly long.
const UNLIMITED: usize = 10_000;

impl Output {
    /// Standard output itself.
    pub fn new(preferences: Preferences) -> Self {
        let columns = if io::stdout().is_terminal() {
            terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
        } else {
            UNLIMITED
        };
        Self {
            sink: Sink::Stdout(BufWriter::new(io::stdout())),
            paint: Paint::new(preferences.color, io::stdout().is_terminal()),
            json: preferences.json,
            columns,
        }
    }

    /// A pager where standard output is a terminal and the result is text.
    pub fn paged(preferences: Preferences) -> Self {
        let mut output = Self::new(preferences);
        if preferences.pager
            && !preferences.json
            && io::stdout().is_terminal()
            && let Some(pager) = Pager::start()
        {
            output.sink = Sink::Pager(pager);
        }
        output
    }

    /// Writes what is buffered and waits for the pager to be left.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self.sink {
            Sink::Stdout(_) => Ok(()),
            Sink::Pager(pager) => pager.wait(),
        }
    }

    /// One JSON object on a line of its own.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        let line = serde_json::to_vec(value).map_err(io::Error::other)?;
        self.write_all(&line)?;
        self.write_all(b"\n")
    }
}

/// The reader of our output went away, as `head` does. Not an error.
#[derive(Debug)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output is gone")
    }
}

impl std::error::Error for ReaderGone {}

/// Whether `error` says that nobody reads our output any more.
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

fn mark_reader_gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write(bytes),
            Sink::Pager(pager) => pager.write(bytes),
        }
        .map_err(mark_reader_gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::Pager(pager) => pager.flush(),
        }
        .map_err(mark_reader_gone)
    }
}
