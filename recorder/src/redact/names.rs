//! What a name says about its value, and what a value says of itself: no bytes of the run are changed here.

/// How sure a name makes us that its value is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// `key`, `token`, `session`: the value must also look random.
    Weak,
    /// `password`, `api_key`, `client_secret`: whatever the value is.
    Strong,
}

/// Environment variables whose values are kept, though still searched for key shapes.
#[rustfmt::skip]
const HARMLESS_ENV: &[&str] = &[
    "PATH", "HOME", "LANG", "LANGUAGE", "TERM", "SHELL", "USER", "LOGNAME", "PWD", "OLDPWD",
    "SHLVL", "TZ", "TMPDIR", "TEMP", "TMP", "EDITOR", "VISUAL", "PAGER", "LESS", "LESSOPEN",
    "LESSCLOSE", "LS_COLORS", "COLORTERM", "COLUMNS", "LINES", "DISPLAY", "WAYLAND_DISPLAY",
    "DESKTOP_SESSION", "WINDOWID", "HOST", "HOSTNAME", "HOSTTYPE", "MAIL", "_", "NO_COLOR",
    "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "DEBIAN_FRONTEND", "VIRTUAL_ENV",
    "VIRTUAL_ENV_PROMPT", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_ROOT", "PYENV_VERSION",
    "NVM_DIR", "NODE_ENV", "NODE_PATH", "NODE_OPTIONS", "JAVA_HOME", "GOPATH", "GOROOT",
    "GOFLAGS", "CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS", "RUST_LOG", "RUST_BACKTRACE", "CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS",
    "LDFLAGS", "MAKEFLAGS", "MAKELEVEL", "LD_LIBRARY_PATH", "LD_PRELOAD", "MANPATH", "INFOPATH",
    "PKG_CONFIG_PATH", "SSH_AUTH_SOCK", "SSH_TTY", "DBUS_SESSION_BUS_ADDRESS", "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_EDITOR", "GIT_PAGER",
    "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
];

/// Starts of names of harmless variables.
const HARMLESS_ENV_PREFIXES: &[&str] = &["LC_", "PYTHON", "XDG_", "AGENTREC_", "TERM_PROGRAM"];

/// Words that are a secret by themselves.
const STRONG: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "pgpassword",
    "sshpass",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "apikey",
    "apikeys",
    "accesskey",
    "secretkey",
    "privatekey",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "clientsecret",
    "mnemonic",
];

/// Ends of words that are written together: `dbpassword`.
const STRONG_ENDS: &[&str] =
    &["password", "passwd", "passphrase", "secret", "apikey", "accesskey", "secretkey"];

/// Words that make `key` a secret.
#[rustfmt::skip]
const KEY_OF: &[&str] = &[
    "api", "access", "account", "private", "secret", "encryption", "encrypt", "signing", "sign",
    "signature", "master", "auth", "client", "service", "storage", "shared", "deploy", "license",
    "admin", "app", "application", "jwt", "hmac", "crypto", "webhook", "subscription", "openai",
    "anthropic", "aws", "azure", "stripe", "server", "write",
];

/// Words that make `token` a secret.
const TOKEN_OF: &[&str] = &[
    "access", "refresh", "auth", "api", "bearer", "id", "session", "bot", "oauth", "oauth2",
    "csrf", "xsrf", "security", "personal", "private", "deploy", "github", "gitlab", "npm", "pypi",
    "slack", "hf", "vault", "service", "user", "admin", "account", "device", "sso", "jwt",
];

/// Words that make a secret only of a value that looks like one.
const WEAK: &[&str] = &[
    "key",
    "token",
    "auth",
    "authorization",
    "pass",
    "pwd",
    "session",
    "sessionid",
    "sid",
    "cookie",
    "cookies",
    "signature",
    "sig",
    "jwt",
    "bearer",
    "dsn",
    "otp",
    "pin",
    "webhook",
    "csrf",
    "nonce",
];

/// Words that take the sense of a secret from the name: what follows describes the secret.
#[rustfmt::skip]
const HARMLESS_LAST: &[&str] = &[
    "id", "ids", "name", "names", "type", "types", "count", "counts", "limit", "limits", "usage",
    "length", "len", "size", "path", "paths", "file", "files", "filename", "dir", "env", "var",
    "field", "column", "label", "hint", "help", "policy", "rules", "min", "max", "expiry",
    "expires", "expiration", "ttl", "age", "index", "idx", "url", "uri", "endpoint", "prefix",
    "suffix", "format", "version", "manager", "provider", "store", "required", "enabled", "error",
    "algorithm", "alg", "bits", "map", "style", "code", "codes", "press", "down", "up", "board",
    "fingerprint", "method", "mode", "status", "time",
];

