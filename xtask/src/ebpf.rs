//! `cargo xtask ebpf`: builds the BPF object that the recorder embeds, `recorder-ebpf/agentrec.bpf.o`.
//!
//! The object is committed, so that nobody needs a BPF toolchain to build agentrec. Beside it lies its origin: a hash of
//! the sources, and the toolchain's versions. `--check` fails where the object is not what the sources say: at once where
//! the sources have another hash, else it rebuilds and compares. With another version of the toolchain the object can't
//! be the same byte for byte; then it has to build, and the hash of the sources decides.

mod origin;
mod strip;
mod toolchain;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;
use origin::Origin;
use toolchain::Toolchain;

/// Arguments of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; fail where the committed object is not what the sources say
    #[arg(long)]
    check: bool,
    /// Use rustup's nightly (with rust-src) and the bpf-linker on PATH instead of the distribution's packages
    #[arg(long)]
    rustup: bool,
}

/// Builds the object, or checks it; whether all is well.
pub fn run(args: &Args) -> Result<bool> {
    if args.check && !is_current()? {
        return Ok(false);
    }
    let toolchain = Toolchain::find(args.rustup, &workspace::target().join("ebpf"))?;
    let object = build(&toolchain)?;
    let origin = Origin::of(&object, toolchain.version())?;
    if !args.check {
        write(&object_path(), &object)?;
        write(&origin_path(), origin.to_string().as_bytes())?;
        eprintln!("{}: {} bytes", object_path().display(), object.len());
        return Ok(true);
    }
    let committed = committed_origin()?;
    if committed.toolchain != origin.toolchain {
        eprintln!(
            "warning: the BPF object builds, and is not compared: it is of another toolchain"
        );
        eprintln!("  committed: {}\n  here:      {}", committed.toolchain, origin.toolchain);
        return Ok(true);
    }
    if committed.object != origin.object {
        eprintln!(
            "error: the BPF object is not what its sources give; run `cargo xtask ebpf` and commit what it writes"
        );
        return Ok(false);
    }
    Ok(true)
}

/// Whether object, origin and sources belong together, as far as that can be seen without a toolchain.
pub fn is_current() -> Result<bool> {
    let path = object_path();
    let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let committed = committed_origin()?;
    let now = Origin::of(&object, &committed.toolchain)?;
    if now != committed {
        let what = if now.object == committed.object { "sources" } else { "object" };
        eprintln!(
            "error: the BPF object is stale: its {what} changed; run `cargo xtask ebpf` and commit what it writes"
        );
    }
    Ok(now == committed)
}

/// Compiles the BPF programs; the object.
fn build(toolchain: &Toolchain) -> Result<Vec<u8>> {
    const TARGET: &str = "bpfel-unknown-none";
    let root = workspace::root();
    let dir = workspace::target().join("ebpf/build");
    // The BTF is made from the debug information.
    let mut flags: Vec<_> =
        ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"]
            .map(str::to_owned)
            .into();
    for (from, to) in hidden_paths(toolchain)? {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let mut cargo = toolchain.cargo();
    cargo.current_dir(root);
    cargo.args(["build", "--quiet", "--locked", "--package", "agentrec-recorder-ebpf"]);
    cargo.args(["--features", "programs", "--bin", "agentrec-bpf"]);
    cargo.args(["--profile", "ebpf", "--target", TARGET, "-Zbuild-std=core"]);
    cargo.arg("--target-dir").arg(&dir);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run_command(&mut cargo)?;
    let built = dir.join(TARGET).join("ebpf/agentrec-bpf");
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    strip::strip(&object).with_context(|| format!("cannot understand {}", built.display()))
}

/// Folders whose names depend on the machine, and what the object's BTF calls them.
fn hidden_paths(toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => env::home_dir().context("there is no home directory")?.join(".cargo"),
    };
    let crates = cargo_home.join("registry/src");
    let (root, sysroot) = (workspace::root(), toolchain.sysroot());
    let mut hidden = vec![(root.to_owned(), "agentrec"), (sysroot.to_owned(), "rust")];
    // What lies in the workspace, as the target directory does, cargo names relative to it.
    if let Ok(inside) = sysroot.strip_prefix(root) {
        hidden.push((inside.to_owned(), "rust"));
    }
    // One folder for each registry.
    for registry in
        fs::read_dir(&crates).with_context(|| format!("cannot list {}", crates.display()))?
    {
        hidden.push((registry?.path(), "crates"));
    }
    Ok(hidden)
}

fn object_path() -> PathBuf {
    workspace::root().join("recorder-ebpf/agentrec.bpf.o")
}

fn origin_path() -> PathBuf {
    workspace::root().join("recorder-ebpf/agentrec.bpf.origin")
}

fn committed_origin() -> Result<Origin> {
    let path = origin_path();
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("cannot understand {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs a command that says by itself what went wrong.
fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().display());
    Ok(())
}
