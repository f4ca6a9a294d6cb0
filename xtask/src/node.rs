//! The clients of Node that the tests record, as `tests/agents/node/package-lock.json` pins them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Installs them, or brings them up to date; does nothing where they are as they were. Gives their `node_modules`; none where
/// there is no npm, which nothing but their tests needs.
pub fn prepare() -> Result<Option<PathBuf>> {
    let dir = workspace::target().join("node");
    let modules = dir.join("node_modules");
    let source = workspace::root().join("tests/agents/node");
    let read = |path: PathBuf| {
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let wanted = read(source.join("package-lock.json"))?;
    let stamp = dir.join("installed");
    if modules.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(modules));
    }
    if Command::new("npm").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("warning: no client of Node is tested: there is no npm");
        return Ok(None);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), dir.join(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&dir).stdin(Stdio::null());
    let status = npm.status().context("cannot run npm")?;
    ensure!(status.success(), "failed: {npm:?}");
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Some(modules))
}
