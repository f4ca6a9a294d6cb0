//! Undo and redo for the commands: which acts are meant, what can't be taken back, and how a plan is shown.

mod acts;
mod outward;
pub mod reversal;
mod show;

use std::io::Write as _;

use agentrec_replay::undo::{Plan, Settle};
use anyhow::Result;

use crate::exit::Exit;
use crate::output::Output;

pub use acts::{Acts, Collected, meant};
pub use outward::outward;
pub use show::{Shown, confirmed, say_done};

/// What undo and redo are asked alike.
#[derive(clap::Args)]
pub struct Asked {
    /// Only what matches; relative to the tree, or absolute
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// In conflicts, leave what is there now
    #[arg(long, group = "conflicts")]
    mine: bool,
    /// In conflicts, bring back what was there before; what is there now is saved
    #[arg(long, group = "conflicts")]
    theirs: bool,
    /// In conflicts, merge where both sides changed different lines
    #[arg(long, group = "conflicts")]
    merge: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

impl Asked {
    /// How conflicts are settled.
    pub fn settle(&self) -> Settle {
        match (self.theirs, self.merge) {
            (true, _) => Settle::Theirs,
            (_, true) => Settle::Merge,
            _ => Settle::Mine,
        }
    }
}

/// Shows a plan, and asks. Returns how it leaves things, and the status to end with where it is not to be carried out.
pub fn propose(
    out: &mut Output,
    shown: &Shown<'_, '_>,
    asked: &Asked,
    nothing: &str,
) -> Result<(Settled, Option<Exit>)> {
    shown.write(out)?;
    let settled = Settled::of(shown.plan, asked);
    out.flush()?;
    if shown.plan.is_empty() {
        eprintln!("agentrec: {nothing}");
        let exit = settled.exit();
        return Ok((settled, Some(exit)));
    }
    eprintln!("agentrec: {}", shown.summary());
    let stop = if asked.dry_run {
        Some(settled.exit())
    } else if asked.yes || confirmed("Go on?")? {
        None
    } else {
        eprintln!("agentrec: nothing was changed");
        Some(Exit::FAILURE)
    };
    Ok((settled, stop))
}

/// Whether a plan leaves nothing open.
pub struct Settled(bool);

impl Settled {
    /// Of a plan; says how conflicts can be settled.
    pub fn of(plan: &Plan<'_>, asked: &Asked) -> Self {
        let left = !plan.conflicts.is_empty() && !asked.mine;
        if left {
            let hint = if asked.merge {
                "what can't be merged stays as it is; --theirs takes the state before, --only names some"
            } else {
                "conflicts stay as they are; --theirs takes the state before, --merge both, --mine says that this is right"
            };
            eprintln!("hint: {hint}");
        }
        Self(!left && plan.unable.is_empty())
    }

    /// The status for that.
    pub fn exit(&self) -> Exit {
        if self.0 { Exit::OK } else { Exit::FAILURE }
    }
}
