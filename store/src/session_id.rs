//! Names of sessions: short enough to type, without letters that look like digits.

use std::fs::File;
use std::io::{self, Read};

/// No `i`, `l`, `o`, and neither `0` nor `1`.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Characters of an id.
const LEN: usize = 8;

/// A new session id: 8 characters from the kernel's random source.
pub fn new_session_id() -> io::Result<String> {
    let mut random = File::open("/dev/urandom")?;
    let mut id = String::with_capacity(LEN);
    let mut bytes = [0; 2 * LEN];
    while id.len() < LEN {
        random.read_exact(&mut bytes)?;
        // 248 is the largest multiple of 31 in a byte: what lies above would favour the first letters.
        let even = bytes.iter().filter(|byte| **byte < 248).map(|byte| usize::from(byte % 31));
        id.extend(even.take(LEN - id.len()).map(|index| char::from(ALPHABET[index])));
    }
    Ok(id)
}

/// Whether a text from outside (a trace, an argument) can be a session id, and so a part of a file name.
pub fn is_session_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_the_alphabet_and_differ() {
        let (a, b) = (new_session_id().unwrap(), new_session_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), LEN);
        assert!(is_session_id(&a) && !is_session_id("") && !is_session_id("../x"));
        assert!(a.bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
