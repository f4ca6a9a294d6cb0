//! Which files hold secrets: their contents stay in the local store and never enter a trace or a bundle.
//!
//! A file is judged by its name first, which needs no read, and by the head of its content where the name says
//! nothing. The rules err towards secret: the cost of a wrong "yes" is a content that is kept in the store alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::capture::pattern_error;
use crate::error::Result;

/// Bytes from the start of a file that [`is_secret`] wants to see.
pub const HEAD_LEN: usize = 4096;

/// File names that hold secrets wherever they stand.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    ".npmrc", ".yarnrc.yml", ".netrc", "_netrc", ".authinfo", ".pypirc", ".pgpass", ".my.cnf",
    ".mylogin.cnf", ".git-credentials", ".htpasswd", ".envrc", ".vault-token", ".terraformrc",
    ".s3cfg", ".boto", ".dockercfg", ".rclone.conf", "rclone.conf", "credentials.tfrc.json",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk",
    "ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key", "master.key",
    ".credentials.json", "service-account.json", "service_account.json",
    "application_default_credentials.json", "access_tokens.db", "credentials.db", "secrets.yml",
    "secrets.yaml", "secrets.json", "secrets.toml", "terraform.tfstate",
    "terraform.tfstate.backup", "login.keyring", "Login Data", "cookies.sqlite", "logins.json",
    "key4.db",
];

/// Names that hold secrets only in a certain place, as the last components of a path.
#[rustfmt::skip]
const PLACES: &[&str] = &[
    "etc/shadow", "etc/gshadow", ".ssh/identity", ".aws/credentials", ".aws/config",
    ".azure/accessTokens.json", ".azure/azureProfile.json", ".azure/msal_token_cache.json",
    ".azure/msal_token_cache.bin", ".docker/config.json", ".kube/config", ".cargo/credentials",
    ".cargo/credentials.toml", ".gem/credentials", ".config/gh/hosts.yml",
    ".config/glab-cli/config.yml", ".config/hub", ".config/git/credentials",
    ".composer/auth.json", ".config/composer/auth.json", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".nuget/NuGet/NuGet.Config",
    ".config/pip/pip.conf", ".pip/pip.conf", ".bundle/config", ".config/op/config",
    ".config/doctl/config.yaml", ".config/hcloud/cli.toml", ".config/netlify/config.json",
    ".config/configstore/firebase-tools.json", ".fly/config.yml", ".oci/config", ".databrickscfg",
    ".snowflake/connections.toml", ".kaggle/kaggle.json", ".config/ngrok/ngrok.yml",
    ".ngrok2/ngrok.yml", ".netlify/config.json", ".codex/auth.json", ".claude/.credentials.json",
    ".claude.json", ".gemini/oauth_creds.json", ".gemini/mcp-oauth-tokens.json",
    ".gemini/a2a-oauth-tokens.json", ".gemini/gemini-credentials.json", ".pi/agent/auth.json",
    ".pi/agent/oauth.json", ".local/share/opencode/mcp-auth.json", ".config/github-copilot/hosts.json",
    ".config/github-copilot/apps.json", ".local/share/opencode/auth.json",
    ".local/share/goose/secrets.yaml", ".config/goose/secrets.yaml", ".aider/oauth-keys.env",
    ".cursor/auth.json", ".config/openai/auth.json", ".config/amp/secrets.json",
    ".local/share/amp/secrets.json", ".qwen/oauth_creds.json", ".cache/huggingface/token",
    ".cache/huggingface/stored_tokens", ".huggingface/token", ".replicate/auth",
    ".config/modal.toml", ".modal.toml", ".config/wandb/settings", ".streamlit/secrets.toml",
    ".jupyter/jupyter_server_config.json",
];

/// Directories in which every file counts, as consecutive components of a path.
const DIRECTORIES: &[&str] = &[
    ".config/gcloud",
    ".gnupg",
    ".password-store",
    ".local/share/keyrings",
    ".aws/sso/cache",
    ".aws/cli/cache",
    ".config/op",
    ".config/sops/age",
    ".secrets",
];

