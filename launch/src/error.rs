//! What can fail on the way to a running program, as the user should read it.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// A stage between fork and exec, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Enter a mount namespace, with a user namespace where that is what the user may have.
    Namespace,
    /// Map the user's own id into the user namespace.
    IdMap,
    /// Keep mounts from reaching the outside.
    Propagation,
    /// Open what shall be seen elsewhere.
    MountSource,
    /// Bind it over its target.
    MountTarget,
    /// Change to the working directory.
    Chdir,
    /// What the caller does last before exec.
    Hook,
    /// Find the command, or exec it.
    Exec,
}

impl Step {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Namespace,
            Self::IdMap,
            Self::Propagation,
            Self::MountSource,
            Self::MountTarget,
            Self::Chdir,
            Self::Hook,
            Self::Exec,
        ]
        .into_iter()
        .find(|step| *step as u8 == byte)
    }
}

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan can't be handed to the kernel.
    #[error("cannot run {what}: {why}")]
    Invalid {
        /// Which part.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The command was not found, or may not be executed.
    #[error("cannot run {}: {}", .command.display(), exec_reason(*.errno))]
    Exec {
        /// As the user named it.
        command: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The working directory can't be entered.
    #[error("cannot change to {}: {}", .path.display(), .errno.desc())]
    Chdir {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// No mount namespace may be made here.
    #[error("cannot make a private mount: {} ({})", namespace_reason(*.step), .errno.desc())]
    Namespace {
        /// [`Step::Namespace`], [`Step::IdMap`] or [`Step::Propagation`].
        step: Step,
        /// Why.
        errno: Errno,
    },
    /// One of the mounts failed.
    #[error("cannot show {} at {}: {}", .source_path.display(), .target.display(), .errno.desc())]
    Mount {
        /// Where it really is.
        source_path: PathBuf,
        /// Where it should be seen.
        target: PathBuf,
        /// [`Step::MountSource`] or [`Step::MountTarget`].
        step: Step,
        /// Why.
        errno: Errno,
    },
    /// The caller's own step failed.
    #[error("cannot prepare the process: {}", .errno.desc())]
    Hook {
        /// Why.
        errno: Errno,
    },
    /// The kernel gave us no process or no pipe.
    #[error("cannot start a process: {0}")]
    Fork(#[source] io::Error),
}

impl Error {
    /// What a shell would return: 127 not found, 126 found but not executable, and 125 for what is ours.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exec { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Self::Exec { .. } => 126,
            _ => 125,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Namespace { errno: Errno::ENOSPC, .. } => {
                Some("raise user.max_user_namespaces (sysctl), or run as root")
            }
            Self::Namespace { .. } => Some(
                "private mounts need user namespaces: allow them with \
                 `sysctl kernel.unprivileged_userns_clone=1` (Debian) or \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), \
                 start the container with them allowed, or run as root",
            ),
            Self::Mount { step: Step::MountTarget, errno: Errno::ENOENT, .. } => Some(
                "the original path must exist for something to be shown there: create it as an empty directory",
            ),
            Self::Mount {
                step: Step::MountTarget, errno: Errno::ENOTDIR | Errno::EINVAL, ..
            } => Some(
                "a directory can only be shown at the path of a directory, a file only at that of a file",
            ),
            Self::Mount {
                step: Step::MountTarget, errno: Errno::EACCES | Errno::EPERM, ..
            } => Some(
                "a security module (AppArmor, SELinux) keeps mounts from user namespaces: \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), or run as root",
            ),
            _ => None,
        }
    }
}

fn exec_reason(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "not found",
        errno => errno.desc(),
    }
}

fn namespace_reason(step: Step) -> &'static str {
    match step {
        Step::IdMap => "the user id can't be mapped into a user namespace",
        Step::Propagation => "the mounts can't be made private",
        _ => "user and mount namespaces are not permitted here",
    }
}

/// For messages: the command as the user named it.
pub(crate) fn command_path(argv0: &OsStr) -> PathBuf {
    PathBuf::from(argv0)
}
