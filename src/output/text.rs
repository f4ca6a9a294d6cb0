//! Bytes of the traced world as text that is safe to print: no control character reaches the terminal.

use std::env;
use std::fmt::Write as _;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Bytes as text; line feeds and tabs stay, other control characters and invalid UTF-8 are escaped.
pub fn printable(bytes: &[u8]) -> String {
    escape(bytes, |c| c == '\n' || c == '\t')
}

/// Bytes as text on one line; every control character is escaped.
pub fn printable_line(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

fn escape(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Bidirectional controls can make a line read as another one (Trojan Source).
            let bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if (c.is_control() || bidi) && !keep(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` columns of `text`, with `…` where something was cut.
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let mut cut = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// A command as it could be typed, on one line. The program is shown by its last component.
pub fn command_line<B: Deref<Target = [u8]>>(argv: &[B]) -> String {
    let mut line = String::new();
    for (i, arg) in argv.iter().enumerate() {
        let mut arg: &[u8] = arg;
        if i == 0
            && let Some(slash) = arg.iter().rposition(|&b| b == b'/')
        {
            arg = &arg[slash + 1..];
        }
        if i > 0 {
            line.push(' ');
        }
        line.push_str(&quoted(arg));
    }
    line
}

fn quoted(arg: &[u8]) -> String {
    let text = printable_line(arg);
    let plain = |c: char| c.is_alphanumeric() || "_-+=./:,@%^[]{}…".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    if text.contains('\'') && !text.contains(['"', '$', '`', '\\', '!']) {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path with the user's home directory as `~`.
pub fn home_relative(path: &[u8]) -> String {
    let home = env::var_os("HOME").unwrap_or_default();
    match strip_directory(path, home.as_bytes()) {
        Some(b"") => "~".to_owned(),
        Some(rest) => format!("~/{}", printable_line(rest)),
        None => printable_line(path),
    }
}

/// A path as seen from `directory` where it lies below it, else with the home directory as `~`.
pub fn relative(path: &[u8], directory: &[u8]) -> String {
    match strip_directory(path, directory) {
        Some(b"") => ".".to_owned(),
        Some(rest) => printable_line(rest),
        None => home_relative(path),
    }
}

/// What follows `directory/` in `path`.
fn strip_directory<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    if directory.is_empty() {
        return None;
    }
    match path.strip_prefix(directory)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_control_sequence() {
        assert_eq!(printable_line(b"a\x1b[31mb\n\xff\xc3\xa4"), "a\\u{1b}[31mb\\n\\xffä");
        assert_eq!(printable(b"a\tb\n\x07"), "a\tb\n\\u{7}");
        assert_eq!(printable_line("x\u{202e}y".as_bytes()), "x\\u{202e}y");
    }

    #[test]
    fn commands_are_quoted_where_a_shell_would_need_it() {
        assert_eq!(command_line(&[b"/usr/bin/rm".as_slice(), b"-rf", b"build"]), "rm -rf build");
        assert_eq!(command_line(&[b"bash".as_slice(), b"-c", b"echo $A"]), "bash -c 'echo $A'");
        assert_eq!(command_line(&[b"echo".as_slice(), b"it's"]), "echo \"it's\"");
        assert_eq!(command_line(&[b"echo".as_slice(), b"it's $A"]), "echo 'it'\\''s $A'");
        assert_eq!(command_line(&[b"echo".as_slice(), b""]), "echo ''");
    }

    #[test]
    fn fitting_counts_columns() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abcde…");
        assert_eq!(fit("日本語", 4), "日…");
    }

    #[test]
    fn paths_are_relative_to_whole_components() {
        assert_eq!(relative(b"/a/b/c", b"/a/b"), "c");
        assert_eq!(relative(b"/a/b", b"/a/b/"), ".");
        assert_eq!(relative(b"/a/bc", b"/a/b"), "/a/bc");
    }
}
