//! The rules of an audit: a TOML file with what must not be done (`deny`) and exceptions from that (`allow`).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use toml::Spanned;

use super::hosts::{Pattern, Peer};
use crate::error::{WithHint, with_hint};

/// Longer files are no rules, bytes.
const MAX_FILE: u64 = 1 << 20;

const HINT: &str = "keys are deny.read, deny.write, deny.exec, deny.connect and the same with allow (lists of patterns), \
     deny.secrets and deny.lost (true or false)";

/// A rules file, as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RulesFile {
    deny: Deny,
    allow: Allow,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Deny {
    read: Vec<Spanned<String>>,
    write: Vec<Spanned<String>>,
    exec: Vec<Spanned<String>>,
    connect: Vec<Spanned<String>>,
    secrets: bool,
    lost: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Allow {
    read: Vec<Spanned<String>>,
    write: Vec<Spanned<String>>,
    exec: Vec<Spanned<String>>,
    connect: Vec<Spanned<String>>,
}

/// What patterns are relative to.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Working directory of the session.
    pub cwd: PathBuf,
    /// Home directory of the session's user, where the trace tells it.
    pub home: Option<PathBuf>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reading a file.
    Read,
    /// Changing a file.
    Write,
    /// Executing a program.
    Exec,
}

/// A rule that was broken: its position among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule(usize);

/// Rules, ready to be asked.
#[derive(Debug, Default)]
pub struct Rules {
    /// The file, as it was named.
    pub file: String,
    /// What each rule says: `deny.write /etc/**`.
    texts: Vec<String>,
    read: Globs,
    write: Globs,
    exec: Globs,
    connect: Vec<(Rule, Pattern)>,
    allow_connect: Vec<Pattern>,
    secrets: Option<Rule>,
    lost: Option<Rule>,
}

#[derive(Debug, Default)]
struct Globs {
    deny: GlobSet,
    rules: Vec<Rule>,
    allow: GlobSet,
}

impl Globs {
    /// The first rule that denies one of the names of a file, where no exception is made for that name.
    fn denies(&self, names: &[&[u8]]) -> Option<Rule> {
        names.iter().find_map(|name| {
            let name = Path::new(std::ffi::OsStr::from_bytes(name));
            let denied = self.deny.matches(name);
            let first = denied.first().filter(|_| !self.allow.is_match(name))?;
            self.rules.get(*first).copied()
        })
    }
}

