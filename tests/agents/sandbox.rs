//! A directory for one test: files to work on, a data directory of its own, and a clean environment.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Removed with everything in it at the end.
pub struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    /// An empty `work` directory and nothing recorded yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["work", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// A path beside the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the agent works.
    pub fn work(&self) -> PathBuf {
        // As a process sees it: the temporary directory may be reached through a symlink.
        fs::canonicalize(self.path("work")).unwrap()
    }

    /// `agentrec` with arguments, in the working directory.
    pub fn agentrec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_agentrec"));
        let path = std::env::join_paths([
            program.parent().unwrap(),
            Path::new("/usr/bin"),
            Path::new("/bin"),
        ])
        .unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C.UTF-8")
            .env("HOME", self.path("home"))
            .env("AGENTREC_HOME", self.path("home/data"))
            .env("AGENTREC_ENGINE", "ptrace")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONHASHSEED", "0");
        command
    }
}

/// The output of a command that succeeded; its error output in the failure otherwise.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The interpreter of the tests' virtual environment, which `cargo xtask test` makes.
pub fn python() -> PathBuf {
    let python = made("AGENTREC_TEST_PYTHON", "venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: `cargo xtask test` makes the virtual environment",
        python.display()
    );
    python
}

/// What `cargo xtask test` makes in the target directory, and says by a variable.
pub fn made(variable: &str, place: &str) -> PathBuf {
    let given = std::env::var_os(variable).map(PathBuf::from);
    given.unwrap_or_else(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_agentrec")).ancestors().nth(2).unwrap();
        target.join(place)
    })
}

/// A file or folder of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
