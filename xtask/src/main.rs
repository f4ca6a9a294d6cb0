//! Developer tasks: `cargo xtask test`, `cargo xtask bench NAME`, `cargo xtask ebpf`, `cargo xtask tidy`.

mod bench;
mod ebpf;
mod node;
mod python;
mod tally;
mod test;
mod test_user;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test: Rust, then Python
    Test(test::Args),
    /// Measure, beside the bars; the figures go to docs/benchmarks.md
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Build the BPF object that the recorder embeds, or check that the committed one is current
    Ebpf(ebpf::Args),
    /// Check what compilers don't: file lengths, documents against code, forbidden marks
    Tidy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Bench { bench } => bench::run(&bench),
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Tidy => tidy::run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
