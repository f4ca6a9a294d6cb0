//! How errors reach the user: `cannot X: why`, and a hint where the user can act.

use std::fmt;
use std::io::{self, Write};

use anyhow::Error;

/// What the user could do about an error. It is context without a text of its own.
#[derive(Debug)]
struct Hint(String);

impl fmt::Display for Hint {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// How things stand after an error. It is context without a text of its own.
#[derive(Debug)]
struct Stand(String);

impl fmt::Display for Stand {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Adds a hint to an error.
pub trait WithHint<T> {
    /// Says what the user could do.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| with_hint(error, hint))
    }
}

/// An error with a hint.
pub fn with_hint(error: impl Into<Error>, hint: impl Into<String>) -> Error {
    error.into().context(Hint(hint.into()))
}

/// An error that says how things stand after it, behind what the user could do about its cause.
pub fn with_stand(error: impl Into<Error>, stand: impl Into<String>) -> Error {
    error.into().context(Stand(stand.into()))
}

/// Prints an error with its causes and its hints to standard error.
pub fn report(error: &Error) {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Errors that print their source themselves would say it twice.
        if cause.is_empty() || text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    // Nothing can be said where standard error itself is gone.
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "agentrec: {}", lowered(&text));
    let stand = error.downcast_ref().map(|Stand(stand)| stand.clone());
    for hint in hint_of(error).into_iter().chain(stand) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

/// The command's own hint, or that of the library where the error comes from.
fn hint_of(error: &Error) -> Option<String> {
    if let Some(Hint(hint)) = error.downcast_ref() {
        return Some(hint.clone());
    }
    error.chain().find_map(|cause| {
        let replay =
            cause.downcast_ref::<agentrec_replay::Error>().and_then(agentrec_replay::Error::hint);
        let recorder = cause.downcast_ref::<agentrec_recorder::Error>();
        let launch = cause.downcast_ref::<agentrec_launch::Error>();
        let store = cause.downcast_ref::<agentrec_store::Error>();
        replay
            .or_else(|| recorder.and_then(|error| error.hint().map(str::to_owned)))
            .or_else(|| launch.and_then(|error| error.hint().map(str::to_owned)))
            .or_else(|| store.and_then(|error| error.hint().map(str::to_owned)))
    })
}

/// The system's own messages begin with a capital and end with their number.
fn lowered(text: &str) -> String {
    let text = text.split(" (os error ").map(|part| match part.split_once(')') {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => part,
    });
    let text: String = text.collect();
    let mut lowered = String::with_capacity(text.len());
    for (i, part) in text.split(": ").enumerate() {
        if i > 0 {
            lowered.push_str(": ");
        }
        let mut chars = part.chars();
        match (chars.next(), chars.clone().next()) {
            // Names such as PATH keep their capitals.
            (Some(first), Some(second))
                if i > 0 && first.is_uppercase() && second.is_lowercase() =>
            {
                lowered.extend(first.to_lowercase());
                lowered.push_str(chars.as_str());
            }
            _ => lowered.push_str(part),
        }
    }
    lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_messages_are_lowered() {
        let text = "cannot open a: No such file or directory (os error 2)";
        assert_eq!(lowered(text), "cannot open a: no such file or directory");
        assert_eq!(lowered("cannot find x: PATH is empty"), "cannot find x: PATH is empty");
        assert_eq!(
            lowered("cannot open A (b): Is a directory"),
            "cannot open A (b): is a directory"
        );
    }

    #[test]
    fn a_hint_is_no_part_of_the_message() {
        let error = with_hint(anyhow::anyhow!("cannot do it"), "do that").context("cannot run");
        assert!(error.downcast_ref::<Hint>().is_some_and(|hint| hint.0 == "do that"));
    }
}
