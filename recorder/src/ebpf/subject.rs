//! Whom a watch follows, as the programs are told, and as /proc shows who runs already.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agentrec_recorder_ebpf::{Watch, watch};

use crate::observation::Tid;
use crate::proc;
use crate::watch::Subject;

impl Subject {
    /// What the programs are told, who never find these two processes.
    pub(super) fn for_programs(&self, spared: [u32; 2]) -> io::Result<Watch> {
        let mut told = Watch { spared, ..Watch::default() };
        match self {
            // Descendants are followed whatever is looked for.
            Self::Tree(_) => told.who = watch::NOBODY,
            Self::All => told.who = watch::ALL,
            Self::User(uid) => (told.who, told.user) = (watch::USER, *uid),
            Self::Name(name) => (told.who, told.name) = (watch::NAME, padded(name)),
            Self::Group(path) => {
                // The number of its directory is the group's id (include/linux/kernfs.h).
                let group = std::fs::metadata(path)?.ino();
                (told.who, told.group) = (watch::GROUP, group);
            }
        }
        Ok(told)
    }

    /// Those who run now, with their descendants; each with its parent, parents first.
    pub(super) fn running(&self, spared: [u32; 2]) -> Vec<(Tid, Tid)> {
        let members = match self {
            Self::Group(path) => members(path),
            _ => HashSet::new(),
        };
        let is_wanted = |pid: Tid| match self {
            Self::Tree(root) => pid == *root,
            Self::Group(_) => members.contains(&pid),
            Self::User(uid) => proc::user(pid) == Some(*uid),
            Self::Name(name) => proc::name(pid).as_deref() == Some(name.as_bytes()),
            Self::All => true,
        };
        let mut found = proc::trees(is_wanted);
        found.retain(|&(pid, _)| !spared.contains(&(pid as u32)) && !proc::is_of_kernel(pid));
        found
    }
}

/// A name as the kernel keeps it, in words.
fn padded(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    for (to, from) in bytes[..Subject::MAX_NAME].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    [word(0), word(8)]
}

/// The processes of a control group and of those below it.
fn members(group: &Path) -> HashSet<Tid> {
    let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: HashSet<Tid> = pids.lines().filter_map(|pid| pid.parse().ok()).collect();
    let below = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(members(&entry.path()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_as_the_kernel_does() {
        assert_eq!(padded("sh"), [u64::from_ne_bytes(*b"sh\0\0\0\0\0\0"), 0]);
        let long = padded("0123456789abcdef");
        assert_eq!(long[1], u64::from_ne_bytes(*b"89abcde\0"));
    }
}
