//! One directory as a capture found it: its own times, and those of all that is in it.
//!
//! Encoded, since a tree has thousands of them and a later capture looks at each once: it compares them where they lie.

use std::ffi::CStr;

use agentrec_trace::ObjectId;
use nix::sys::stat::FileStat;
use serde_bytes::ByteBuf;

use super::{Cached, Stamp};
use crate::tree::{Entry, Kind};

/// All names and all times in the directory are to be believed.
const SETTLED: u8 = 1;
/// Tools make it again, which nothing above it says.
const DERIVED: u8 = 1 << 1;
/// It holds a `.git`.
const REPOSITORY: u8 = 1 << 3;
/// There are files with several names, or with secrets.
const SPECIAL: u8 = 1 << 2;

const SECRET: u8 = 1;
const PRIVATE_KEY: u8 = 1 << 1;
const SQLITE: u8 = 1 << 2;
const LINKED: u8 = 1 << 3;
const XATTRS: u8 = 1 << 4;

/// A file or directory at one moment: equal ones were not changed in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
}

impl Moment {
    /// No file has it.
    pub(crate) const NEVER: Self = Self { dev: 0, ino: u64::MAX, size: -1, mtime: 0, ctime: 0 };

    pub(crate) fn of(stat: &FileStat) -> Self {
        let Stamp { size, mtime, ctime } = Stamp::of(stat);
        Self { dev: stat.st_dev, ino: stat.st_ino, size, mtime, ctime }
    }

    fn encode(self, out: &mut Vec<u8>) {
        for number in [self.dev, self.ino] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.size, self.mtime, self.ctime] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// A directory in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder<'a> {
    /// Relative to the root.
    pub(crate) path: &'a [u8],
    pub(crate) moment: Moment,
    /// Of `.git/info/exclude`, where it holds a `.git`; the default where that has none.
    pub(crate) exclude: Option<Moment>,
    pub(crate) tree: ObjectId,
    /// Files in it, not below.
    pub(crate) files: u64,
    /// The sum of their lengths, bytes.
    pub(crate) bytes: u64,
    /// Directories in it.
    pub(crate) directories: u32,
    flags: u8,
    items: &'a [u8],
}

impl<'a> Folder<'a> {
    /// None where these bytes are no directory.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let path = bytes.name()?.to_bytes();
        let flags = bytes.byte()?;
        let moment = bytes.moment()?;
        let exclude = if flags & REPOSITORY != 0 { Some(bytes.moment()?) } else { None };
        let tree = ObjectId(bytes.array()?);
        let (files, len) = (bytes.number()?, bytes.number()?);
        let directories = u32::from_le_bytes(bytes.array()?);
        let items = bytes.0;
        Some(Self { path, moment, exclude, tree, files, bytes: len, directories, flags, items })
    }

    /// Its path alone.
    pub(crate) fn path_in(bytes: &'a [u8]) -> Option<&'a [u8]> {
        Bytes(bytes).name().map(CStr::to_bytes)
    }

    /// Whether nothing was left out of what is known of it, and all of it was old enough.
    pub(crate) fn is_settled(&self) -> bool {
        self.flags & SETTLED != 0
    }

    pub(crate) fn is_derived(&self) -> bool {
        self.flags & DERIVED != 0
    }

    /// Whether some of its items are linked or secret.
    pub(crate) fn is_special(&self) -> bool {
        self.flags & SPECIAL != 0
    }

    /// What is in it. An item that can't be read ends them: see [`Items::is_whole`].
    pub(crate) fn items(&self) -> Items<'a> {
        Items(Bytes(self.items))
    }

    pub(crate) fn item(&self, name: &[u8]) -> Option<Item<'a>> {
        self.items().find(|item| item.name.to_bytes() == name)
    }
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) name: &'a CStr,
    pub(crate) kind: Kind,
    /// The default for a directory, which has a folder of its own.
    pub(crate) moment: Moment,
    /// How many names the file has.
    pub(crate) links: u64,
    id: ObjectId,
    flags: u8,
    xattrs: &'a [u8],
}

impl Item<'_> {
    pub(crate) fn is_secret(&self) -> bool {
        self.flags & SECRET != 0
    }

    /// The content of a file.
    pub(crate) fn content(&self) -> Option<ObjectId> {
        (self.kind == Kind::File).then_some(self.id)
    }

    /// What was found when the file was read.
    pub(crate) fn cached(&self) -> Option<Cached> {
        let Moment { size, mtime, ctime, .. } = self.moment;
        let mut cached = Cached::new(Stamp { size, mtime, ctime }, self.content()?);
        cached.private_key = self.flags & PRIVATE_KEY != 0;
        cached.sqlite = self.flags & SQLITE != 0;
        let mut rest = Bytes(self.xattrs);
        while !rest.0.is_empty() {
            let (name, value) = (rest.block()?, rest.block()?);
            cached.xattrs.push((ByteBuf::from(name), ByteBuf::from(value)));
        }
        Some(cached)
    }
}

