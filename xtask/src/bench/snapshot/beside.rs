//! The others: restic, git and cp do the same to the same tree.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::super::time;

/// restic with a repository of its own, as shipped.
pub struct Restic {
    repository: PathBuf,
    password: PathBuf,
    cache: PathBuf,
}

impl Restic {
    pub fn new(dir: &Path) -> Result<Self> {
        let password = dir.join("restic-password");
        fs::write(&password, "bench\n")?;
        Ok(Self { repository: dir.join("restic"), password, cache: dir.join("restic-cache") })
    }

    /// Begins an empty repository.
    pub fn init(&self) -> Result<()> {
        remove(&self.repository)?;
        remove(&self.cache)?;
        run(self.command().arg("init")).map(drop)
    }

    /// Seconds of the first backup of `root`.
    pub fn backup(&self, root: &Path) -> Result<f64> {
        run(self.command().args(["backup", "."]).current_dir(root))
    }

    /// Seconds of bringing that back into the new directory `target`.
    pub fn restore(&self, target: &Path) -> Result<f64> {
        run(self.command().args(["restore", "latest", "--target"]).arg(target))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("restic");
        command.arg("--quiet").arg("--repo").arg(&self.repository);
        command.arg("--password-file").arg(&self.password).arg("--cache-dir").arg(&self.cache);
        command
    }
}

/// git with its directory outside of the work tree, which stays as it is.
pub struct Git {
    dir: PathBuf,
}

impl Git {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.join("git") }
    }

    /// Begins an empty repository.
    pub fn init(&self) -> Result<()> {
        remove(&self.dir)?;
        run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&self.dir)).map(drop)
    }

    /// Seconds of `git add -A` and `git write-tree`.
    pub fn add(&self, root: &Path) -> Result<f64> {
        Ok(run(self.command(root).args(["add", "-A"]))?
            + run(self.command(root).arg("write-tree"))?)
    }

    /// Seconds of `git status`.
    pub fn status(&self, root: &Path) -> Result<f64> {
        run(self.command(root).args(["status", "--porcelain"]))
    }

    /// Seconds of a checkout of all that was added into the new directory `target`.
    pub fn checkout(&self, root: &Path, target: &Path) -> Result<f64> {
        let mut prefix = target.as_os_str().to_owned();
        prefix.push("/");
        let mut argument = std::ffi::OsString::from("--prefix=");
        argument.push(prefix);
        run(self.command(root).args(["checkout-index", "-a"]).arg(argument))
    }

    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new("git");
        command.current_dir(root).arg("--git-dir").arg(&self.dir).arg("--work-tree").arg(root);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }
}

/// Seconds of `cp -a`.
pub fn copy(root: &Path, target: &Path) -> Result<f64> {
    run(Command::new("cp").arg("-a").arg(root).arg(target))
}

/// Removes a directory, if there is one.
pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Waits until nothing is left to be written: what was done before is not to fall on what is measured next.
pub fn settle() -> Result<()> {
    run(&mut Command::new("sync")).map(drop)
}

fn run(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let name = command.get_program().to_owned();
    let (output, took) = time(|| command.output().with_context(|| cannot_run(&name)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", name.display());
    Ok(took.as_secs_f64())
}

fn cannot_run(name: &OsStr) -> String {
    format!("cannot run {}", name.display())
}
