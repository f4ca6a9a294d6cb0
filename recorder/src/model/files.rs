//! Descriptor tables and open file descriptions, with the bytes that each process moved through them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;

use super::mounts::MountFd;
use super::pipes::Pipe;
use super::sockets::Socket;
use crate::observation::Direction;

/// A number in the slab of descriptions; [`OpenId`](crate::source::OpenId) outside of the model.
pub(super) type DescriptionId = u32;

/// An open file description (open(2)): what descriptors in several tables can share.
#[derive(Debug)]
pub(super) struct Description {
    /// As the process meant it when it opened it, renames followed.
    pub(super) path: Vec<u8>,
    /// What the kernel calls it: asked once a name is resolved against it, renames followed.
    pub(super) base: Option<Vec<u8>>,
    pub(super) kind: Kind,
    /// For descriptors of the mount calls.
    pub(super) mount: Option<Box<MountFd>>,
    /// It was opened with O_TMPFILE and has no name yet; the path is the directory's.
    pub(super) unnamed: bool,
    /// The session's terminal: what is read from it is input.
    pub(super) is_terminal: bool,
    /// An event says how it began.
    pub(super) has_event: bool,
    /// Tables that hold it, and messages on their way.
    pub(super) tables: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    File,
    /// One of the command's outputs: 1 or 2.
    Output(RawFd),
    Socket(Box<Socket>),
}

impl Description {
    pub(super) fn new(path: Vec<u8>, kind: Kind, has_event: bool) -> Self {
        Self {
            path,
            base: None,
            kind,
            mount: None,
            unnamed: false,
            is_terminal: false,
            has_event,
            tables: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    description: DescriptionId,
    cloexec: bool,
}

/// What one table's holders did with one description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Descriptors of this table that name it.
    slots: u32,
    pub(super) read: u64,
    pub(super) written: u64,
    /// It came into being here, not by inheritance.
    pub(super) opened: bool,
}

/// A descriptor table: a process's, or shared (CLONE_FILES). Descriptors that are in the kernel's table and not
/// here name things that are not followed, such as pipes.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    /// Tasks that hold the table.
    pub(super) users: u32,
    slots: BTreeMap<RawFd, Slot>,
    uses: BTreeMap<DescriptionId, Use>,
    /// What is known of those that are not followed, since bytes went through them.
    pub(super) pipes: BTreeMap<RawFd, Pipe>,
}

/// A description left a table: its last descriptor there is gone.
pub(super) type Released = (DescriptionId, Use);

impl FileTable {
    pub(super) fn get(&self, fd: RawFd) -> Option<DescriptionId> {
        self.slots.get(&fd).map(|slot| slot.description)
    }

    /// `fd` names `description` now; `first` when this table didn't hold that before.
    pub(super) fn set(
        &mut self,
        fd: RawFd,
        description: DescriptionId,
        cloexec: bool,
        opened: bool,
    ) -> (Option<Released>, bool) {
        self.pipes.remove(&fd);
        // First in, then out: dup2(fd, fd) and its kin must not lose the sums.
        let used = self.uses.entry(description).or_insert(Use { opened, ..Use::default() });
        used.slots += 1;
        let first = used.slots == 1;
        let old = self.slots.insert(fd, Slot { description, cloexec });
        (old.and_then(|slot| self.unuse(slot.description)), first)
    }

    pub(super) fn set_cloexec(&mut self, fd: RawFd, cloexec: bool) {
        if let Some(slot) = self.slots.get_mut(&fd) {
            slot.cloexec = cloexec;
        }
    }

    pub(super) fn set_cloexec_range(&mut self, range: RangeInclusive<RawFd>) {
        for (_, slot) in self.slots.range_mut(range) {
            slot.cloexec = true;
        }
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Option<Released> {
        self.pipes.remove(&fd);
        let slot = self.slots.remove(&fd)?;
        self.unuse(slot.description)
    }

    pub(super) fn close_range(&mut self, range: RangeInclusive<RawFd>) -> Vec<Released> {
        self.pipes.retain(|fd, _| !range.contains(fd));
        let fds: Vec<RawFd> = self.slots.range(range).map(|(&fd, _)| fd).collect();
        fds.into_iter().filter_map(|fd| self.close(fd)).collect()
    }

    /// What an exec closes.
    pub(super) fn close_on_exec(&mut self) -> Vec<Released> {
        // Which of them stay nobody knows, and those begin anew with the program.
        self.pipes.clear();
        let fds: Vec<RawFd> =
            self.slots.iter().filter(|(_, slot)| slot.cloexec).map(|(&fd, _)| fd).collect();
        fds.into_iter().filter_map(|fd| self.close(fd)).collect()
    }

    /// Everything that the table held.
    pub(super) fn close_all(&mut self) -> Vec<Released> {
        self.close_range(0..=RawFd::MAX)
    }

    pub(super) fn transferred(&mut self, fd: RawFd, direction: Direction, bytes: u64) {
        let Some(used) = self.get(fd).and_then(|id| self.uses.get_mut(&id)) else { return };
        match direction {
            Direction::Read => used.read += bytes,
            Direction::Write => used.written += bytes,
        }
    }

    /// The table that fork(2) makes: same descriptors, sums from 0. One user.
    pub(super) fn inherit(&self) -> Self {
        let uses =
            self.uses.iter().map(|(&id, used)| (id, Use { slots: used.slots, ..Use::default() }));
        let pipes = BTreeMap::new();
        Self { users: 1, slots: self.slots.clone(), uses: uses.collect(), pipes }
    }

    /// Descriptors in order, with what they name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, DescriptionId)> {
        self.slots.iter().map(|(&fd, slot)| (fd, slot.description))
    }

    pub(super) fn descriptions(&self) -> impl Iterator<Item = DescriptionId> {
        self.uses.keys().copied()
    }

    fn unuse(&mut self, description: DescriptionId) -> Option<Released> {
        let used = self.uses.get_mut(&description)?;
        used.slots -= 1;
        let used = *used;
        (used.slots == 0).then(|| {
            self.uses.remove(&description);
            (description, used)
        })
    }
}
