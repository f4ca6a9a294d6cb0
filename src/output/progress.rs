//! A progress bar on standard error for what takes over a second; nothing where that is not a terminal.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentrec_store::ProgressFn;
use indicatif::{ProgressBar, ProgressStyle};

/// Shows itself once a second has passed.
pub struct Progress {
    what: &'static str,
    total: u64,
    started: Instant,
    bar: Option<ProgressBar>,
    enabled: bool,
}

/// Work that is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// For `total` units of work (0 where that is not known), called `what`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let enabled = io::stderr().is_terminal();
        Self { what, total, started: Instant::now(), bar: None, enabled }
    }

    /// So much is done.
    pub fn set(&mut self, done: u64) {
        if !self.enabled {
            return;
        }
        if self.bar.is_none() && self.started.elapsed() >= PATIENCE {
            self.bar = Some(self.draw());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn draw(&self) -> ProgressBar {
        let (bar, template) = match self.total {
            0 => (ProgressBar::new_spinner(), "{msg} {spinner} {human_pos}"),
            total => (ProgressBar::new(total), "{msg} [{bar:30}] {percent}% {eta}"),
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(self.what);
        bar
    }
}

/// Shows how many files are done, to those who report from any thread; the bar goes when the last of them is gone.
pub fn of_files(what: &'static str) -> ProgressFn {
    let progress = Mutex::new(Progress::new(what, 0));
    ProgressFn(Arc::new(move |files, _bytes| {
        progress.lock().unwrap_or_else(PoisonError::into_inner).set(files);
    }))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
