//! The ordinary user that tests run things as when they themselves run as root.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Its name; tests look it up.
pub const NAME: &str = "agentrec-test";

/// Whether we are root.
pub fn are_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Creates the user where it is missing.
pub fn ensure_exists() -> Result<()> {
    let known = Command::new("id").arg(NAME).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if known.context("cannot run id")?.success() {
        return Ok(());
    }
    let status = Command::new("useradd")
        .args(["--create-home", "--shell", "/bin/sh", NAME])
        .status()
        .context("cannot run useradd")?;
    ensure!(status.success(), "cannot create the user {NAME}");
    Ok(())
}

/// The words before a command that run it as that user, without any privilege.
pub fn wrapper() -> Result<Vec<String>> {
    let home = home()?;
    let words =
        ["setpriv", "--reuid", NAME, "--regid", NAME, "--init-groups", "--inh-caps=-all", "env"];
    let mut words: Vec<_> = words.map(str::to_owned).into();
    words.push(format!("HOME={home}"));
    words.push(format!("USER={NAME}"));
    Ok(words)
}

/// Fails where that user could not even reach `path`.
pub fn can_reach(path: &Path) -> Result<()> {
    let words = wrapper()?;
    let status =
        Command::new(&words[0]).args(&words[1..]).arg("test").arg("-r").arg(path).status()?;
    ensure!(
        status.success(),
        "the user {NAME} cannot read {}: put the checkout and CARGO_TARGET_DIR where every user may read",
        path.display()
    );
    Ok(())
}

fn home() -> Result<String> {
    let output =
        Command::new("getent").args(["passwd", NAME]).output().context("cannot run getent")?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    match line.trim_end().split(':').nth(5) {
        Some(home) => Ok(home.to_owned()),
        None => bail!("there is no user {NAME}"),
    }
}
