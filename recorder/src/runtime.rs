//! Where the files of a running session are: its socket and its resume state.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentrec_store::{Home, create_private_dir};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::error::{Error, Result, chain};

/// Longest path that fits into a socket address (`sun_path` with its NUL, unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Where sockets of this user may be: in `XDG_RUNTIME_DIR`, in the data directory, and where those paths are too long
/// for a socket address, in a private directory below /tmp.
fn directories(home: &Home, runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let below_tmp = PathBuf::from(format!("/tmp/agentrec-{}", geteuid()));
    let runtime = runtime_dir.map(|dir| dir.join("agentrec"));
    runtime.into_iter().chain([home.run(), below_tmp]).collect()
}

/// Makes the directory for a new session's socket.
pub(crate) fn create_dir(
    home: &Home,
    runtime_dir: Option<&Path>,
    session: &str,
) -> Result<PathBuf> {
    let runtime_dir = runtime_dir.filter(|dir| access(*dir, AccessFlags::W_OK).is_ok());
    let fits =
        |dir: &PathBuf| socket_path(dir, session).as_os_str().as_bytes().len() <= MAX_SOCKET_PATH;
    let dir = directories(home, runtime_dir).into_iter().find(fits).expect("the last one is short");
    create_private_dir(&dir).map_err(recorder_error)?;
    let metadata = std::fs::symlink_metadata(&dir)
        .map_err(|error| Error::io(format!("look at {}", dir.display()), error))?;
    // The one below /tmp could be somebody else's trap.
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 || !metadata.is_dir() {
        return Err(Error::Recorder {
            message: format!("{} is not a private directory of this user", dir.display()),
            hint: Some(format!("remove it, or `chmod 700 {}`", dir.display())),
        });
    }
    Ok(dir)
}

/// The socket of `session` below `dir`.
pub(crate) fn socket_path(dir: &Path, session: &str) -> PathBuf {
    dir.join(format!("{session}.sock"))
}

/// The resume state of `session` below `dir`.
pub(crate) fn resume_path(dir: &Path, session: &str) -> PathBuf {
    dir.join(format!("{session}.resume.json"))
}

/// The certificates that the tree of `session` trusts, below `dir`.
pub(crate) fn bundle_path(dir: &Path, session: &str) -> PathBuf {
    dir.join(format!("{session}.ca.pem"))
}

/// The socket of a session that is being recorded; `None` where there is none.
pub fn find_socket(home: &Home, runtime_dir: Option<&Path>, session: &str) -> Option<PathBuf> {
    directories(home, runtime_dir)
        .into_iter()
        .map(|dir| socket_path(&dir, session))
        .find(|path| path.symlink_metadata().is_ok())
}

pub(crate) fn recorder_error(error: impl std::error::Error) -> Error {
    failure(chain(&error))
}

/// The recorder could not do its work, and this is why.
pub(crate) fn failure(message: String) -> Error {
    Error::Recorder { message, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_goes_where_its_path_fits_and_is_found_there() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create().unwrap();
        let runtime = dir.path().join("runtime");
        std::fs::create_dir(&runtime).unwrap();
        let made = create_dir(&home, Some(&runtime), "abcd2345").unwrap();
        assert_eq!(made, runtime.join("agentrec"));
        assert_eq!(create_dir(&home, None, "abcd2345").unwrap(), home.run());
        let deep = Home::new(dir.path().join("x".repeat(100)));
        let made = create_dir(&deep, None, "abcd2345").unwrap();
        assert_eq!(made, PathBuf::from(format!("/tmp/agentrec-{}", geteuid())));
        let socket = socket_path(&home.run(), "abcd2345");
        assert_eq!(find_socket(&home, Some(&runtime), "abcd2345"), None);
        std::fs::write(&socket, "").unwrap();
        assert_eq!(find_socket(&home, Some(&runtime), "abcd2345"), Some(socket));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(home.run(), open).unwrap();
        let error = create_dir(&home, None, "abcd2345").unwrap_err();
        assert!(error.hint().unwrap().contains("chmod 700"), "{error}");
    }
}
