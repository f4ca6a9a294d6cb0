//! Secrets in argument vectors, where a flag and its value may be two arguments.

use std::borrow::Cow;

use super::names::{Strength, is_placeholder, strength};
use super::{Redactor, headers, pairs};

/// What the argument before announced.
#[derive(Clone, Copy)]
enum Expected {
    Nothing,
    /// The value of a flag with this kind.
    Secret(&'static str),
    /// The value of a flag that says little by itself, such as `--key`.
    Maybe(&'static str),
    /// `user:password`.
    UserPassword,
    /// `Name: value`.
    Header,
    /// A cookie or the name of a cookie file.
    Cookie,
}

impl Redactor {
    /// The arguments of a program with `argv[0]` first: flags with secret names, credentials, headers, known shapes.
    pub fn argv<'t>(&self, argv: &'t [impl AsRef<[u8]>]) -> Vec<Cow<'t, [u8]>> {
        let program = argv.first().map_or(&b""[..], |arg| basename(arg.as_ref()));
        let mut expected = Expected::Nothing;
        let mut out = Vec::with_capacity(argv.len());
        for (i, arg) in argv.iter().enumerate() {
            let arg = arg.as_ref();
            let now = std::mem::replace(&mut expected, Expected::Nothing);
            if let Some(value) = self.announced(now, arg) {
                out.push(value);
                continue;
            }
            if i > 0 {
                expected = announces(program, arg);
            }
            out.push(if i == 0 { self.text(arg) } else { self.argument(program, arg) });
        }
        out
    }

    /// The value of the flag before, or `None` where `arg` is not one.
    fn announced<'t>(&self, expected: Expected, arg: &'t [u8]) -> Option<Cow<'t, [u8]>> {
        let looked_through = self.text(arg);
        match expected {
            Expected::Nothing => None,
            Expected::Secret(_) | Expected::Maybe(_) if arg.starts_with(b"--") => None,
            Expected::Secret(kind) => (!is_placeholder(arg)).then(|| self.whole(arg, kind)),
            Expected::Maybe(kind) => {
                pairs::is_weak_value(kind.as_bytes(), arg).then(|| self.whole(arg, kind))
            }
            Expected::UserPassword => {
                headers::user_password(arg).map(|(from, _)| self.tail(arg, from, "password"))
            }
            Expected::Header => Some(self.header_line(arg)),
            Expected::Cookie if arg.contains(&b'=') => Some(self.whole(arg, "cookie")),
            Expected::Cookie => Some(looked_through),
        }
    }

    /// One argument by itself.
    fn argument<'t>(&self, program: &[u8], arg: &'t [u8]) -> Cow<'t, [u8]> {
        let is_curl = is_http_client(program);
        let mysql = [&b"mysql"[..], b"mysqldump", b"mysqladmin", b"mariadb", b"mariadb-dump"];
        if arg.starts_with(b"--")
            && let Some(equals) = arg.iter().position(|b| *b == b'=')
        {
            let (name, value) = (&arg[2..equals], &arg[equals + 1..]);
            let secret = match strength(name) {
                Some(Strength::Strong) => !is_placeholder(value),
                Some(Strength::Weak) => pairs::is_weak_value(name, value) || is_token(name),
                None => false,
            };
            if secret && !value.is_empty() {
                return self.tail(arg, equals + 1, pairs::kind(name));
            }
            if is_user(name)
                && let Some((from, _)) = headers::user_password(value)
            {
                return self.tail(arg, equals + 1 + from, "password");
            }
        }
        if is_curl && arg.starts_with(b"-H") && arg.len() > 2 {
            return self.after(arg, 2, |rest| self.header_line(rest));
        }
        if is_curl
            && arg.starts_with(b"-u")
            && let Some((from, _)) = headers::user_password(&arg[2..])
        {
            return self.tail(arg, 2 + from, "password");
        }
        if mysql.contains(&program) && arg.starts_with(b"-p") && arg.len() > 2 {
            return self.tail(arg, 2, "password");
        }
        if arg.starts_with(b"pass:") && arg.len() > 5 {
            return self.tail(arg, 5, "password");
        }
        self.text(arg)
    }

    fn tail<'t>(&self, arg: &'t [u8], from: usize, kind: &'static str) -> Cow<'t, [u8]> {
        self.after(arg, from, |rest| self.whole(rest, kind))
    }

    fn after<'t>(
        &self,
        arg: &'t [u8],
        from: usize,
        redact: impl Fn(&'t [u8]) -> Cow<'t, [u8]>,
    ) -> Cow<'t, [u8]> {
        match redact(&arg[from..]) {
            Cow::Borrowed(_) => Cow::Borrowed(arg),
            Cow::Owned(rest) => Cow::Owned([&arg[..from], &rest].concat()),
        }
    }
}

fn announces(program: &[u8], arg: &[u8]) -> Expected {
    let name = match arg {
        [b'-', b'-', name @ ..] => name,
        [b'-', name @ ..] if name.len() > 2 => name,
        [b'-', flag] => {
            return match flag {
                b'u' if is_http_client(program) => Expected::UserPassword,
                b'H' if is_http_client(program) => Expected::Header,
                b'b' if program == b"curl" => Expected::Cookie,
                b'p' if program == b"sshpass" => Expected::Secret("password"),
                b'a' if program == b"redis-cli" => Expected::Secret("password"),
                b'w' if program.starts_with(b"ldap") => Expected::Secret("password"),
                b'p' if [&b"docker"[..], b"podman", b"mongo", b"mongosh"].contains(&program) => {
                    Expected::Maybe("password")
                }
                _ => Expected::Nothing,
            };
        }
        _ => return Expected::Nothing,
    };
    match name {
        _ if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) => {
            Expected::Nothing
        }
        b"header" | b"proxy-header" => Expected::Header,
        b"cookie" => Expected::Cookie,
        _ if is_user(name) => Expected::UserPassword,
        _ => match strength(name) {
            Some(Strength::Strong) => Expected::Secret(pairs::kind(name)),
            Some(Strength::Weak) if is_token(name) => Expected::Secret("token"),
            Some(Strength::Weak) => Expected::Maybe(pairs::kind(name)),
            None => Expected::Nothing,
        },
    }
}

/// `--token` alone is weak in prose but plain as a flag.
fn is_token(name: &[u8]) -> bool {
    name.ends_with(b"token") || name.ends_with(b"auth")
}

fn is_user(name: &[u8]) -> bool {
    matches!(name, b"user" | b"proxy-user" | b"userpass" | b"userpwd" | b"creds")
}

fn is_http_client(program: &[u8]) -> bool {
    matches!(
        program,
        b"curl" | b"wget" | b"http" | b"https" | b"xh" | b"xhs" | b"httpie" | b"curlie"
    )
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}
