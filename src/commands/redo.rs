//! `agentrec redo`: takes an undo back.

use agentrec_store::OperationKind;
use anyhow::{Result, anyhow};

use crate::error::with_hint;
use crate::exit::Exit;
use crate::session::{self, Context};
use crate::undo::{Asked, reversal};

/// Arguments of `agentrec redo`.
#[derive(clap::Args)]
pub struct Args {
    /// The undo, as `agentrec ops` numbers it: o3 (default: this directory's last that was not taken back)
    what: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let home = session::home()?;
    let all = reversal::operations(&home)?;
    let logged = match &args.what {
        Some(what) => {
            let id = reversal::number(what).ok_or_else(|| {
                with_hint(
                    anyhow!("cannot redo {what}: it is no operation"),
                    "they are named o1, o2, …: agentrec ops",
                )
            })?;
            reversal::named(all, id)?
        }
        None => {
            let here = reversal::here()?;
            let wanted = all.iter().rfind(|logged| {
                logged.operation.kind == OperationKind::Undo
                    && reversal::is_here(logged, &here)
                    && reversal::stands(&all, logged.id)
            });
            wanted.cloned().ok_or_else(|| {
                with_hint(
                    anyhow!("cannot redo: nothing was undone in {}", here.display()),
                    "agentrec ops --all lists what was undone elsewhere",
                )
            })?
        }
    };
    let kind = logged.operation.kind;
    if kind != OperationKind::Undo && (kind != OperationKind::Redo || logged.outcome.is_some()) {
        return Err(with_hint(
            anyhow!("cannot redo o{}: it is no undo ({})", logged.id, kind.as_str()),
            format!("agentrec undo o{} takes it back", logged.id),
        ));
    }
    reversal::take_back(&home, &logged, OperationKind::Redo, &args.asked, context)
}
