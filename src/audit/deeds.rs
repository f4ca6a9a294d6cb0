//! What was done to a file, and what became of it.

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Opened for reading, or read.
    Read,
    /// It came into being.
    Created,
    /// Written to, or cut.
    Written,
    /// Written to through a descriptor that the command was started with, such as a redirected output.
    Inherited,
    /// Opened for writing; the trace does not tell whether anything was written.
    Opened,
    /// Mapped, shared and writable.
    Mapped,
    /// Mode, owner, times or attributes.
    Attributes,
    /// Another file came to this name, whatever was there before.
    Replaced,
    /// It went to another name.
    Moved,
    /// It is gone.
    Deleted,
    /// It got a further name.
    Linked,
    /// It could not be opened for want of permission.
    Refused,
}

impl Act {
    /// As printed.
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Created => "created",
            Self::Written => "written",
            Self::Inherited => "written, open before",
            Self::Opened => "opened to write",
            Self::Mapped => "mapped to write",
            Self::Attributes => "mode, owner or time",
            Self::Replaced => "moved here",
            Self::Moved => "moved away",
            Self::Deleted => "deleted",
            Self::Linked => "linked",
            Self::Refused => "refused",
        }
    }

    const ALL: [Self; 12] = [
        Self::Read,
        Self::Created,
        Self::Written,
        Self::Inherited,
        Self::Opened,
        Self::Mapped,
        Self::Attributes,
        Self::Moved,
        Self::Replaced,
        Self::Deleted,
        Self::Linked,
        Self::Refused,
    ];

    fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Linked | Self::Refused)
    }
}

/// What was done to one file in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    acts: u16,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Whether it was there before it was first changed; none where that is not known.
    existed: Option<bool>,
    changed: bool,
    gone: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was there, and is gone.
    Deleted,
    /// It was there, and holds something else.
    Changed,
    /// It is there, and may have replaced another one.
    Replaced,
    /// It may have changed.
    MayHaveChanged,
    /// It was there, and has another mode, owner or time.
    Attributes,
    /// Its writer found it open.
    Inherited,
    /// It is new.
    Created,
    /// It came and went.
    Temporary,
}

impl Outcome {
    /// As printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Changed => "changed",
            Self::Replaced => "new or replaced",
            Self::MayHaveChanged => "may be changed",
            Self::Attributes => "mode, owner or time",
            Self::Inherited => "written, open before",
            Self::Created => "created",
            Self::Temporary => "made and removed",
        }
    }

    /// Whether the session made it.
    pub fn is_new(self) -> bool {
        matches!(self, Self::Created | Self::Temporary)
    }

    /// Whether something was lost with it that the trace does not hold.
    pub fn loses_content(self) -> bool {
        matches!(self, Self::Deleted | Self::Changed | Self::Replaced | Self::MayHaveChanged)
    }
}

impl Deeds {
    /// That was done too. `seen_before` says whether it was there before, as far as somebody looked at it.
    pub(super) fn add(&mut self, act: Act, seen_before: bool) {
        self.acts |= 1 << act as u16;
        if act.changes() {
            if !std::mem::replace(&mut self.changed, true) {
                self.existed = match act {
                    Act::Created => Some(false),
                    // rename(2) replaces silently.
                    Act::Replaced => seen_before.then_some(true),
                    _ => Some(true),
                };
            }
            self.gone = matches!(act, Act::Deleted | Act::Moved);
        }
    }

    /// Whether that was done.
    pub fn has(&self, act: Act) -> bool {
        self.acts & 1 << act as u16 != 0
    }

    /// Everything that was done, in words.
    pub fn words(&self) -> Vec<&'static str> {
        Act::ALL.into_iter().filter(|act| self.has(*act)).map(Act::word).collect()
    }

    /// What became of the file.
    pub fn outcome(&self) -> Outcome {
        let new = self.existed == Some(false);
        match (new, self.gone) {
            (true, true) => Outcome::Temporary,
            (true, false) => Outcome::Created,
            (false, true) if self.existed.is_none() => Outcome::Temporary,
            (false, true) => Outcome::Deleted,
            (false, false) if self.existed.is_none() => Outcome::Replaced,
            (false, false) if self.has(Act::Replaced) => Outcome::Changed,
            (false, false) if self.has(Act::Written) => Outcome::Changed,
            (false, false) if self.has(Act::Opened) || self.has(Act::Mapped) => {
                Outcome::MayHaveChanged
            }
            (false, false) if self.has(Act::Inherited) => Outcome::Inherited,
            // A name that was taken and given again.
            (false, false) if self.has(Act::Deleted) || self.has(Act::Moved) => Outcome::Changed,
            (false, false) => Outcome::Attributes,
        }
    }
}
