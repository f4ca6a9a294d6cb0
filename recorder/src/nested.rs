//! A recording inside of a recording: the inner command is part of the outer session, so it is only run.

use std::path::PathBuf;

use crate::control::Client;
use crate::setup::SOCKET;

/// Whether this process belongs to the tree of a session that is being recorded.
///
/// The variable alone says little: it may be left over from a session that has ended, or have been handed on to a
/// process outside of the tree.
pub(crate) fn inside_of_recording() -> bool {
    let Some(socket) = std::env::var_os(SOCKET) else { return false };
    Client::connect(&PathBuf::from(socket))
        .and_then(|mut client| client.status())
        .is_ok_and(|status| status.inside)
}
