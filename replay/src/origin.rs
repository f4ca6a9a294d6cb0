//! The note beside a resumed session's copy: which directories it stands for, and what those held when it was made.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_store::{Home, is_session_id};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// Where the changes of a resumed session belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The resumed session.
    pub(crate) session: String,
    /// Its roots.
    pub(crate) roots: Vec<OriginRoot>,
}

/// One root of a resumed session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginRoot {
    /// The directory as the agent sees it, which is also where its changes belong.
    #[serde(with = "path")]
    pub(crate) home: PathBuf,
    /// The copy that it works in.
    #[serde(with = "path")]
    pub(crate) copy: PathBuf,
    /// The tree (64 hexadecimal digits) that was at `home` when the first of the sessions in between left it: what both sides
    /// started from.
    pub(crate) base: String,
    /// A trace that holds the trees of `base`, where this machine's store does not.
    #[serde(with = "path")]
    pub(crate) base_trace: PathBuf,
    /// What of `base` could not be restored, relative to the root: that it is not in the copy is not the agent's doing.
    #[serde(default)]
    pub(crate) missing: Vec<RelativePath>,
}

/// A path below a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RelativePath(#[serde(with = "path")] pub(crate) PathBuf);

impl Origin {
    /// The note of a session; none where it is no resumed one, or what it left was removed.
    pub(crate) fn load(home: &Home, session: &str) -> Result<Option<Self>> {
        // It may come from a trace, and so from anybody.
        if !is_session_id(session) {
            return Ok(None);
        }
        let path = note(home, session);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.context("read", &path)?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(origin) => Ok(Some(origin)),
            Err(error) => Err(Error::Origin { path, reason: error.to_string() }),
        }
    }

    /// Writes the note, whole or not at all.
    pub(crate) fn save(&self, home: &Home) -> Result<()> {
        let path = note(home, &self.session);
        let temp = path.with_extension("json.tmp");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Origin { path: path.clone(), reason: error.to_string() })?;
        let mut file = fs::File::create(&temp).context("create", &temp)?;
        file.write_all(&text).context("write", &temp)?;
        file.sync_all().context("sync", &temp)?;
        fs::rename(&temp, &path).context("rename to", &path)
    }

    /// The root that stands for `home`.
    pub(crate) fn root(&self, home: &Path) -> Option<&OriginRoot> {
        self.roots.iter().find(|root| root.home == home)
    }
}

fn note(home: &Home, session: &str) -> PathBuf {
    home.session_work(session).join("origin.json")
}

/// Paths as text where they are UTF-8, else as an array of bytes.
mod path {
    use std::ffi::OsStr;

    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match path.to_str() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes(path.as_os_str().as_bytes().to_vec()),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => PathBuf::from(text),
            Form::Bytes(bytes) => PathBuf::from(OsStr::from_bytes(&bytes)),
        })
    }
}