/// The items of a directory, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a>(Bytes<'a>);

impl Items<'_> {
    /// Whether, after the last one, nothing is left that is none.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let mut bytes = self.0;
        let item = bytes.item()?;
        self.0 = bytes;
        Some(item)
    }
}

/// What a capture noted of a file beside its entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) moment: Moment,
    pub(crate) links: u64,
    pub(crate) private_key: bool,
    pub(crate) sqlite: bool,
}

impl Note {
    pub(crate) fn of(stat: &FileStat) -> Self {
        // A `nlink_t`, whose width depends on the architecture.
        #[allow(clippy::useless_conversion)]
        let links = stat.st_nlink.into();
        Self { moment: Moment::of(stat), links, private_key: false, sqlite: false }
    }
}

/// Puts together what is known of a directory.
#[derive(Debug)]
pub(crate) struct FolderWriter {
    moment: Moment,
    /// What changed later than this is not believed.
    until: i64,
    flags: u8,
    files: u64,
    bytes: u64,
    directories: u32,
    items: Vec<u8>,
}

impl FolderWriter {
    /// A directory that had these attributes before its names were read.
    pub(crate) fn new(stat: &FileStat, until: i64) -> Self {
        let moment = Moment::of(stat);
        let flags = if moment.ctime <= until { SETTLED } else { 0 };
        let (files, bytes, directories, items) = (0, 0, 0, Vec::new());
        Self { moment, until, flags, files, bytes, directories, items }
    }

    /// Something in it can't be told from its times: it has to be looked at again.
    pub(crate) fn unsettle(&mut self) {
        self.flags &= !SETTLED;
    }

    /// Adds a directory that was captured.
    pub(crate) fn add_directory(&mut self, name: &[u8]) {
        self.directories += 1;
        self.items.extend_from_slice(&[kind_number(Kind::Dir), 0]);
        put_name(&mut self.items, name);
    }

    /// Adds what is no directory.
    pub(crate) fn add(&mut self, entry: &Entry, note: &Note) {
        let believed = note.moment.ctime <= self.until;
        if !believed || note.sqlite {
            self.unsettle();
        }
        if !believed {
            return;
        }
        let linked = note.links > 1;
        let has_xattrs = !entry.meta.xattrs.is_empty();
        let flags = [
            (entry.secret, SECRET),
            (note.private_key, PRIVATE_KEY),
            (note.sqlite, SQLITE),
            (linked, LINKED),
            (has_xattrs, XATTRS),
        ];
        let flags = flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
        if linked || entry.secret {
            self.flags |= SPECIAL;
        }
        let out = &mut self.items;
        out.extend_from_slice(&[kind_number(entry.kind), flags]);
        put_name(out, &entry.name);
        note.moment.encode(out);
        if linked {
            out.extend_from_slice(&note.links.to_le_bytes());
        }
        if entry.kind == Kind::File {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(entry.size);
            out.extend_from_slice(&entry.id.unwrap_or_default().0);
        }
        if has_xattrs {
            let mut xattrs = Vec::new();
            for (name, value) in &entry.meta.xattrs {
                put_block(&mut xattrs, name);
                put_block(&mut xattrs, value);
            }
            put_block(out, &xattrs);
        }
    }

    /// Appends the directory to `out`.
    pub(crate) fn finish(
        mut self,
        path: &[u8],
        tree: ObjectId,
        derived: bool,
        exclude: Option<Moment>,
        out: &mut Vec<u8>,
    ) {
        self.flags |= if derived { DERIVED } else { 0 };
        self.flags |= if exclude.is_some() { REPOSITORY } else { 0 };
        put_name(out, path);
        out.push(self.flags);
        self.moment.encode(out);
        if let Some(exclude) = exclude {
            exclude.encode(out);
        }
        out.extend_from_slice(&tree.0);
        out.extend_from_slice(&self.files.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.directories.to_le_bytes());
        out.extend_from_slice(&self.items);
    }
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    fn item(&mut self) -> Option<Item<'a>> {
        let (kind, flags) = (kind_of(self.byte()?)?, self.byte()?);
        let name = self.name()?;
        let mut item = Item {
            name,
            kind,
            moment: Moment::default(),
            links: 1,
            id: ObjectId::default(),
            flags,
            xattrs: &[],
        };
        if kind != Kind::Dir {
            item.moment = self.moment()?;
        }
        if flags & LINKED != 0 {
            item.links = self.number()?;
        }
        if kind == Kind::File {
            item.id = ObjectId(self.array()?);
        }
        if flags & XATTRS != 0 {
            item.xattrs = self.block()?;
        }
        Some(item)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn moment(&mut self) -> Option<Moment> {
        let (dev, ino) = (self.number()?, self.number()?);
        let mut next = || self.array().map(i64::from_le_bytes);
        Some(Moment { dev, ino, size: next()?, mtime: next()?, ctime: next()? })
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes with their length in front.
    pub(super) fn block(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(len as usize)
    }

    /// A name or a path, which ends as system calls want it.
    fn name(&mut self) -> Option<&'a CStr> {
        let len = u16::from_le_bytes(self.array()?);
        CStr::from_bytes_with_nul(self.take(usize::from(len))?).ok()
    }
}

