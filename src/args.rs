//! The command line as a whole: what stands before the command's own arguments.

use clap::{Args, Parser};

use crate::commands::Command;
use crate::output::{ColorChoice, Preferences};

/// Records an AI agent, shows what it did, and goes back.
#[derive(Parser)]
#[command(
    name = "agentrec",
    version,
    about = "Flight recorder and time machine for AI agents on Linux",
    after_help = "Start with `agentrec quickstart`, or `agentrec run -- COMMAND` and then `agentrec show`.\n\n\
        Addresses: s2 a snapshot, p7 a process, #1234 an event, t5 a turn; 7q3k@s2 in another session.\n\
        A session is its id (four characters will do), its name, `last`, or the path of a trace.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Where those stand in every help text.
const GLOBAL: &str = "Global options";

/// What holds for every command.
#[derive(Args)]
pub struct Global {
    /// When to colour; NO_COLOR is respected
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    color: ColorChoice,
    /// Machine output: one JSON object per line, bytes as {"text": …} or {"bytes": base64}
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Never start a pager
    #[arg(long, global = true, help_heading = GLOBAL)]
    no_pager: bool,
}

impl Global {
    /// As the commands want to know it.
    pub fn preferences(&self) -> Preferences {
        Preferences { color: self.color, json: self.json, pager: !self.no_pager }
    }
}
