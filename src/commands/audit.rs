//! `agentrec audit`: the report an auditor wants of a session, and rules that it is held against.

use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use agentrec_trace::{Data, Seq, Status};
use anyhow::Result;

use crate::address::Address;
use crate::audit::{Audit, Place, Rules, WorkingTree};
use crate::baseline::Baseline;
use crate::digest::{Digest, Loss};
use crate::exit::Exit;
use crate::output::{Output, is_reader_gone};
use crate::session::{self, Context, Opened};
use crate::view::{Report, header, json};

/// What a user has to know of rules. Lines are short, since manual pages break long ones.
const RULES: &str = r#"Exit codes: 0 no rule was broken (or none given), 1 a rule was broken, 2 trouble.

A rules file is TOML: lists of patterns under deny, exceptions under allow.

  [deny]
  read = ["~/.ssh/**", "*.pem"]      # no slash: a name anywhere
  write = ["/etc/**", ".git/**"]     # relative to the session
  exec = ["sudo", "/opt/**"]
  connect = ["*:22", "10.0.0.0/8"]   # or names, unix:/path
  secrets = true                     # none may be read
  lost = true                        # all must have been seen

  [allow]
  connect = ["10.0.0.1:443"]

What could not be opened or executed breaks no rule; a connection that failed does."#;

/// Arguments of `agentrec audit`.
#[derive(clap::Args)]
#[command(after_long_help = RULES)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// Hold the session against the rules of this TOML file; exit with 1 where one was broken
    #[arg(long, short, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Cut and fold nothing, system files included
    #[arg(long, short)]
    all: bool,
}

/// Events in which the first snapshot is looked for.
const SNAPSHOT_WITHIN: u64 = 100_000;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?.whole()?;
    let mut digest = beginning(&opened)?;
    let home = home_of(&digest);
    let place = Place {
        cwd: PathBuf::from(std::ffi::OsStr::from_bytes(digest.cwd())),
        home: home.clone().map(|home| std::ffi::OsString::from_vec(home).into()),
    };
    let rules = args.rules.as_deref().map(|file| Rules::read(file, &place)).transpose()?;
    let nothing_denied = Rules::default();
    let store = session::store();
    let baseline = Baseline::new(&opened.reader, store.as_ref(), &digest);
    let session = digest.start.as_ref().map_or(String::new(), |start| start.session.to_string());
    // Nothing would lie outside of the root directory, where daemons work.
    let (whole, roots): (Vec<_>, Vec<_>) =
        digest.roots().into_iter().partition(|root| root.as_slice() == b"/");
    let tree = WorkingTree {
        roots,
        is_secret: &|path| baseline.is_secret(path),
        link: &|path| baseline.link(path),
    };
    let mut audit = Audit::new(rules.as_ref().unwrap_or(&nothing_denied), tree, &session);
    let damaged = session::each_event(&opened.reader, |event| {
        audit.add(event);
        digest.last_ts = digest.last_ts.max(event.ts);
        if let Data::SessionStop(_) = &event.data {
            digest.add(event);
        }
    })?;
    // What belongs to no event stands with the last one.
    let last = Seq(opened.reader.len().max(1));
    let cut = match opened.reader.status() {
        Status::Complete(_) if damaged > 0 => {
            Some("a part of the trace is damaged: see verify".into())
        }
        Status::Complete(_) => None,
        Status::Recording => Some("the session is still being recorded".into()),
        Status::Incomplete { reason, .. } => Some(format!("the trace has no end: {reason}")),
    };
    audit.finish(last, cut);
    count_losses(&mut digest, &audit, last);

    let cwd = digest.cwd().to_vec();
    let report = Report {
        audit: &audit,
        rules: rules.as_ref().map(|rules| rules.file.as_str()),
        cwd: &cwd,
        homes: home
            .into_iter()
            .chain(std::env::var_os("HOME").map(OsStringExt::into_vec))
            .collect(),
        everything: !whole.is_empty(),
        all: args.all,
    };
    match print(&report, &opened, &digest, context) {
        // Who reads only the first lines is told all the same whether a rule was broken.
        Err(error) if !is_reader_gone(&error) => return Err(error),
        _ => {}
    }
    Ok(if audit.violations.is_empty() { Exit::OK } else { Exit::VIOLATED })
}

fn print(report: &Report<'_>, opened: &Opened, digest: &Digest, context: Context) -> Result<()> {
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        out.json_line(&json::session(&opened.name, &opened.path, &opened.reader, digest))?;
        report.write_json(&mut out)?;
    } else {
        header(&mut out, &opened.name, &opened.reader, digest)?;
        writeln!(out)?;
        report.write(&mut out)?;
    }
    out.finish()?;
    Ok(())
}

/// The session's start and its first snapshot.
fn beginning(opened: &Opened) -> Result<Digest> {
    let mut digest = Digest::default();
    let mut cursor = opened.reader.cursor(Seq(1))?;
    // What is damaged is said when everything is read.
    while let Ok(Some(event)) = cursor.next() {
        if matches!(event.data, Data::SessionStart(_) | Data::SnapshotCreated(_)) {
            digest.add(&event);
        }
        if !digest.snapshots.is_empty() || event.seq.0 > SNAPSHOT_WITHIN {
            break;
        }
    }
    Ok(digest)
}

/// The home directory of the session's user.
fn home_of(digest: &Digest) -> Option<Vec<u8>> {
    let env = &digest.start.as_ref()?.env;
    let home = env.iter().find(|(name, _)| name.as_slice() == b"HOME")?.1.to_vec();
    home.starts_with(b"/").then_some(home)
}

/// The header says how much was lost in all.
fn count_losses(digest: &mut Digest, audit: &Audit<'_>, last: Seq) {
    if audit.lost > 0 {
        let lost = agentrec_trace::event::Lost { count: Some(audit.lost), ..Default::default() };
        digest.lost.push(Loss { seq: last, ts: digest.last_ts, proc: None, lost });
    }
}
