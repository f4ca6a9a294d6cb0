//! Sessions that are being recorded now: how the commands of another terminal, or of the agent itself, reach them.

use std::env;
use std::path::{Path, PathBuf};

use agentrec_recorder::control::Client;
use agentrec_replay::session_id;
use agentrec_store::Catalogue;
use anyhow::{Context as _, Result, anyhow, bail};

use crate::address::{Address, SessionRef};
use crate::error::{WithHint, with_hint};
use crate::session;

/// The variable that tells an agent where its recorder listens.
const SOCKET: &str = "AGENTREC_SOCKET";

/// `XDG_RUNTIME_DIR`, where that is set.
pub fn runtime_dir() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// A connection to the session that `address` names; without one to the surrounding session, or to this directory's last.
pub fn connect(address: Option<&Address>) -> Result<Client> {
    if let Some(place) = address.and_then(|address| address.place.as_ref()) {
        bail!("cannot use {place} here: this command is about a whole session");
    }
    let wanted = address.and_then(|address| address.session.as_ref());
    if wanted.is_none()
        && let Some(socket) = env::var_os(SOCKET)
    {
        return Ok(Client::connect(Path::new(&socket))?);
    }
    let id = match wanted {
        Some(SessionRef::File(path)) => session_id(&session::open_file(path)?)?,
        wanted => {
            let catalogue: Catalogue = session::catalogue()?;
            session::find(&catalogue, wanted)?.context("cannot find the session")?.id
        }
    };
    connect_to(&id)?.ok_or_else(|| {
        with_hint(
            anyhow!("cannot reach session {id}: it is not being recorded"),
            "agentrec status shows the sessions that are",
        )
    })
}

/// A connection to the session of that id; none where nobody listens.
pub fn connect_to(id: &str) -> Result<Option<Client>> {
    let socket = agentrec_recorder::find_socket(&session::home()?, runtime_dir().as_deref(), id);
    match socket.map(|socket| Client::connect(&socket)) {
        None => Ok(None),
        Some(Ok(client)) => Ok(Some(client)),
        // A recorder that was killed leaves its socket behind.
        Some(Err(agentrec_recorder::Error::Unreachable { source, .. }))
            if source.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            Ok(None)
        }
        Some(Err(error)) => {
            Err(error).hint("the socket can be used only by the user who started the recording")
        }
    }
}
