//! From an address to an open trace; and where this user's data lies.

use std::env;
use std::path::{Path, PathBuf};

use agentrec_store::{Catalogue, Home, MIN_PREFIX, Session, Store};
use agentrec_trace::{Event, Reader, Seq, SnapshotIndex, Status};
use anyhow::{Context as _, Result, anyhow, bail};

use crate::address::{self, Address, Place, SessionRef};
use crate::digest::{Digest, Turn};
use crate::error::{WithHint, with_hint};
use crate::identity;
use crate::output::{Preferences, Progress};

/// What every command is given.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How the user wants results.
    pub preferences: Preferences,
}

/// A trace that was found and opened.
pub struct Opened {
    /// The trace.
    pub reader: Reader,
    /// Where it is.
    pub path: PathBuf,
    /// How a user would name it: the short id where the catalogue knows it, else the path.
    pub name: String,
    /// The place that the address named.
    pub place: Option<Place>,
}

/// The data directory.
pub fn home() -> Result<Home> {
    let [agentrec_home, xdg_data_home] = ["AGENTREC_HOME", "XDG_DATA_HOME"].map(env::var_os);
    Home::from_variables(agentrec_home, xdg_data_home, identity::home())
        .ok_or_else(|| anyhow!("cannot tell where to keep data: HOME is not set"))
        .hint("set HOME, or AGENTREC_HOME to an absolute path")
}

/// This machine's contents; none where they can't be reached, as for a trace from elsewhere.
pub fn store() -> Option<Store> {
    home().ok().and_then(|home| Store::open(&home).ok())
}

/// The catalogue of sessions.
pub fn catalogue() -> Result<Catalogue> {
    let catalogue = Catalogue::open(&home()?)?;
    if let Some(damaged) = catalogue.moved_aside() {
        eprintln!(
            "agentrec: the catalogue could not be read and was begun anew; kept as {}",
            damaged.display()
        );
        eprintln!("hint: agentrec list --rescan finds the sessions again");
    }
    Ok(catalogue)
}

/// The session that `wanted` names in the catalogue; none for a file.
pub fn find(catalogue: &Catalogue, wanted: Option<&SessionRef>) -> Result<Option<Session>> {
    match wanted {
        Some(SessionRef::File(_)) => Ok(None),
        Some(SessionRef::Named(name)) => catalogue
            .find(name)
            .map(Some)
            .with_context(|| format!("cannot find the trace `{name}`"))
            .hint(match name.len() {
                ..MIN_PREFIX => {
                    format!("ids can be cut short, to no less than {MIN_PREFIX} characters")
                }
                _ => format!(
                    "agentrec list shows what there is; for a file of that name write ./{name}"
                ),
            }),
        Some(SessionRef::Last) | None => last_here(catalogue).map(Some),
    }
}

/// The last session of this directory, or of the nearest directory above that has one.
fn last_here(catalogue: &Catalogue) -> Result<Session> {
    let here = env::current_dir().context("cannot tell the working directory")?;
    for directory in here.ancestors() {
        if let Some(session) = catalogue.last_for_directory(directory)? {
            return Ok(session);
        }
    }
    Err(with_hint(
        anyhow!("cannot find a trace: nothing was recorded in {}", here.display()),
        "agentrec run -- COMMAND records one; agentrec list shows those of other directories",
    ))
}

/// Opens the trace that `address` names.
pub fn open(address: &Address) -> Result<Opened> {
    let (path, name) = match &address.session {
        Some(SessionRef::File(path)) => (path.clone(), path.display().to_string()),
        wanted => {
            let catalogue = catalogue()?;
            let session = find(&catalogue, wanted.as_ref())?
                .ok_or_else(|| anyhow!("cannot find the trace"))?;
            let name = catalogue.short_id(&session.id)?.to_owned();
            (session.trace, name)
        }
    };
    let reader = open_file(&path)?;
    Ok(Opened { reader, path, name, place: address.place.clone() })
}

/// Opens the session of a file, which `file` names in front of it (`7q3k@notes.txt`) where `trace` does not, and returns the file's own
/// name. A file that is there under the whole name is that file.
pub fn open_of_file(trace: Option<&Address>, file: &Path) -> Result<(Opened, PathBuf)> {
    let named = address::of_file(file.as_os_str()).filter(|_| trace.is_none() && !file.exists());
    let Some((address, name)) = named else {
        return Ok((open(trace.unwrap_or(&Address::LAST))?.whole()?, file.to_owned()));
    };
    let opened = open(&address).map_err(|error| {
        let not_found = matches!(
            error.downcast_ref::<agentrec_store::Error>(),
            Some(agentrec_store::Error::NoSession(_))
        );
        if !not_found {
            return error;
        }
        let hint = format!(
            "agentrec list shows what there is; for a file of that name write ./{}",
            file.display()
        );
        with_hint(error, hint)
    })?;
    Ok((opened.whole()?, name.into()))
}

/// Whether a recorder is writing the trace at `path`.
pub fn is_recording(path: &Path) -> bool {
    Reader::open(path).is_ok_and(|reader| matches!(reader.status(), Status::Recording))
}