/// Words that make `key` and `token` harmless.
#[rustfmt::skip]
const HARMLESS_OF: &[&str] = &[
    "cache", "primary", "foreign", "sort", "partition", "public", "pub", "index", "object", "row",
    "map", "dict", "registry", "lookup", "group", "hot", "shortcut", "unique", "composite",
    "idempotency", "page", "next", "continuation", "sync", "start", "end", "stop", "pad", "eos",
    "bos", "mask", "special", "unk", "max", "min", "num", "total", "prompt", "completion", "host",
    "arrow", "up", "down",
];

/// The words of a name: `apiKey`, `API_KEY` and `x-api-key` all hold `api` and `key`.
fn words(name: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for (i, &byte) in name.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| name[i]);
        let camel = byte.is_ascii_uppercase()
            && (before.is_some_and(|b| b.is_ascii_lowercase())
                || before.is_some_and(|b| b.is_ascii_uppercase())
                    && name.get(i + 1).is_some_and(u8::is_ascii_lowercase));
        if (camel || !byte.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What `name` says about its value; `None` for a harmless one.
pub(super) fn strength(name: &[u8]) -> Option<Strength> {
    let words = words(name);
    let last = words.last()?.trim_end_matches(|c: char| c.is_ascii_digit());
    let has = |list: &[&str], word: &str| list.contains(&word);
    if words.len() > 1 && has(HARMLESS_LAST, last) && !has(WEAK, last) {
        return None;
    }
    let before = words.len().checked_sub(2).map(|i| words[i].as_str());
    let strong_word =
        |word: &String| has(STRONG, word) || STRONG_ENDS.iter().any(|end| word.ends_with(end));
    if words.iter().any(strong_word) {
        return Some(Strength::Strong);
    }
    match (last, before) {
        ("key" | "keys" | "token", Some(of)) if has(HARMLESS_OF, of) => None,
        ("key", Some(of)) if has(KEY_OF, of) => Some(Strength::Strong),
        ("token", Some(of)) if has(TOKEN_OF, of) => Some(Strength::Strong),
        ("pwd" | "pass", Some(_)) => Some(Strength::Strong),
        _ if has(WEAK, last) || words.iter().any(|w| has(WEAK, w) && w != "pass") => {
            Some(Strength::Weak)
        }
        _ if last.ends_with("token") => Some(Strength::Weak),
        _ => None,
    }
}

/// Whether the value of this environment variable may be kept.
pub(super) fn is_harmless_env(name: &[u8]) -> bool {
    if HARMLESS_ENV.iter().any(|n| name == n.as_bytes()) {
        return true;
    }
    HARMLESS_ENV_PREFIXES.iter().any(|p| name.starts_with(p.as_bytes())) && strength(name).is_none()
}

/// Whether a parameter of a URL's query is a secret under this name, beside what [`strength`] says.
pub(super) fn is_query_secret(name: &[u8]) -> bool {
    [&b"code"[..], b"sv_sig", b"se_sig", b"hash", b"hmac", b"ticket", b"assertion"]
        .iter()
        .any(|n| name.eq_ignore_ascii_case(n))
}

/// Whether `value` stands for a secret that is elsewhere: a variable, a template, stars, a word of a language.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: &[&str] = &[
        "null",
        "none",
        "nil",
        "true",
        "false",
        "undefined",
        "string",
        "str",
        "bytes",
        "int",
        "bool",
        "any",
        "self",
        "required",
        "optional",
        "redacted",
        "not",
        "set",
        "unset",
        "missing",
        "empty",
        "invalid",
        "expired",
        "and",
        "or",
        "is",
        "the",
        "a",
        "your",
        "yes",
        "no",
        "option",
        "options",
        "flag",
        "flags",
        "argument",
        "arguments",
        "parameter",
        "instead",
        "as",
        "to",
        "for",
        "from",
        "in",
        "on",
        "with",
        "prompt",
        "input",
    ];
    let Some(&first) = value.first() else { return true };
    WORDS.iter().any(|w| value.eq_ignore_ascii_case(w.as_bytes()))
        || matches!(first, b'$' | b'<' | b'{' | b'[' | b'(' | b'%')
            && !value.starts_with(b"$2")
            && !value.starts_with(b"$argon2")
            && value.len() < 64
            && (first != b'$' || value[1..].iter().all(|b| is_word(*b) || b"{}():.-?".contains(b)))
        || (value.len() > 2 && value.iter().all(|b| b"*.xX-_ \xe2\x80\xa2\xa6".contains(b)))
}

