//! The Python side of the tests: a virtual environment with what `tests/requirements*.txt` name, and unittest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::{Listen, Tally, run_and_listen};
use crate::workspace;

/// Folders with unittest modules.
const TEST_FOLDERS: [&str; 2] = ["python/tests", "tests/python_reader"];

/// A virtual environment that is up to date with the requirements.
pub struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// Makes the environment, or brings it up to date; does nothing where the requirements are as they were.
    pub fn prepare() -> Result<Self> {
        let venv = Self { dir: workspace::target().join("venv") };
        let files = requirement_files()?;
        let mut wanted = String::new();
        for file in &files {
            wanted += &fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
        }
        let stamp = venv.dir.join("requirements.installed");
        if venv.python().exists()
            && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        {
            return Ok(venv);
        }
        quietly(Command::new("python3").args(["-m", "venv"]).arg(&venv.dir))?;
        if !files.is_empty() {
            let mut pip = Command::new(venv.python());
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            for file in &files {
                pip.arg("-r").arg(file);
            }
            quietly(&mut pip)?;
        }
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(venv)
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// Runs every unittest module of the checkout.
    pub fn run_tests(&self, wrap: impl Fn(&Path) -> Command) -> Result<Tally> {
        let mut tally = Tally::default();
        for folder in TEST_FOLDERS {
            let path = workspace::root().join(folder);
            if !path.is_dir() {
                continue;
            }
            println!("     Running {folder}");
            let mut command = wrap(&self.python());
            command
                .args(["-m", "unittest", "discover", "-s"])
                .arg(&path)
                .current_dir(workspace::root())
                .env("PYTHONPATH", workspace::root().join("python"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("AGENTREC_BIN", workspace::target().join("debug/agentrec"));
            let (success, output) = run_and_listen(&mut command, Listen::Stderr)?;
            let counted = Tally::of_unittest(&output).unwrap_or_default();
            tally += counted;
            // A runner that fails without naming a test is a failure as well: no tests, a crash.
            if (!success && counted.failed == 0) || counted == Tally::default() {
                eprintln!("error: {folder}: the test runner itself failed, or found no test");
                tally.failed += 1;
            }
        }
        Ok(tally)
    }
}

fn requirement_files() -> Result<Vec<PathBuf>> {
    let tests = workspace::root().join("tests");
    let mut files: Vec<_> = fs::read_dir(&tests)
        .with_context(|| format!("cannot list {}", tests.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("requirements") && name.ends_with(".txt")
        })
        .collect();
    files.sort();
    Ok(files)
}

fn quietly(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed:\n{said}");
    Ok(())
}
