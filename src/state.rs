//! The state directories of agents that snapshots hold: commands leave them alone unless they are asked for.

use std::path::Path;

use agentrec_replay::Snapshot;

use crate::output::home_relative;

/// Whether they are meant.
#[derive(Clone, Copy, clap::Args)]
pub struct StateArgs {
    /// Also the state directories of agents that snapshots hold (such as ~/.claude)
    #[arg(long)]
    with_state: bool,
}

impl StateArgs {
    /// Whether a root is meant; `agent` is the one whose state it holds.
    pub fn means(self, agent: Option<&str>) -> bool {
        self.with_state || agent.is_none()
    }

    /// Takes the roots that are not meant out of a snapshot, and says so.
    pub fn leave_out(self, snapshot: &mut Snapshot) {
        for root in &snapshot.roots {
            if let Some(agent) = root.agent.as_deref().filter(|_| !self.with_state) {
                say_left_alone(&root.path, agent, "is left alone");
            }
        }
        snapshot.roots.retain(|root| self.means(root.agent.as_deref()));
    }
}

/// Says of a directory what is not done with it.
pub fn say_left_alone(path: &Path, agent: &str, what: &str) {
    let path = home_relative(path.as_os_str().as_encoded_bytes());
    let agent = crate::output::printable_line(agent.as_bytes());
    eprintln!("agentrec: {path}, the state of {agent}, {what} (--with-state)");
}