pub(super) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("attributes and directories are shorter");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let len = u16::try_from(name.len() + 1).expect("no system call takes a longer path");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(name);
    out.push(0);
}

const KINDS: [Kind; 7] =
    [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::Char, Kind::Block];

fn kind_number(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).unwrap_or_default() as u8
}

fn kind_of(number: u8) -> Option<Kind> {
    KINDS.get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::stat;
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = (Entry, u64, [bool; 3], i64)> {
        let name = prop::collection::vec(1..=255_u8, 1..20);
        let xattrs = prop::collection::vec((any::<[u8; 3]>(), any::<[u8; 5]>()), 0..3);
        let rest = (0..KINDS.len(), any::<[u8; 32]>(), any::<u32>(), 1..4_u64, any::<[bool; 3]>());
        (name, xattrs, rest, -9..9_i64).prop_map(|(name, xattrs, rest, ctime)| {
            let (kind, id, size, links, flags) = rest;
            let mut entry =
                Entry { name: ByteBuf::from(name), kind: KINDS[kind], ..Entry::default() };
            if entry.kind == Kind::File {
                entry.id = Some(ObjectId(id));
                entry.size = size.into();
                let buf = |bytes: &[u8]| ByteBuf::from(bytes.to_vec());
                entry.meta.xattrs =
                    xattrs.iter().map(|(name, value)| (buf(name), buf(value))).collect();
                entry.secret = flags[2];
            }
            (entry, links, flags, ctime)
        })
    }

    proptest! {
        #[test]
        fn a_directory_comes_back(
            entries in prop::collection::vec(entry(), 0..8),
            path in prop::collection::vec(1..=255_u8, 0..30),
            derived: bool,
            exclude: Option<u32>,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let own = stat(dir.path()).unwrap();
            let mut writer = FolderWriter::new(&own, 5);
            writer.flags |= SETTLED;
            let (mut believed, mut settled) = (Vec::new(), true);
            for (entry, links, [private_key, sqlite, _], ctime) in &entries {
                if entry.is_dir() {
                    writer.add_directory(&entry.name);
                    believed.push((entry, None));
                    continue;
                }
                let moment = Moment { dev: 1, ino: 2, size: entry.size as i64, mtime: 3, ctime: *ctime };
                let (links, private_key, sqlite) = (*links, *private_key, *sqlite);
                let note = Note { moment, links, private_key, sqlite };
                writer.add(entry, &note);
                settled &= *ctime <= 5 && !sqlite;
                if *ctime <= 5 {
                    believed.push((entry, Some(note)));
                }
            }
            let exclude = exclude.map(|size| Moment { size: size.into(), ..Moment::default() });
            let mut bytes = Vec::new();
            writer.finish(&path, ObjectId([7; 32]), derived, exclude, &mut bytes);

            let folder = Folder::decode(&bytes).unwrap();
            prop_assert_eq!(folder.path, path.as_slice());
            prop_assert_eq!(Folder::path_in(&bytes), Some(path.as_slice()));
            prop_assert_eq!((folder.moment, folder.exclude), (Moment::of(&own), exclude));
            prop_assert_eq!((folder.is_settled(), folder.is_derived()), (settled, derived));
            let mut items = folder.items();
            for (entry, note) in &believed {
                let item = items.next().unwrap();
                prop_assert_eq!(item.name.to_bytes(), entry.name.as_slice());
                prop_assert_eq!((item.kind, item.is_secret()), (entry.kind, entry.secret));
                let Some(note) = note else { continue };
                prop_assert_eq!((item.moment, item.links), (note.moment, note.links));
                prop_assert_eq!(item.content(), entry.id);
                if let Some(cached) = item.cached() {
                    prop_assert_eq!(&cached.xattrs, &entry.meta.xattrs);
                    prop_assert_eq!((cached.private_key, cached.sqlite), (note.private_key, note.sqlite));
                }
                prop_assert!(folder.is_special() || note.links == 1 && !entry.secret);
            }
            prop_assert!(items.next().is_none() && items.is_whole());
            let directories = believed.iter().filter(|(entry, _)| entry.is_dir()).count();
            prop_assert_eq!(folder.directories as usize, directories);

            // A part of it is none, or has fewer items and is not whole.
            for len in 0..bytes.len() {
                if let Some(folder) = Folder::decode(&bytes[..len]) {
                    let mut items = folder.items();
                    let count = items.by_ref().count();
                    prop_assert!(count < believed.len() || !items.is_whole());
                }
            }
            fs::remove_dir(dir.path()).unwrap();
        }
    }
}
