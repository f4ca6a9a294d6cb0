//! Whom the tree trusts: a file with all that it trusted before, and our certificate. Variables lead to it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentrec_launch::Plan;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Error;

/// Variables that name a file of certificates, and who looks at them: OpenSSL, Go, rustls-native-certs, httpx; Node; requests
/// and what brings certificates of its own along; curl; git; the AWS SDKs; cargo; Deno.
const VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
];

/// Where systems keep theirs: Debian and its kin, Fedora and its kin, openSUSE, Alpine.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file, and what the variables held before.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    bundle: PathBuf,
    before: Vec<(&'static str, Option<OsString>)>,
    directory: Option<OsString>,
}

impl Trust {
    /// Leads the command to `bundle`, which is made later.
    pub(crate) fn lead(plan: &mut Plan, bundle: PathBuf) -> Self {
        let value = |plan: &Plan, name: &str| {
            let last = plan.env.iter().rev().find(|(other, _)| other == name);
            last.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let before = VARIABLES.map(|name| (name, value(plan, name))).to_vec();
        let directory = value(plan, "SSL_CERT_DIR");
        for name in VARIABLES {
            plan.set_env(name, &bundle);
        }
        Self { bundle, before, directory }
    }

    pub(crate) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// In its owner's place.
    pub(crate) fn remove_bundle(&self) {
        fs::remove_file(&self.bundle).ok();
    }

    /// The environment as it would be without us.
    pub(crate) fn without_us<'e>(
        &'e self,
        env: impl Iterator<Item = (&'e OsStr, &'e OsStr)>,
    ) -> impl Iterator<Item = (&'e OsStr, &'e OsStr)> {
        env.filter_map(|(name, value)| match self.before.iter().find(|(other, _)| *other == name) {
            Some((_, before)) => before.as_deref().map(|before| (name, before)),
            None => Some((name, value)),
        })
    }

    /// Writes the file, readable to its owner alone.
    pub(super) fn leave_bundle(&self, ours: &str) -> Result<Bundle, Error> {
        let failed = |error| Error::File(self.bundle.clone(), error);
        let mut bundle = self.texts();
        bundle.extend_from_slice(ours.as_bytes());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.bundle);
        let mut file = file.map_err(failed)?;
        let left = Bundle(self.bundle.clone());
        file.write_all(&bundle).map_err(failed)?;
        Ok(left)
    }

    /// Certificates that the tree trusts without us.
    pub(super) fn roots(&self) -> Vec<CertificateDer<'static>> {
        let mut texts = self.texts();
        for directory in self.directory.iter().flat_map(std::env::split_paths) {
            for file in fs::read_dir(directory).into_iter().flatten().flatten() {
                append(&mut texts, &file.path());
            }
        }
        CertificateDer::pem_slice_iter(&texts).flatten().collect()
    }

    /// What all the files hold: the user's own, and the system's where the user named no other in its place.
    fn texts(&self) -> Vec<u8> {
        let mut texts = Vec::new();
        let mut named: Vec<&OsStr> =
            self.before.iter().filter_map(|(_, before)| before.as_deref()).collect();
        named.sort_unstable();
        named.dedup();
        let replaced = self.before[0].1.is_some();
        let system = SYSTEM.into_iter().find(|path| Path::new(path).exists());
        for path in named.into_iter().chain(system.filter(|_| !replaced).map(OsStr::new)) {
            append(&mut texts, Path::new(path));
        }
        texts
    }
}

/// The file, as long as the tree needs it.
pub(crate) struct Bundle(PathBuf);

impl Drop for Bundle {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Adds what a file holds, on a line of its own. One that can't be read could not be without us either.
fn append(texts: &mut Vec<u8>, path: &Path) {
    if let Ok(text) = fs::read(path) {
        texts.extend(text);
        texts.push(b'\n');
    }
}
