//! Addresses as users type them: `t5`, `t5/a`, `s2`, `#1234`, `p7`, `7q3k@s2`, `last`, a session's id or name, a file.
//!
//! What an address means follows from its shape alone, never from what happens to exist: a word that has the shape of
//! a place is a place, one with a slash or a dot is the path of a trace, and anything else is the id of a session, a
//! prefix of one, or a name given with `--name`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use agentrec_trace::{ProcId, Seq, SnapshotIndex};

/// Which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRef {
    /// The last one of the present directory.
    Last,
    /// The one whose id starts so, or that has this name.
    Named(String),
    /// The trace in this file.
    File(PathBuf),
}

/// Where in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `t5`, `t5/a.2`
    Turn(TurnLabel),
    /// `t5/a`: another conversation than the main one, which began in `t5`.
    Conversation(u32, String),
    /// `s2`
    Snapshot(SnapshotIndex),
    /// `#1234`
    Event(Seq),
    /// `p7`
    Process(ProcId),
}

/// A turn: `t5`, or `t5/a.2` for the second one of conversation `a`, which began in `t5`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnLabel {
    /// The turn of the main conversation.
    pub main: u32,
    /// Another conversation, and the number of the turn in it.
    pub other: Option<(String, u32)>,
}

impl fmt::Display for TurnLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.other {
            None => f.pad(&format!("t{}", self.main)),
            Some((name, turn)) => f.pad(&format!("t{}/{name}.{turn}", self.main)),
        }
    }
}

/// A session, a place in one, or both; what is missing has a default that the command knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which session; the last one of this directory where absent.
    pub session: Option<SessionRef>,
    /// Where in it.
    pub place: Option<Place>,
}

/// Two places of one session, `s1..s3`, or a single address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// `s2`, `7q3k`
    One(Address),
    /// `s1..s3`, `7q3k@s1..s3`
    Between {
        /// Which session.
        session: Option<SessionRef>,
        /// From here
        from: Place,
        /// to here.
        to: Place,
    },
}

impl Address {
    /// The last session of this directory.
    pub const LAST: Self = Self { session: None, place: None };
}

fn place(text: &str) -> Option<Place> {
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "t" => turn(rest),
        "s" => number(rest).map(|n| Place::Snapshot(SnapshotIndex(n))),
        "#" => number(rest).map(|n| Place::Event(Seq(n))),
        "p" => number(rest).map(|n| Place::Process(ProcId(n))),
        _ => None,
    }
}

/// What follows the `t`: `5`, `5/a`, `5/a.2`.
fn turn(text: &str) -> Option<Place> {
    let Some((main, other)) = text.split_once('/') else {
        return Some(Place::Turn(TurnLabel { main: number(text)?, other: None }));
    };
    let main = number(main)?;
    let (name, turn) = match other.split_once('.') {
        None => (other, None),
        Some((name, turn)) => (name, Some(number(turn)?)),
    };
    // A path of several directories is a path.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    let name = is_name.then(|| name.to_owned())?;
    Some(match turn {
        None => Place::Conversation(main, name),
        Some(turn) => Place::Turn(TurnLabel { main, other: Some((name, turn)) }),
    })
}

/// A number from 1, written without zeros before it.
fn number<N: FromStr>(digits: &str) -> Option<N> {
    let is_number = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    is_number.then(|| digits.parse().ok())?
}

fn session(text: &str) -> SessionRef {
    match text {
        "last" => SessionRef::Last,
        _ if text.is_empty() || text.contains(['/', '.']) => SessionRef::File(PathBuf::from(text)),
        _ => SessionRef::Named(text.to_owned()),
    }
}

/// The session's address in front of a file's name, and the name: `7q3k@notes.txt`, `runs/a.zst@notes.txt`. None where the name has no
/// such shape, as `./logo@2x.png`; `logo@2x.png` has.
pub fn of_file(name: &OsStr) -> Option<(Address, &OsStr)> {
    let bytes = name.as_bytes();
    let ats = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@');
    ats.map(|(at, _)| (&bytes[..at], &bytes[at + 1..])).find_map(|(before, file)| {
        let before = str::from_utf8(before).ok()?;
        let is_session = match session(before) {
            SessionRef::Last | SessionRef::Named(_) => true,
            SessionRef::File(trace) => trace.extension().is_some_and(|end| end == "zst"),
        };
        let Ok(address) = before.parse();
        (is_session && !file.is_empty()).then(|| (address, OsStr::from_bytes(file)))
    })
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Some(place) = place(text) {
            return Ok(Self { session: None, place: Some(place) });
        }
        if let Some((before, after)) = text.rsplit_once('@')
            && let Some(place) = place(after)
        {
            return Ok(Self { session: Some(session(before)), place: Some(place) });
        }
        Ok(Self { session: Some(session(text)), place: None })
    }
}

