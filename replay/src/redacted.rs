//! Puts present values in the place of what was redacted: a recorded command can only run again with its secrets.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::{Error, Result};

/// What every mark of a redacted value begins with; the recorder's `redact` module writes them.
pub const REDACTION_MARK: &[u8] = b"[redacted:";

/// Variables that the recorder gives the agent: a resumed one gets its own.
const RECORDER_PREFIX: &[u8] = b"AGENTREC_";

/// An environment that a command can be started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Variables whose value was redacted and is not set at present: they are left out.
    pub(crate) missing: Vec<String>,
}

/// The recorded environment with what was redacted taken from `present`, and `edits` on top.
pub(crate) fn environment(
    recorded: &[(Vec<u8>, Vec<u8>)],
    present: &[(OsString, OsString)],
    edits: &[(OsString, OsString)],
) -> Environment {
    let mut result = Environment::default();
    for (name, value) in recorded {
        let name = OsString::from_vec(name.clone());
        let is_edited = edits.iter().any(|(edited, _)| *edited == name);
        if is_edited || name.as_bytes().starts_with(RECORDER_PREFIX) {
            continue;
        }
        if !is_redacted(value) {
            result.env.push((name, OsString::from_vec(value.clone())));
        } else if let Some((_, value)) = present.iter().find(|(present, _)| *present == name) {
            result.env.push((name, value.clone()));
        } else {
            result.missing.push(name.to_string_lossy().into_owned());
        }
    }
    result.env.extend(edits.iter().cloned());
    result
}

/// The recorded command. An argument that was redacted comes back where a variable of the recorded environment had the
/// same value, which the same mark shows, and that variable has a value now.
pub(crate) fn arguments(
    recorded: &[Vec<u8>],
    recorded_env: &[(Vec<u8>, Vec<u8>)],
    env: &[(OsString, OsString)],
) -> Result<Vec<OsString>> {
    let now: HashMap<&[u8], &[u8]> =
        env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let known: Vec<(&[u8], &[u8])> = recorded_env
        .iter()
        .filter(|(_, mark)| is_mark(mark))
        .filter_map(|(name, mark)| Some((mark.as_slice(), *now.get(name.as_slice())?)))
        .collect();
    recorded
        .iter()
        .enumerate()
        .map(|(index, argument)| {
            let mut filled = argument.clone();
            for (mark, value) in &known {
                filled = replace(&filled, mark, value);
            }
            // Looked for in the recorded text: a value of the present is the user's own.
            let left =
                known.iter().fold(argument.clone(), |rest, (mark, _)| replace(&rest, mark, b""));
            if is_redacted(&left) {
                let argument = String::from_utf8_lossy(argument).into_owned();
                return Err(Error::RedactedArgument { index, argument });
            }
            Ok(OsString::from_vec(filled))
        })
        .collect()
}

fn is_redacted(value: &[u8]) -> bool {
    value.windows(REDACTION_MARK.len()).any(|window| window == REDACTION_MARK)
}

/// Whether the value is one mark and nothing else.
fn is_mark(value: &[u8]) -> bool {
    value.starts_with(REDACTION_MARK)
        && value.iter().position(|byte| *byte == b']') == Some(value.len() - 1)
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn bytes(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn redacted_variables_come_from_the_present_or_are_named() {
        let recorded = bytes(&[
            ("LANG", "C"),
            ("KEY", "[redacted:key:0011aabb]"),
            ("URL", "postgres://u:[redacted:password:0011aabb]@h/d"),
            ("GONE", "[redacted:key:22334455]"),
            ("AGENTREC_SOCKET", "/old"),
        ]);
        let present =
            os(&[("KEY", "k"), ("URL", "postgres://now"), ("LANG", "de"), ("OTHER", "x")]);
        let result = environment(&recorded, &present, &os(&[("LANG", "en"), ("NEW", "1")]));
        let expected = [("KEY", "k"), ("URL", "postgres://now"), ("LANG", "en"), ("NEW", "1")];
        assert_eq!(result.env, os(&expected));
        assert_eq!(result.missing, ["GONE"]);
    }

    #[test]
    fn a_redacted_argument_is_found_by_the_variable_that_had_its_value() {
        let recorded_env = bytes(&[("KEY", "[redacted:key:0011aabb]")]);
        let argv = [b"run".to_vec(), b"--key=[redacted:key:0011aabb]".to_vec()];
        let filled = arguments(&argv, &recorded_env, &os(&[("KEY", "[redacted:x")])).unwrap();
        assert_eq!(filled, ["run", "--key=[redacted:x"]);
        assert!(matches!(
            arguments(&argv, &recorded_env, &[]),
            Err(Error::RedactedArgument { index: 1, .. })
        ));
    }
}
