//! Small phrases that several views share.

use agentrec_trace::event::Certainty;
use agentrec_trace::{ProcId, Seq};
use nix::sys::signal::Signal;

use crate::digest::{Attribution, Call, Digest, Exit, Net, Peer};
use crate::output::{Paint, Style, fit, home_relative, printable_line};

/// `exit 1`, `SIGKILL`; coloured by whether it is a failure. Padded to `columns`.
pub fn exit_text(paint: Paint, code: Option<i32>, signal: Option<i32>, columns: usize) -> String {
    let (text, style) = match (code, signal) {
        (Some(0), None) => ("exit 0".to_owned(), Style::Dim),
        (Some(code), None) => (format!("exit {code}"), Style::Bad),
        (_, Some(signal)) => (signal_name(signal), Style::Bad),
        (None, None) => (String::new(), Style::Dim),
    };
    format!("{:<columns$}", paint.apply(style, text))
}

/// How a process ended, as [`exit_text`] says it.
pub fn process_exit(paint: Paint, exit: Option<Exit>, columns: usize) -> String {
    exit_text(paint, exit.and_then(|exit| exit.code), exit.and_then(|exit| exit.signal), columns)
}

/// `SIGKILL`, or `signal 35` where it has no name.
fn signal_name(signal: i32) -> String {
    Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

/// The other end of a connection.
pub fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Unix(path) if path.is_empty() => "unix".to_owned(),
        Peer::Unix(path) if !path.starts_with(b"\0") => home_relative(path),
        other => printable_line(other.to_string().as_bytes()),
    }
}

/// `recorded` or `inferred`.
pub fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Recorded => "recorded",
        Certainty::Inferred => "inferred",
    }
}

/// `recorded`, or `inferred, ambiguous` where several calls may stand behind it.
pub fn how_sure(found: &Attribution<'_>) -> String {
    match found.calls.len() {
        1 => certainty(found.certainty).to_owned(),
        _ => format!("{}, ambiguous", certainty(found.certainty)),
    }
}

/// `t5` for the first call of a turn, `t5.2` for its second; the event of one that belongs to no turn.
pub fn call_address(digest: &Digest, call: Seq) -> String {
    match digest.turns.of_call(call) {
        Some((turn, 0)) => turn.label.to_string(),
        Some((turn, n)) => format!("{}.{}", turn.label, n + 1),
        None => call.to_string(),
    }
}

/// Who did something, and for which tool call: `sh 4180 <- t5 Bash`, `p7 <- t5 a or t5.2 b (inferred, ambiguous)`.
pub fn by(digest: &Digest, proc: ProcId, seq: Seq, ts: u64) -> String {
    let argv = digest.processes.argv_at(proc, ts);
    let program = argv.first().map(|name| name.rsplit(|&b| b == b'/').next().unwrap_or(name));
    let program = match program {
        Some(name) => fit(&printable_line(name), 24),
        None => proc.to_string(),
    };
    let pid = digest.processes.get(proc).map_or(0, |process| process.pid);
    let mut text = format!("{program} {pid}");
    let Some(found) = digest.attribute(proc, seq, ts) else { return text };
    let calls = found.calls.iter().map(|call| {
        let name = printable_line(call.name.as_bytes());
        format!("{} {name}", call_address(digest, call.seq))
    });
    text.push_str(&format!(" <- {}", calls.collect::<Vec<_>>().join(" or ")));
    if found.calls.len() > 1 {
        text.push_str(" (ambiguous)");
    }
    text
}

/// How a change is coloured.
pub fn net_style(net: Net) -> Style {
    match net {
        Net::Added => Style::Good,
        Net::Modified => Style::Warn,
        Net::Deleted => Style::Bad,
    }
}

/// Which MCP server carries a call out: ` (sums)`.
pub fn server(call: &Call) -> String {
    server_name(call.server.as_deref())
}

/// The same by its name, which may be empty.
pub fn server_name(name: Option<&str>) -> String {
    match name {
        None => String::new(),
        Some("") => " (MCP)".to_owned(),
        Some(name) => format!(" ({})", printable_line(name.as_bytes())),
    }
}