/// Extensions of containers of keys: binary, so that the content can't be judged.
const EXTENSIONS: &[&str] =
    &["p12", "pfx", "jks", "keystore", "kdbx", "kdb", "ppk", "p8", "agekey", "tfvars"];

/// Endings of `.env` files that are made to be shared.
const SHARED_ENV: &[&str] =
    &["example", "sample", "template", "tmpl", "dist", "defaults", "schema"];

/// Files that hold secrets because somebody says so: patterns as in a `.gitignore`, each list for one directory.
#[derive(Clone, Debug, Default)]
pub struct SecretPlaces {
    places: Vec<(PathBuf, Gitignore)>,
    /// All that was added, as text.
    text: String,
}

impl SecretPlaces {
    /// Adds those that match below `dir`, which is absolute.
    ///
    /// # Errors
    /// Where a pattern is none.
    pub fn add(&mut self, dir: &Path, patterns: &[String]) -> Result<()> {
        let mut builder = GitignoreBuilder::new(dir);
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(|error| pattern_error(pattern, &error))?;
        }
        let rules = builder.build().map_err(|error| pattern_error("secret", &error))?;
        if !rules.is_empty() && !self.places.iter().any(|(known, _)| known == dir) {
            self.places.push((dir.to_owned(), rules));
            self.text.push_str(&format!("{dir:?} {patterns:?}\n"));
        }
        Ok(())
    }

    /// Whether the path of a directory, which is absolute, has a part in what is one of them below it.
    pub(crate) fn depend_on(&self, dir: &Path) -> bool {
        self.places.iter().any(|(place, _)| place.starts_with(dir) || dir.starts_with(place))
    }

    /// Whether the file at `path`, which is absolute, is one of them.
    pub fn has(&self, path: &Path) -> bool {
        self.places.iter().any(|(dir, rules)| {
            path.starts_with(dir) && rules.matched_path_or_any_parents(path, false).is_ignore()
        })
    }
}

/// By what paths are judged, as text: what was found by other lists may be found otherwise by these.
pub(crate) fn lists(more: &SecretPlaces) -> String {
    let lists = [NAMES, PLACES, DIRECTORIES, EXTENSIONS, SHARED_ENV];
    format!("{lists:?}\n{}", more.text)
}

/// Whether the file at `path` holds secrets, judging by its name and by the first [`HEAD_LEN`] bytes.
///
/// `head` may be shorter or empty where the content can't be read: then the name alone decides.
pub fn is_secret(path: &Path, head: &[u8]) -> bool {
    is_secret_path(path) || holds_private_key(head)
}

/// Whether the name and place of a file alone say that it holds secrets.
pub fn is_secret_path(path: &Path) -> bool {
    let Some(name) = path.file_name() else { return false };
    if NAMES.iter().any(|n| name == OsStr::new(n)) || is_env_file(name.as_bytes()) {
        return true;
    }
    if let Some(extension) = path.extension()
        && EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
    {
        return true;
    }
    let bytes = path.as_os_str().as_bytes();
    PLACES.iter().any(|place| ends_with(bytes, place.as_bytes()))
        // Every one of the directories is a hidden one: few paths have any.
        || (bytes.starts_with(b".") || bytes.windows(2).any(|pair| pair == b"/."))
            && path.parent().is_some_and(|dir| {
                dir.ancestors().any(|d| DIRECTORIES.iter().any(|place| d.ends_with(place)))
            })
}

/// Whether the path of a directory has a part in what [`is_secret_path`] says of the files below it.
pub(crate) fn depends_on(dir: &Path) -> bool {
    let begins = |place: &&str| {
        let mut heads = Path::new(*place).ancestors().skip(1);
        heads.any(|head| !head.as_os_str().is_empty() && dir.ends_with(head))
    };
    PLACES.iter().chain(DIRECTORIES).any(begins)
        || dir.ancestors().any(|above| DIRECTORIES.iter().any(|place| above.ends_with(place)))
}

