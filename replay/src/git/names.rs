//! Which names git can hold in a tree. `git fsck --strict`, and a checkout, refuse what a system may take for `.git`.

/// What stands in the way of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Somewhere the name means `.git`.
    DotGit,
    /// The name stands for one of git's own files on other systems, or that file is not as git wants it.
    GitFile,
}

/// Whether git takes an entry of this name.
pub(super) fn obstacle(name: &[u8], is_symlink: bool) -> Option<Obstacle> {
    // A system where the backslash parts names sees several here.
    let parts = || name.split(|byte| *byte == b'\\');
    if parts().any(is_dot_git) {
        return Some(Obstacle::DotGit);
    }
    let of = |file: GitFile| parts().any(|part| file.is_meant_by(part));
    let exact = GIT_FILES.iter().any(|file| file.name == name);
    let meant = GIT_FILES.into_iter().any(of);
    (meant && (!exact || is_symlink)).then_some(Obstacle::GitFile)
}

/// Whether the file may hold this, by its name.
pub(super) fn content_obstacle(name: &[u8], content: &[u8]) -> Option<Obstacle> {
    let refused = match name {
        b".gitmodules" => !is_plain_gitmodules(content),
        b".gitattributes" => {
            content.len() > MAX_ATTRIBUTES
                || content.split(|byte| *byte == b'\n').any(|line| line.len() >= MAX_ATTRIBUTE_LINE)
        }
        _ => false,
    };
    refused.then_some(Obstacle::GitFile)
}

/// Whether the content of a file of this name is looked at.
pub(super) fn is_judged_by_content(name: &[u8]) -> bool {
    GIT_FILES.iter().any(|file| file.name == name)
}

/// What git accepts of a `.gitattributes` (attr.h), bytes in all and on one line.
const MAX_ATTRIBUTES: usize = 100 << 20;
const MAX_ATTRIBUTE_LINE: usize = 2048;

/// A file that git itself reads, with the beginnings of its short names on NTFS.
#[derive(Clone, Copy)]
struct GitFile {
    name: &'static [u8],
    short: [&'static [u8]; 2],
}

const GIT_FILES: [GitFile; 2] = [
    GitFile { name: b".gitmodules", short: [b"gitmod~", b"gi7eb"] },
    GitFile { name: b".gitattributes", short: [b"gitatt~", b"gi7d2"] },
];

impl GitFile {
    /// More than git takes for the file: a name too many costs that file, one too few the repository.
    fn is_meant_by(self, name: &[u8]) -> bool {
        let lower = name.to_ascii_lowercase();
        lower.starts_with(self.name)
            || self.short.iter().any(|short| lower.starts_with(short))
            || visible(name).is_some_and(|visible| visible.starts_with(self.name))
    }
}

/// `.git` as NTFS and HFS+ know it: without regard to case, trailing dots and spaces, streams, and characters that are not seen.
fn is_dot_git(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let rest = lower.strip_prefix(b".git").or_else(|| lower.strip_prefix(b"git~1"));
    let on_ntfs = rest.is_some_and(|rest| {
        let end = rest.iter().find(|byte| !matches!(byte, b'.' | b' '));
        matches!(end, None | Some(b':'))
    });
    on_ntfs || visible(name).is_some_and(|visible| visible == b".git")
}

/// The name in lower case without the characters that HFS+ ignores, where it has some.
fn visible(name: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(name).ok()?;
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let seen = || text.chars().filter(|c| !ignored(*c));
    text.contains(ignored).then(|| seen().collect::<String>().to_ascii_lowercase().into_bytes())
}

/// Whether every line is one that git is sure to take. It refuses names, paths and addresses that have led to execution.
fn is_plain_gitmodules(content: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(content) else { return false };
    text.lines().map(str::trim).all(|line| {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return true;
        }
        if let Some(name) = line.strip_prefix("[submodule \"") {
            return name.strip_suffix("\"]").is_some_and(is_plain_path);
        }
        let Some((key, value)) = line.split_once('=') else { return false };
        let value = value.trim();
        match key.trim() {
            "path" | "branch" => is_plain_path(value),
            "url" => is_plain_url(value),
            "update" => matches!(value, "checkout" | "rebase" | "merge" | "none"),
            "ignore" | "shallow" | "fetchRecurseSubmodules" => is_word(value),
            _ => false,
        }
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_plain_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(plain)
        && text.split('/').all(|part| part != "..")
}

fn is_plain_url(text: &str) -> bool {
    let known = ["https://", "http://", "ssh://", "git://", "git@"];
    let rest = known.iter().find_map(|scheme| text.strip_prefix(scheme));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@~+-".contains(&byte);
    rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphanumeric()) && rest.bytes().all(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_system_takes_for_git_is_refused() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            "git~1:x",
            "a\\.git",
            ".git\\config",
            ".g\u{200c}it",
            "\u{feff}.GIT",
        ] {
            assert_eq!(obstacle(name.as_bytes(), false), Some(Obstacle::DotGit), "{name:?}");
        }
        for name in [
            ".gitignore",
            ".github",
            "git",
            "git~2",
            "x.git",
            ".gitx",
            "a b",
            "\u{200c}",
            ".gitmodules",
            ".gitattributes",
        ] {
            assert_eq!(obstacle(name.as_bytes(), false), None, "{name:?}");
        }
        for name in
            [".GITMODULES", "gitmod~1", "GI7EBA~1", ".gitattributes ", ".gitmo\u{200d}dules"]
        {
            assert_eq!(obstacle(name.as_bytes(), false), Some(Obstacle::GitFile), "{name:?}");
        }
        assert_eq!(obstacle(b".gitmodules", true), Some(Obstacle::GitFile));
        assert_eq!(obstacle(b"\xff.git", false), None);
    }

    #[test]
    fn gitmodules_are_taken_where_they_are_plain() {
        let plain = "# ours\n[submodule \"libs/x\"]\n\tpath = libs/x\n\turl = https://host.example/x.git\n\tbranch = main\n";
        assert_eq!(content_obstacle(b".gitmodules", plain.as_bytes()), None);
        for bad in [
            "[submodule \"../x\"]",
            "url = -upayload",
            "url = ../../:x",
            "url = https://h/%0ahost=x",
            "path = -x",
            "update = !sh",
            "path = a\\",
            "\u{1}",
        ] {
            let found = content_obstacle(b".gitmodules", bad.as_bytes());
            assert_eq!(found, Some(Obstacle::GitFile), "{bad:?}");
        }
        assert_eq!(content_obstacle(b".gitattributes", b"*.rs diff=rust\n"), None);
        assert!(content_obstacle(b".gitattributes", &[b'x'; 4000]).is_some());
    }
}
