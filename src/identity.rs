//! As whom everything is done: under sudo as the user who called it, since theirs are the agent and its files.

use std::env;
use std::ffi::OsString;
use std::sync::OnceLock;

use agentrec_recorder::privileges;
use anyhow::{Context as _, Result};
use nix::unistd::User;

use crate::error::WithHint;

/// Who called sudo, once this process has become that user.
static CALLER: OnceLock<User> = OnceLock::new();

/// Becomes the user who called sudo, where somebody did.
pub fn become_caller() -> Result<()> {
    let Some(user) = privileges::caller() else { return Ok(()) };
    privileges::become_user(&user)
        .with_context(|| format!("cannot become {}, who called sudo", user.name))
        .hint("to record as root: sudo env -u SUDO_UID agentrec …")?;
    // Set once, here.
    let _ = CALLER.set(user);
    Ok(())
}

/// The name of the user that this process has become.
pub fn caller() -> Option<&'static str> {
    CALLER.get().map(|user| user.name.as_str())
}

/// The user's home directory, whatever sudo has set.
pub fn home() -> Option<OsString> {
    match CALLER.get() {
        Some(user) => Some(user.dir.clone().into()),
        None => env::var_os("HOME"),
    }
}

/// The environment for what is run: the present one, without the traces of a change of users that is undone.
pub fn environment() -> Vec<(OsString, OsString)> {
    let mut environment = privileges::environment();
    let Some(user) = CALLER.get() else { return environment };
    for (name, value) in &mut environment {
        match name.to_str() {
            Some("HOME") => *value = user.dir.clone().into(),
            Some("USER" | "LOGNAME") => *value = user.name.clone().into(),
            _ => {}
        }
    }
    environment
}
