//! Where a user's data lies: one directory with everything that outlives a session, readable by its owner alone.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::error::{Context, Error, Result};

/// The data directory. A plain value: nothing is read or created before [`Home::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    data: PathBuf,
}

impl Home {
    /// The data directory itself.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The data directory that these values of `AGENTREC_HOME`, `XDG_DATA_HOME` and `HOME` name, in that order;
    /// none where all of them are missing, empty or relative (the XDG specification has relative ones ignored).
    pub fn from_variables(
        agentrec_home: Option<OsString>,
        xdg_data_home: Option<OsString>,
        home: Option<OsString>,
    ) -> Option<Self> {
        let absolute =
            |value: Option<OsString>| value.map(PathBuf::from).filter(|p| p.is_absolute());
        absolute(agentrec_home)
            .or_else(|| absolute(xdg_data_home).map(|dir| dir.join("agentrec")))
            .or_else(|| absolute(home).map(|dir| dir.join(".local/share/agentrec")))
            .map(Self::new)
    }

    /// Creates the directories that are missing, with mode 0700, and closes the data directory to others.
    ///
    /// # Errors
    /// [`Error::Home`] where that can't be done, or where nothing could be written there.
    pub fn create(&self) -> Result<()> {
        for dir in
            [&self.data, &self.objects(), &self.traces(), &self.work(), &self.cache(), &self.run()]
        {
            make_private_dir(dir).map_err(|error| unusable(dir, error))?;
        }
        let data = &self.data;
        close_to_others(data).map_err(|error| unusable(data, error))?;
        // Else the first file that can't be made would be what is complained of.
        access(data, AccessFlags::W_OK).map_err(|error| unusable(data, error.into()))
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Content-addressed objects.
    pub fn objects(&self) -> PathBuf {
        self.data.join("objects")
    }

    /// Packs of objects.
    pub(crate) fn packs(&self) -> PathBuf {
        self.objects().join("packs")
    }

    /// The catalogue of sessions.
    pub fn catalogue(&self) -> PathBuf {
        self.data.join("catalogue.sqlite")
    }

    /// The key of the hashes that stand in for redacted values.
    pub fn redaction_key(&self) -> PathBuf {
        self.data.join("redaction.key")
    }

    /// The user's own prices of models, where there are some.
    pub fn prices(&self) -> PathBuf {
        self.data().join("prices.toml")
    }

    /// The user's own profiles of agents, where there are some.
    pub fn profiles(&self) -> PathBuf {
        self.data().join("profiles.toml")
    }

    /// Stat caches.
    pub fn cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// Traces for which the user named no file.
    pub fn traces(&self) -> PathBuf {
        self.data.join("traces")
    }

    /// The trace of a session for which the user named no file.
    pub fn trace(&self, session: &str) -> PathBuf {
        self.traces().join(format!("{session}.zst"))
    }

    /// Copies that resumed sessions work in.
    pub fn work(&self) -> PathBuf {
        self.data.join("work")
    }

    /// The copy that one resumed session works in.
    pub fn session_work(&self, session: &str) -> PathBuf {
        self.work().join(session)
    }

    /// What undo and redo did, and what was there before.
    pub fn operations(&self) -> PathBuf {
        self.data.join("ops")
    }

    /// Sockets, where there is no `XDG_RUNTIME_DIR`.
    pub fn run(&self) -> PathBuf {
        self.data.join("run")
    }
}

/// Creates `dir` and its missing parents, all of them with mode 0700.
pub fn create_private_dir(dir: &Path) -> Result<()> {
    make_private_dir(dir).context("create", dir)
}

/// The files directly in `dir`; none where there is no such directory.
pub fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", dir)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context("list", dir)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A file system that is read-only refuses also what would change nothing (chmod(2), EROFS).
fn close_to_others(dir: &Path) -> io::Result<()> {
    if fs::metadata(dir)?.permissions().mode() & 0o777 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

fn unusable(dir: &Path, source: io::Error) -> Error {
    Error::Home { path: dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_absolute_variable_names_the_data_directory() {
        let home = |a: &str, x: &str, h: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
            Home::from_variables(some(a), some(x), some(h)).map(|home| home.data)
        };
        assert_eq!(home("/a", "/x", "/h"), Some("/a".into()));
        assert_eq!(home("", "/x", "/h"), Some("/x/agentrec".into()));
        assert_eq!(home("", "relative", "/h"), Some("/h/.local/share/agentrec".into()));
        assert_eq!(home("", "", ""), None);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        fs::write(home.traces(), "").unwrap();
        let error = home.create().unwrap_err();
        let expected = format!("cannot use the data directory {}: ", home.traces().display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("AGENTREC_HOME")), "{error}");
    }

    #[test]
    fn directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let home = Home::new(dir.path());
        home.create().unwrap();
        for path in [home.data(), &home.objects(), &home.traces(), &home.work()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