/// Whether `value` is random enough to be a key: long, of several classes of characters, without the shape of a path or words.
pub(super) fn looks_random(value: &[u8]) -> bool {
    if value.len() < 12 || value.len() > 4096 {
        return false;
    }
    let class = |f: fn(&u8) -> bool| value.iter().filter(|b| f(b)).count();
    let digits = class(u8::is_ascii_digit);
    let lower = class(u8::is_ascii_lowercase);
    let upper = class(u8::is_ascii_uppercase);
    let other = value.len() - digits - lower - upper;
    if value.iter().any(|b| !(b.is_ascii_graphic())) || other * 4 > value.len() {
        return false;
    }
    let mixed = usize::from(digits >= 2) + usize::from(lower >= 2) + usize::from(upper >= 2);
    mixed >= 2 && !reads_as_words(value) && entropy(value) >= 3.0
}

/// Whether the value is words, numbers and separators, such as a path, a version or `some-long-name-2024`.
fn reads_as_words(value: &[u8]) -> bool {
    value.split(|b| !b.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).all(|part| {
        let digits = part.iter().take_while(|b| b.is_ascii_digit()).count();
        let rest = &part[digits..];
        let letters = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let word = &rest[..letters];
        let tail_digits = rest[letters..].iter().all(u8::is_ascii_digit);
        let one_case = word.iter().skip(1).all(u8::is_ascii_lowercase)
            || word.iter().all(u8::is_ascii_uppercase);
        part.len() < 14 && tail_digits && one_case && (digits == 0 || word.len() < 4)
    })
}

/// Shannon entropy in bits per byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in value {
        counts[usize::from(byte)] += 1;
    }
    let len = value.len() as f64;
    counts
        .iter()
        .filter(|&&n| n > 0)
        .map(|&n| {
            let p = f64::from(n) / len;
            -p * p.log2()
        })
        .sum()
}

/// Whether the value is a hexadecimal digest or a UUID, which are mostly names of things.
pub(super) fn is_digest_or_uuid(value: &[u8]) -> bool {
    let hex = value.iter().filter(|b| b.is_ascii_hexdigit()).count();
    let dashes = value.iter().filter(|&&b| b == b'-').count();
    (dashes == 0 && hex == value.len() && matches!(hex, 32 | 40 | 56 | 64 | 96 | 128))
        || (value.len() == 36 && dashes == 4 && hex == 32)
}

/// A byte of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_word_by_word() {
        for name in [
            "password",
            "DB_PASSWORD",
            "dbPassword",
            "apiKey",
            "x-api-key",
            "AWS_SECRET_ACCESS_KEY",
            "client_secret",
            "PGPASSWORD",
            "MYSQL_PWD",
            "access_token",
            "_authToken",
            "GITHUB_TOKEN",
        ] {
            assert_eq!(strength(name.as_bytes()), Some(Strength::Strong), "{name}");
        }
        for name in ["key", "ACME_KEY", "token", "AUTH", "session", "csrftoken"] {
            assert_eq!(strength(name.as_bytes()), Some(Strength::Weak), "{name}");
        }
        for name in [
            "AUTHOR",
            "KEYBOARD",
            "MONKEY",
            "tokenizer",
            "max_tokens",
            "prompt_tokens",
            "cache_key",
            "public_key",
            "key_id",
            "keyCode",
            "password_policy",
            "compass",
            "passed",
            "secretary",
            "hockey",
        ] {
            assert_eq!(strength(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn randomness_is_not_words() {
        for value in ["9f86d081884c7d65", "wJalrXUtnFEMIK7MDENGbPxRfiCY", "aB3xK9pQ2mZ7"] {
            assert!(looks_random(value.as_bytes()), "{value}");
        }
        for value in
            ["/usr/lib/python3/dist-packages", "some-long-name-2024", "short", "aaaaaaaaaaaaaaaa1"]
        {
            assert!(!looks_random(value.as_bytes()), "{value}");
        }
    }
}