impl FromStr for Range {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Some((before, after)) = text.rsplit_once("..")
            && let Some(to) = place(after)
        {
            let Address { session, place } = before.parse()?;
            if let Some(from) = place {
                return Ok(Self::Between { session, from, to });
            }
        }
        Ok(Self::One(text.parse()?))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn(label) => label.fmt(f),
            Self::Conversation(main, name) => write!(f, "t{main}/{name}"),
            Self::Snapshot(index) => index.fmt(f),
            Self::Event(seq) => seq.fmt(f),
            Self::Process(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<SessionRef>, Option<Place>) {
        let Ok(Address { session, place }) = text.parse::<Address>();
        (session, place)
    }

    fn turn(main: u32) -> Place {
        Place::Turn(TurnLabel { main, other: None })
    }

    #[test]
    fn other_conversations_and_their_turns_have_addresses() {
        let session = Some(SessionRef::Named("7q3k".into()));
        assert_eq!(parse("t3/a"), (None, Some(Place::Conversation(3, "a".into()))));
        assert_eq!(parse("7q3k@t3/ab"), (session, Some(Place::Conversation(3, "ab".into()))));
        let label = TurnLabel { main: 3, other: Some(("b".into(), 12)) };
        assert_eq!(parse("t3/b.12"), (None, Some(Place::Turn(label.clone()))));
        assert_eq!(label.to_string(), "t3/b.12");
        for file in ["t3/", "t3/a.zst", "t3/a/b", "t3/A", "t0/a", "./t3/a", "t3/a.0"] {
            assert_eq!(parse(file).0, Some(SessionRef::File(file.into())), "{file:?}");
        }
    }

    #[test]
    fn places_stand_alone() {
        assert_eq!(parse("t5"), (None, Some(turn(5))));
        assert_eq!(parse("s2"), (None, Some(Place::Snapshot(SnapshotIndex(2)))));
        assert_eq!(parse("#1234"), (None, Some(Place::Event(Seq(1234)))));
        assert_eq!(parse("p7"), (None, Some(Place::Process(ProcId(7)))));
    }

    #[test]
    fn places_follow_a_session() {
        let session = Some(SessionRef::Named("7q3k".into()));
        assert_eq!(parse("7q3k@s2"), (session, Some(Place::Snapshot(SnapshotIndex(2)))));
        let file = Some(SessionRef::File("runs/a@b.zst".into()));
        assert_eq!(parse("runs/a@b.zst@t1"), (file.clone(), Some(turn(1))));
        assert_eq!(parse("runs/a@b.zst"), (file, None));
    }

    #[test]
    fn sessions_and_files_differ_by_shape() {
        assert_eq!(parse("last"), (Some(SessionRef::Last), None));
        assert_eq!(parse("last@p1"), (Some(SessionRef::Last), Some(Place::Process(ProcId(1)))));
        assert_eq!(parse("7q3kabcd").0, Some(SessionRef::Named("7q3kabcd".into())));
        assert_eq!(parse("s0").0, Some(SessionRef::Named("s0".into())));
        for file in ["trace.zst", "./abcd", "/abc", ".", ""] {
            assert_eq!(parse(file).0, Some(SessionRef::File(file.into())), "{file:?}");
        }
    }

    #[test]
    fn files_follow_a_session() {
        let of = |name| {
            let (address, file) = super::of_file(OsStr::new(name))?;
            Some((address.session, address.place, file.to_str()?.to_owned()))
        };
        let named = |name: &str, file: &str| {
            Some((Some(SessionRef::Named(name.into())), None, file.to_owned()))
        };
        assert_eq!(of("7q3k@src/a.rs"), named("7q3k", "src/a.rs"));
        assert_eq!(of("7q3k@web/@scope/a@2x.png"), named("7q3k", "web/@scope/a@2x.png"));
        assert_eq!(of("7q3k@/abs/a"), named("7q3k", "/abs/a"));
        assert_eq!(of("logo@2x.png"), named("logo", "2x.png"));
        assert_eq!(of("last@a"), Some((Some(SessionRef::Last), None, "a".into())));
        let trace = Some(SessionRef::File("runs/a@b.zst".into()));
        assert_eq!(of("runs/a@b.zst@c"), Some((trace, None, "c".into())));
        assert_eq!(of("t5@a"), Some((None, Some(turn(5)), "a".into())));
        for file in ["a", "@scope/a", "web/@scope/a", "./logo@2x.png", "logo.v1@2x.png", "7q3k@"] {
            assert_eq!(of(file), None, "{file}");
        }
    }

    #[test]
    fn ranges_name_two_places() {
        let s = |n| Place::Snapshot(SnapshotIndex(n));
        let Ok(range) = "s1..s3".parse::<Range>();
        assert_eq!(range, Range::Between { session: None, from: s(1), to: s(3) });
        let Ok(range) = "7q3k@s1..s3".parse::<Range>();
        let session = Some(SessionRef::Named("7q3k".into()));
        assert_eq!(range, Range::Between { session, from: s(1), to: s(3) });
        let Ok(range) = "../s3".parse::<Range>();
        let file = Address { session: Some(SessionRef::File("../s3".into())), place: None };
        assert_eq!(range, Range::One(file));
    }
}
