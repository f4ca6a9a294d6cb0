//! A pager in front of the terminal: `$PAGER`, or `less -FRX`.

use std::env;
use std::io::{self, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};

/// A running pager.
pub struct Pager {
    child: Child,
    stdin: Option<BufWriter<ChildStdin>>,
}

impl Pager {
    /// Starts the user's pager; none where the user wants none or it can't be started.
    pub fn start() -> Option<Self> {
        let wanted = env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
        if wanted.is_empty() || wanted == "cat" {
            return None;
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(&wanted).stdin(Stdio::piped());
        if env::var_os("LESS").is_none() {
            // Leave at once when all fits, pass colours on, leave the screen as it is.
            command.env("LESS", "FRX");
        }
        let mut child = command.spawn().ok()?;
        // Ctrl-C belongs to the pager now: less stops a search with it. Were we to die of it, the shell
        // would prompt while the pager still owns the terminal.
        let mut interrupt = SigSet::empty();
        interrupt.add(Signal::SIGINT);
        interrupt.thread_block().ok()?;
        let stdin = child.stdin.take().map(BufWriter::new);
        Some(Self { child, stdin })
    }

    /// Ends the pager's input and waits until the user leaves it.
    pub fn wait(mut self) -> io::Result<()> {
        self.close();
        self.child.wait().map(drop)
    }

    fn close(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // The user may have left the pager before the end.
            let _ = stdin.flush();
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.close();
        let _ = self.child.wait();
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin
            .as_mut()
            .map_or(Err(io::ErrorKind::BrokenPipe.into()), |stdin| stdin.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}