/// Opens the trace at `path`.
pub fn open_file(path: &Path) -> Result<Reader> {
    Reader::open(path).with_context(|| format!("cannot read the trace {}", path.display()))
}

impl Opened {
    /// The snapshot that the address or `--snapshot` names.
    pub fn snapshot(&self, option: Option<u32>) -> Result<SnapshotIndex> {
        let named = match &self.place {
            Some(place) => Some((place, self.snapshot_at(place)?)),
            None => None,
        };
        match (option, named) {
            (Some(n), None) => Ok(SnapshotIndex(n)),
            (None, Some((_, Some(index)))) => Ok(index),
            (Some(n), Some((_, Some(SnapshotIndex(m))))) if n == m => Ok(SnapshotIndex(n)),
            (Some(n), Some((place, _))) => bail!("cannot use both {place} and --snapshot {n}"),
            (None, named) => Err(with_hint(
                match named {
                    Some((place, _)) => anyhow!("cannot go back to {place}: it is not a snapshot"),
                    None => anyhow!("cannot tell which snapshot is meant"),
                },
                format!(
                    "agentrec info {} lists them; then --snapshot 2 or {}@s2",
                    self.name, self.name
                ),
            )),
        }
    }

    /// The snapshot that a place means: itself, or of a turn the one at its request. None where it is another kind of place.
    ///
    /// # Errors
    /// Where there is no such turn, or it has no snapshot.
    pub fn snapshot_at(&self, place: &Place) -> Result<Option<SnapshotIndex>> {
        if let Place::Snapshot(index) = place {
            return Ok(Some(*index));
        }
        if !matches!(place, Place::Turn(_)) {
            return Ok(None);
        }
        self.snapshot_in(&analyse(&self.reader)?, place)
    }

    /// The same, where the trace was analysed already.
    ///
    /// # Errors
    /// As for [`snapshot_at`](Self::snapshot_at).
    pub fn snapshot_in(&self, digest: &Digest, place: &Place) -> Result<Option<SnapshotIndex>> {
        if let Place::Snapshot(index) = place {
            return Ok(Some(*index));
        }
        if !matches!(place, Place::Turn(_)) {
            return Ok(None);
        }
        let Some(turn) = turns(digest, place)?.and_then(|turns| turns.first().copied()) else {
            return Ok(None);
        };
        let at = digest.snapshots.iter().find(|snapshot| snapshot.cause == Some(turn.seq));
        if let Some(snapshot) = at {
            return Ok(Some(snapshot.index));
        }
        let before = digest.snapshots.iter().rfind(|snapshot| snapshot.seq < turn.seq);
        let hint = before.map_or_else(
            || format!("agentrec info {} lists the snapshots", self.name),
            |before| format!("the last one before it is {}@{}", self.name, before.index),
        );
        Err(with_hint(anyhow!("cannot go back to {place}: no snapshot was taken there"), hint))
    }

    /// Fails where the address names a place: for commands that are about whole sessions.
    pub fn whole(self) -> Result<Self> {
        match self.place {
            None => Ok(self),
            Some(place) => bail!("cannot use {place} here: this command is about a whole session"),
        }
    }
}

/// Analyses a whole trace.
pub fn analyse(reader: &Reader) -> Result<Digest> {
    let mut digest = Digest::default();
    each_event(reader, |event| digest.add(event))?;
    Ok(digest)
}

/// The turns that a place names: one, or those of a conversation; none where it is another kind of place.
///
/// # Errors
/// Where the trace has no such turn.
pub fn turns<'d>(digest: &'d Digest, place: &Place) -> Result<Option<Vec<&'d Turn>>> {
    let (what, found): (_, Vec<_>) = match place {
        Place::Turn(label) => ("turn", digest.turns.get(label).into_iter().collect()),
        Place::Conversation(main, name) => {
            ("conversation", digest.turns.of_conversation(*main, name).collect())
        }
        Place::Snapshot(_) | Place::Event(_) | Place::Process(_) => return Ok(None),
    };
    if found.is_empty() {
        bail!(with_hint(
            anyhow!("cannot find a {what} {place}: there are {} turns", digest.turns.count()),
            "turns are requests to a model that could be read: agentrec turns lists them, agentrec info tells what could not be"
        ));
    }
    Ok(Some(found))
}

/// Calls `f` with every event. What is damaged is passed over, and said; returns how many parts that were.
pub fn each_event(reader: &Reader, mut f: impl FnMut(&Event<'_>)) -> Result<u64> {
    let mut damaged = 0;
    let mut progress = Progress::new("reading", reader.len());
    let mut cursor = reader.cursor(Seq(1))?;
    loop {
        match cursor.next() {
            Ok(Some(event)) => {
                f(&event);
                if event.seq.0.is_multiple_of(8192) {
                    progress.set(event.seq.0);
                }
            }
            Ok(None) => return Ok(damaged),
            Err(error) => {
                damaged += 1;
                eprintln!("agentrec: passing over a part of the trace: {error}");
            }
        }
    }
}
