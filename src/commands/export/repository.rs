//! The git repository that an export goes into, and git itself, as a child that knows nothing of the user's settings.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::syncfs;

use crate::error::{WithHint, with_hint};

/// Where commits go: a repository that is being made, or one that is there.
pub(super) struct Repository {
    /// Where it is now.
    at: PathBuf,
    /// Where it goes once it is whole.
    goes_to: Option<PathBuf>,
}

impl Repository {
    /// Makes one under the name `<dir>.partial`, whose branch is `branch`.
    pub(super) fn create(dir: &Path, branch: &str) -> Result<Self> {
        let in_the_way = || {
            with_hint(
                anyhow!("cannot make a repository in {}: something is there", dir.display()),
                "name a directory that does not exist yet; --add-refs adds to a repository",
            )
        };
        match fs::symlink_metadata(dir) {
            Ok(there) if !there.is_dir() => return Err(in_the_way()),
            Ok(_) if fs::read_dir(dir).is_ok_and(|mut all| all.next().is_some()) => {
                return Err(in_the_way());
            }
            _ => {}
        }
        // A slash at its end would put it inside.
        let dir: PathBuf = dir.components().collect();
        let mut partial = dir.clone().into_os_string();
        partial.push(".partial");
        let at = PathBuf::from(partial);
        match fs::create_dir_all(at.parent().unwrap_or(Path::new("")))
            .and_then(|()| fs::create_dir(&at))
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(with_hint(
                    anyhow!("{} is left from an interrupted export", at.display()),
                    format!("remove {} and export again", at.display()),
                ));
            }
            made => made.with_context(|| format!("cannot create {}", at.display()))?,
        }
        let repository = Self { at, goes_to: Some(dir) };
        repository.git(&["init", "--quiet", "--template="])?;
        let head = format!("refs/heads/{branch}");
        repository.git(&["symbolic-ref", "HEAD", &head])?;
        Ok(repository)
    }

    /// One that is there.
    pub(super) fn existing(dir: &Path) -> Result<Self> {
        let repository = Self { at: dir.to_owned(), goes_to: None };
        repository
            .git(&["rev-parse", "--git-dir"])
            .with_context(|| format!("cannot add to {}", dir.display()))
            .hint("name a git repository, or leave --add-refs away to make one")?;
        Ok(repository)
    }

    /// Starts git-fast-import(1).
    pub(super) fn import(&self) -> Result<Import> {
        let mut command = self.command();
        command.args(["-c", "fastimport.unpackLimit=0", "fast-import"]);
        command.args(["--quiet", "--done", "--date-format=raw"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(no_git)?;
        let stdin = child.stdin.take().context("git has no standard input")?;
        let mut stderr = child.stderr.take().context("git has no standard error")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What it says is for the user to read, where it can be read.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Ok(Import { child, stdin: Some(stdin), errors: Some(errors) })
    }

    /// Checks the files out, and gives a new repository its name.
    pub(super) fn finish(mut self) -> Result<()> {
        let Some(dir) = self.goes_to.clone() else { return Ok(()) };
        // A file for each of thousands of tags makes everything slow that looks for one.
        self.git(&["pack-refs", "--all"])?;
        self.git(&["reset", "--quiet", "--hard"])?;
        fs::File::open(&self.at)
            .and_then(|at| syncfs(&at).map_err(io::Error::from))
            .with_context(|| format!("cannot sync {}", self.at.display()))?;
        fs::rename(&self.at, &dir)
            .with_context(|| format!("cannot rename to {}", dir.display()))?;
        self.goes_to = None;
        Ok(())
    }

    fn git<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<()> {
        let output = self.command().args(args).stdin(Stdio::null()).output().map_err(no_git)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("git: {}", crate::output::printable_line(said.trim().as_bytes()));
        }
        Ok(())
    }

    /// git in the repository. Settings, hooks, templates and filters are of no concern to what the trace holds.
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("LC_ALL", "C").arg("-C").arg(&self.at);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false"]);
        if self.goes_to.is_some() {
            // An fsync(2) for each tag would take most of the time; a new repository is synced as a whole.
            command.args(["-c", "core.fsync=none"]);
        }
        command
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        if self.goes_to.is_some() {
            // It was never whole. What can't be removed is named by the next export.
            let _ = fs::remove_dir_all(&self.at);
        }
    }
}

fn no_git(error: io::Error) -> anyhow::Error {
    with_hint(anyhow!(error).context("cannot run git"), "install git, which makes the commits")
}

/// A git that takes commits. It ends with this value.
pub(super) struct Import {
    child: Child,
    stdin: Option<ChildStdin>,
    errors: Option<JoinHandle<String>>,
}

impl Import {
    /// Where it listens.
    pub(super) fn input(&mut self) -> Result<ChildStdin> {
        self.stdin.take().context("git listens once")
    }

    /// Waits until git is done with what it was told; its input must be closed.
    pub(super) fn wait(mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait for git")?;
        let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        if !status.success() {
            bail!("git: {}", crate::output::printable_line(said.trim().as_bytes()));
        }
        Ok(())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Without `done` it changes no reference.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