impl Rules {
    /// Reads a file.
    pub fn read(path: &Path, place: &Place) -> Result<Self> {
        let shown = path.display().to_string();
        let cannot = || format!("cannot read the rules {shown}");
        let file = File::open(path).with_context(cannot)?;
        let mut text = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut text).with_context(cannot)?;
        if text.len() as u64 > MAX_FILE {
            bail!("cannot read the rules {shown}: longer than 1 MiB");
        }
        let text = String::from_utf8(text).map_err(|_| anyhow!("{}: not UTF-8", cannot()))?;
        Self::parse(&text, &shown, place)
    }

    /// Rules from the text of a file.
    pub fn parse(text: &str, file: &str, place: &Place) -> Result<Self> {
        let at = |span: Option<std::ops::Range<usize>>, why: String| {
            let line =
                span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let (number, line) = match line {
                Some(line) => (format!(":{line}"), text.lines().nth(line - 1).unwrap_or_default()),
                None => (String::new(), ""),
            };
            let line = match line.trim() {
                "" => String::new(),
                line => format!(
                    ": `{}`",
                    crate::output::fit(&crate::output::printable_line(line.as_bytes()), 80)
                ),
            };
            let why = crate::output::printable_line(why.trim().as_bytes());
            with_hint(anyhow!("cannot use the rules {file}{number}{line}: {why}"), HINT)
        };
        let found: RulesFile =
            toml::from_str(text).map_err(|e| at(e.span(), e.message().to_owned()))?;
        let mut rules = Self { file: file.to_owned(), ..Self::default() };
        let RulesFile { deny, allow } = found;
        for (kind, name, deny, allow) in [
            (Kind::Read, "read", deny.read, allow.read),
            (Kind::Write, "write", deny.write, allow.write),
            (Kind::Exec, "exec", deny.exec, allow.exec),
        ] {
            let mut globs = Globs::default();
            let build = |patterns: &[Spanned<String>], key: &str| {
                let mut set = GlobSetBuilder::new();
                for pattern in patterns {
                    let wrong =
                        |why: String| at(Some(pattern.span()), format!("{key}.{name}: {why}"));
                    let glob = absolute(pattern.as_ref(), place).map_err(wrong)?;
                    let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                    set.add(glob.map_err(|e| {
                        wrong(format!("`{}` is no pattern: {}", pattern.as_ref(), e.kind()))
                    })?);
                }
                set.build().map_err(|e| at(None, format!("{key}.{name}: {e}")))
            };
            globs.deny = build(&deny, "deny")?;
            globs.allow = build(&allow, "allow")?;
            globs.rules = deny.iter().map(|pattern| rules.add(name, pattern.as_ref())).collect();
            *rules.globs_mut(kind) = globs;
        }
        let peer = |pattern: &Spanned<String>, key: &str| {
            let text: &String = pattern.as_ref();
            Pattern::parse(text).map_err(|why| {
                at(Some(pattern.span()), format!("{key}.connect: `{text}` is no host: {why}"))
            })
        };
        for pattern in &deny.connect {
            let parsed = peer(pattern, "deny")?;
            let rule = rules.add("connect", pattern.as_ref());
            rules.connect.push((rule, parsed));
        }
        rules.allow_connect =
            allow.connect.iter().map(|pattern| peer(pattern, "allow")).collect::<Result<_>>()?;
        rules.secrets = deny.secrets.then(|| rules.add("secrets", ""));
        rules.lost = deny.lost.then(|| rules.add("lost", ""));
        if rules.texts.is_empty() {
            return Err(anyhow!("cannot use the rules {file}: they deny nothing")).hint(HINT);
        }
        Ok(rules)
    }

    fn add(&mut self, key: &str, pattern: &str) -> Rule {
        self.texts.push(format!("deny.{key} {pattern}").trim_end().to_owned());
        Rule(self.texts.len() - 1)
    }

    fn globs_mut(&mut self, kind: Kind) -> &mut Globs {
        match kind {
            Kind::Read => &mut self.read,
            Kind::Write => &mut self.write,
            Kind::Exec => &mut self.exec,
        }
    }

    /// What a rule says.
    pub fn text(&self, rule: Rule) -> &str {
        self.texts.get(rule.0).map_or("", |text| text)
    }

    /// The rule against doing that to a file with these names.
    pub fn denies(&self, kind: Kind, names: &[&[u8]]) -> Option<Rule> {
        match kind {
            Kind::Read => &self.read,
            Kind::Write => &self.write,
            Kind::Exec => &self.exec,
        }
        .denies(names)
    }

    /// The rule against talking to a peer.
    pub fn denies_peer(&self, peer: Peer<'_>) -> Option<Rule> {
        let (rule, _) = self.connect.iter().find(|(_, pattern)| pattern.matches(peer))?;
        (!self.allow_connect.iter().any(|pattern| pattern.matches(peer))).then_some(*rule)
    }

    /// The rule against reading secret files.
    pub fn secrets(&self) -> Option<Rule> {
        self.secrets
    }

    /// The rule against what was not seen.
    pub fn lost(&self) -> Option<Rule> {
        self.lost
    }

    /// Rules that speak of hosts by name.
    pub fn by_name(&self) -> impl Iterator<Item = &str> {
        self.connect.iter().filter(|(_, p)| p.needs_name()).map(|(rule, _)| self.text(*rule))
    }
}