/// Whether these are the last components of an absolute path without `.` and `//`. Snapshots ask this of every file, and
/// [`Path::ends_with`] takes paths apart.
fn ends_with(path: &[u8], place: &[u8]) -> bool {
    path.strip_suffix(place).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
}

/// `.env`, `.env.local`, `prod.env`; not `.env.example` and its like, nor `environment.ts`.
fn is_env_file(name: &[u8]) -> bool {
    let shared = |part: &[u8]| SHARED_ENV.iter().any(|s| part.eq_ignore_ascii_case(s.as_bytes()));
    let mut parts = name.split(|&b| matches!(b, b'.' | b'-' | b'_')).filter(|p| !p.is_empty());
    let dot_env = name == b".env"
        || [&b".env."[..], b".env-", b".env_"].iter().any(|start| name.starts_with(start));
    (dot_env || name.ends_with(b".env")) && !parts.any(shared)
}

/// Whether the head of a file holds the start of a private key: PEM (PKCS#1, PKCS#8, SEC1, OpenSSH, PGP), PuTTY, age.
///
/// A PEM armour counts only at the start of a line, so that a program that merely mentions one does not.
pub fn holds_private_key(head: &[u8]) -> bool {
    head.split(|&b| b == b'\n').take(200).any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"PuTTY-User-Key-File-")
            || line.starts_with(b"AGE-SECRET-KEY-1")
            || line.strip_prefix(b"-----BEGIN ").is_some_and(|rest| {
                rest.ends_with(b"PRIVATE KEY-----") || rest.ends_with(b"PRIVATE KEY BLOCK-----")
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(path: &str) -> bool {
        is_secret_path(Path::new(path))
    }

    #[test]
    fn names_and_places_of_secrets_are_known() {
        for path in [
            "/p/.env",
            "/p/.env.local",
            ".env.production",
            "config/prod.env",
            ".npmrc",
            "/home/u/.netrc",
            "/home/u/.ssh/id_ed25519",
            "/home/u/.aws/credentials",
            "/home/u/.codex/auth.json",
            "/home/u/.claude/.credentials.json",
            "/home/u/.config/gcloud/legacy_credentials/a@b/adc.json",
            "/home/u/.docker/config.json",
            "/home/u/.kube/config",
            "/home/u/.git-credentials",
            "/home/u/.pgpass",
            "/home/u/.pypirc",
            "certs/server.P12",
        ] {
            assert!(by_name(path), "{path} holds secrets");
        }
    }

    #[test]
    fn harmless_neighbours_are_not_secret() {
        for path in [
            "/p/.env.example",
            "/p/.env.local.sample",
            ".env.template",
            "example.env",
            "environment.ts",
            ".envelope",
            "config.json",
            "docker/config.json",
            "src/auth.json",
            "id_rsa.pub",
            "credentials.py",
            "tokens.md",
            "/",
            "",
        ] {
            assert!(!by_name(path), "{path} is harmless");
        }
    }

    #[test]
    fn private_keys_are_known_by_their_content() {
        let key = b"Bag Attributes\n-----BEGIN ENCRYPTED PRIVATE KEY-----\r\nMIIE\n";
        assert!(is_secret(Path::new("server.txt"), key));
        assert!(holds_private_key(b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA"));
        assert!(holds_private_key(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"));
        assert!(holds_private_key(b"PuTTY-User-Key-File-3: ssh-ed25519\n"));
        assert!(!is_secret(Path::new("ca.pem"), b"-----BEGIN CERTIFICATE-----\nMIID"));
        assert!(!is_secret(Path::new("key.rs"), b"let pem = \"-----BEGIN PRIVATE KEY-----\";\n"));
        assert!(!is_secret(Path::new("image.png"), b"\x89PNG\r\n\x1a\n"));
    }
}
