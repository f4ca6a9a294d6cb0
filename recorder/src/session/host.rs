//! Facts about the machine and the repository that `session.start` tells.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long git may take to find out whether a work tree is dirty.
const GIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Seconds east of UTC, now and here.
pub(super) fn utc_offset() -> i32 {
    jiff::Zoned::now().offset().seconds()
}

/// Host name, kernel release and machine.
pub(super) fn uname() -> (String, String, String) {
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
            (text(name.nodename()), text(name.release()), text(name.machine()))
        }
        Err(_) => Default::default(),
    }
}

/// The state of the git repository that a directory lies in.
#[derive(Debug, Default)]
pub(super) struct Git {
    pub(super) head: Option<String>,
    pub(super) branch: Option<String>,
    status: Option<(Child, Instant)>,
}

impl Git {
    /// Reads HEAD, and lets git find out in the background whether the work tree is dirty.
    pub(super) fn of(dir: &Path) -> Self {
        let Some(git_dir) = dir.ancestors().find_map(git_dir) else { return Self::default() };
        let Ok(head) = std::fs::read_to_string(git_dir.join("HEAD")) else {
            return Self::default();
        };
        let (head, branch) = match head.trim_end().strip_prefix("ref: ") {
            None => (Some(head.trim_end().to_owned()), None),
            Some(name) => (resolve(&git_dir, name), name.strip_prefix("refs/heads/")),
        };
        let branch = branch.map(str::to_owned);
        // Its own hooks and monitors are not for us to start; neither is its lock ours to take.
        let status = Command::new("git")
            .args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"])
            .arg(dir)
            .args(["status", "--porcelain", "--ignore-submodules"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let head =
            head.filter(|head| head.len() >= 40 && head.bytes().all(|b| b.is_ascii_hexdigit()));
        Self { head, branch, status: status.ok().map(|child| (child, Instant::now())) }
    }

    /// Whether the work tree differs from HEAD; `None` where git is missing, fails, or takes too long.
    pub(super) fn dirty(&mut self) -> Option<bool> {
        let (mut child, begun) = self.status.take()?;
        let left = GIT_TIMEOUT.saturating_sub(begun.elapsed());
        let mut output = child.stdout.take()?;
        let answered = {
            use std::os::fd::AsFd;
            let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
        };
        // One byte is enough to know, and no byte is only an answer when git says that it succeeded.
        let dirty = answered && output.read(&mut [0]).is_ok_and(|len| len > 0);
        if !answered || dirty {
            child.kill().ok();
        }
        let status = child.wait().ok()?;
        match (answered, dirty) {
            (true, true) => Some(true),
            (true, false) if status.success() => Some(false),
            _ => None,
        }
    }
}

/// The repository of a work tree whose top is `dir`.
fn git_dir(dir: &Path) -> Option<PathBuf> {
    let dot_git = dir.join(".git");
    if dot_git.is_dir() {
        return Some(dot_git);
    }
    // Linked work trees and submodules: gitrepository-layout(5).
    let text = std::fs::read_to_string(&dot_git).ok()?;
    let path = text.strip_prefix("gitdir: ")?.trim_end();
    Some(dir.join(path))
}

/// The commit that a reference names.
fn resolve(git_dir: &Path, name: &str) -> Option<String> {
    let common = std::fs::read_to_string(git_dir.join("commondir")).ok();
    let common = common.map_or(git_dir.to_owned(), |dir| git_dir.join(dir.trim_end()));
    let loose = |dir: &Path| std::fs::read_to_string(dir.join(name)).ok();
    if let Some(commit) = loose(git_dir).or_else(|| loose(&common)) {
        return Some(commit.trim_end().to_owned());
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, n)| n == name))?;
    line.split_once(' ').map(|(commit, _)| commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let output = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    #[test]
    fn head_branch_and_dirt_are_what_git_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        assert_eq!(Git::of(at).dirty(), None);
        git(at, &["init", "-q", "-b", "main"]);
        std::fs::write(at.join("a"), "1").unwrap();
        git(at, &["add", "a"]);
        git(at, &["commit", "-q", "-m", "x"]);
        let below = at.join("sub");
        std::fs::create_dir(&below).unwrap();
        let mut clean = Git::of(&below);
        assert_eq!(clean.branch.as_deref(), Some("main"));
        let head = clean.head.clone().unwrap();
        assert_eq!(clean.dirty(), Some(false));
        git(at, &["pack-refs", "--all"]);
        assert_eq!(Git::of(at).head, Some(head.clone()));
        git(at, &["checkout", "-q", "--detach"]);
        std::fs::write(at.join("a"), "2").unwrap();
        let mut dirty = Git::of(at);
        assert_eq!((dirty.head.clone(), dirty.branch.clone()), (Some(head), None));
        assert_eq!(dirty.dirty(), Some(true));
    }
}