/// A pattern for absolute paths: one without a slash means a name anywhere, `~` the user's home, a relative one is below
/// the session's directory.
fn absolute(pattern: &str, place: &Place) -> Result<String, String> {
    if pattern.is_empty() {
        return Err("an empty pattern matches nothing".into());
    }
    let below = |directory: &Path, rest: &str| match directory.to_str() {
        Some(directory) => {
            Ok(format!("{}/{rest}", globset::escape(directory).trim_end_matches('/')))
        }
        None => Err("the session's directory is not UTF-8: write absolute patterns".to_owned()),
    };
    if pattern.starts_with('/') || pattern.starts_with("**") {
        return Ok(pattern.to_owned());
    }
    if let Some(rest) = pattern.strip_prefix("~/") {
        return match &place.home {
            Some(home) => below(home, rest),
            None => Err("this trace does not tell what `~` is: write an absolute pattern".into()),
        };
    }
    match pattern.strip_prefix("./") {
        Some(rest) => below(&place.cwd, rest),
        None if pattern.contains('/') => below(&place.cwd, pattern),
        None => Ok(format!("**/{pattern}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { cwd: "/w/a[1]".into(), home: Some("/home/u".into()) }
    }

    fn rules(text: &str) -> Rules {
        Rules::parse(text, "rules.toml", &place()).unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn mistake(text: &str) -> String {
        Rules::parse(text, "rules.toml", &place())
            .map(drop)
            .map_err(|e| format!("{e:#}"))
            .expect_err(text)
    }

    #[test]
    fn patterns_mean_paths_names_and_places() {
        let rules = rules(
            "deny.write = ['/etc/**', '~/.ssh/*', 'src/*.rs', './.git/**', '*.pem']\nallow.write = ['/etc/x/*', 'ok.pem']",
        );
        let denied =
            |path: &str| rules.denies(Kind::Write, &[path.as_bytes()]).map(|rule| rules.text(rule));
        for (path, rule) in [
            ("/etc/passwd", Some("deny.write /etc/**")),
            ("/etc/x/y", None),
            ("/etc/x/y/z", Some("deny.write /etc/**")),
            ("/etc", None),
            ("/home/u/.ssh/config", Some("deny.write ~/.ssh/*")),
            ("/home/v/.ssh/config", None),
            ("/w/a[1]/src/a.rs", Some("deny.write src/*.rs")),
            ("/w/a[1]/src/b/a.rs", None),
            ("/w/a1/src/a.rs", None),
            ("/w/a[1]/.git/hooks/x", Some("deny.write ./.git/**")),
            ("/anywhere/key.pem", Some("deny.write *.pem")),
            ("/anywhere/ok.pem", None),
        ] {
            assert_eq!(denied(path), rule, "{path}");
        }
        assert_eq!(rules.denies(Kind::Read, &[b"/etc/passwd"]), None);
        // One name is as good as another; an exception is for the name that it names.
        assert!(rules.denies(Kind::Write, &[b"/w/link", b"/etc/passwd"]).is_some());
        assert!(rules.denies(Kind::Write, &[b"/etc/x/y", b"/etc/passwd"]).is_some());
    }

    #[test]
    fn peers_are_denied_but_for_exceptions() {
        let rules = rules(
            "[deny]\nconnect = ['*:22', '10.0.0.0/8', 'example.org']\nlost = true\n[allow]\nconnect = ['10.0.0.1']",
        );
        let denied = |address: &str, port| {
            rules.denies_peer(Peer::Ip(address.parse().expect("an address"), port))
        };
        assert!(denied("10.0.0.2", 80).is_some() && denied("1.1.1.1", 22).is_some());
        assert!(denied("10.0.0.1", 80).is_none() && denied("1.1.1.1", 80).is_none());
        assert_eq!(rules.by_name().collect::<Vec<_>>(), ["deny.connect example.org"]);
        assert!(rules.lost().is_some() && rules.secrets().is_none());
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (text, parts) in [
            ("deny.wirte = []", &["rules.toml:1", "wirte", "expected one of", "write"][..]),
            ("\n[deny]\nwrite = '/etc/**'", &["rules.toml:3", "write = '/etc/**'", "sequence"]),
            (
                "[deny]\nread = ['a']\nwrite = [\n 'ok',\n '[z-a]']",
                &["rules.toml:5", "deny.write", "[z-a]"],
            ),
            (
                "[deny]\nconnect = ['10.0.0.0/33']",
                &["rules.toml:2", "deny.connect", "10.0.0.0/33", "0 to 32"],
            ),
            ("[allow]\nconnect = ['a b']", &["rules.toml:2", "allow.connect", "a b"]),
            ("[deny]\nlost = 'yes'", &["rules.toml:2", "lost", "boolean"]),
            ("deny = ", &["rules.toml:1"]),
            ("[allow]\nlost = true", &["rules.toml:2", "lost"]),
            ("denied.write = []", &["rules.toml:1", "denied"]),
            ("[deny]\nwrite = ['']", &["rules.toml:2", "deny.write", "empty"]),
            ("", &["rules.toml", "deny nothing"]),
            ("deny.lost = false", &["deny nothing"]),
        ] {
            let said = mistake(text);
            for part in parts {
                assert!(said.contains(part), "{text:?}: no {part:?} in {said}");
            }
        }
        let nowhere = Place { cwd: "/w".into(), home: None };
        let said = Rules::parse("deny.read = ['~/x']", "r", &nowhere).expect_err("no home");
        assert!(format!("{said:#}").contains('~'), "{said:#}");
        assert!(!mistake("deny.write = ['\u{1b}[31m['").contains('\u{1b}'));
    }
}
