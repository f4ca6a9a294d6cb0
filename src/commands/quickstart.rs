//! `agentrec quickstart`: a first recording, step by step: each command is shown as one would type it, then run.

use std::env;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::error::{WithHint, with_hint};
use crate::exit::Exit;
use crate::output::{ColorChoice, Output, Paint};
use crate::session::Context;

/// Arguments of `agentrec quickstart`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to work; must not exist
    #[arg(default_value = "agentrec-quickstart")]
    dir: PathBuf,
    /// Do not wait for Enter between the steps
    #[arg(long, short)]
    yes: bool,
}

/// The example of the repository: an agent, its scripted model, and a small project with a failing test.
const FILES: [(&str, &str); 4] = [
    ("agent.py", include_str!("../../examples/agent.py")),
    ("model_server.py", include_str!("../../examples/model_server.py")),
    ("shop/cart.py", include_str!("../../examples/shop/cart.py")),
    ("shop/test_cart.py", include_str!("../../examples/shop/test_cart.py")),
];

/// Where the agent works.
const PROJECT: &str = "shop";

/// A step: what it is for, the arguments, and the exit code that is right.
type Step = (&'static str, &'static [&'static str], i32);

/// The steps.
const STEPS: [Step; 6] = [
    (
        "Record an agent and everything that it starts. It needs no change; this one uses the SDK to tell more.",
        &["run", "--with-sdk", "--", "python3", "../agent.py", "Make the tests pass."],
        0,
    ),
    ("What did it do?", &["show"], 0),
    ("It changed a file. Why?", &["why", "cart.py"], 0),
    ("What is different now?", &["diff"], 1),
    (
        "Go back to when it had seen the failing test, ask for something else, and go on from there, in a copy.",
        &["resume", "last@s3", "--with-sdk", "--prompt", "The code is right, correct the test."],
        0,
    ),
    ("What would that run change at home?", &["apply", "--dry-run"], 0),
];

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let python = Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !python.is_ok_and(|status| status.success()) {
        return Err(with_hint(
            anyhow!("cannot run the example agent: there is no python3"),
            "record a command of your own: agentrec run -- COMMAND, then agentrec show",
        ));
    }
    prepare(&args.dir)?;
    let program = env::current_exe().context("cannot find this program")?;
    let paint = Output::new(context.preferences).paint;
    println!(
        "{} now holds a small agent, agent.py, whose model is a script (no key, no network), and a project for it.",
        args.dir.display()
    );
    for (why, arguments, expected) in STEPS {
        println!("\n{why}");
        println!("{}", paint.strong(format_args!("$ agentrec {}", shown(arguments))));
        if !args.yes {
            wait_for_enter(paint)?;
        }
        let mut command = Command::new(&program);
        // Options of agentrec itself go before the command's own, so that they can't end up in a recorded one.
        command.arg("--no-pager").args(color_option(context.preferences.color)).args(arguments);
        command.current_dir(args.dir.join(PROJECT));
        let status =
            command.status().with_context(|| format!("cannot run {}", program.display()))?;
        if status.code() != Some(expected) {
            return Err(anyhow!("the step `agentrec {}` ended with {status}", shown(arguments)))
                .hint("agentrec doctor tells what this machine allows");
        }
    }
    println!("\nNow your own: agentrec run -- COMMAND");
    Ok(Exit::OK)
}

fn color_option(choice: ColorChoice) -> &'static [&'static str] {
    match choice {
        ColorChoice::Auto => &[],
        ColorChoice::Always => &["--color", "always"],
        ColorChoice::Never => &["--color", "never"],
    }
}

/// Arguments as one would type them.
fn shown(arguments: &[&str]) -> String {
    let quoted = arguments
        .iter()
        .map(|arg| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() });
    quoted.collect::<Vec<_>>().join(" ")
}

fn prepare(dir: &Path) -> Result<()> {
    ensure!(
        !dir.exists(),
        with_hint(
            anyhow!("cannot prepare {}: it exists", dir.display()),
            "name another directory: agentrec quickstart DIR"
        )
    );
    for (name, content) in FILES {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Waits where somebody is there who could press a key.
fn wait_for_enter(paint: Paint) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut stdout = io::stdout();
    write!(stdout, "{}", paint.dim("Enter runs it "))?;
    stdout.flush()?;
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
