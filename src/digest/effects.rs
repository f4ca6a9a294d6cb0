//! What groups of processes did to the world: files changed and read, connections made.

use std::collections::{BTreeMap, HashMap};

use agentrec_trace::ProcId;

use super::changes::{Change, fold_directories};
use super::network::{Connection, Peer};
use super::paths::is_below;
use super::{Digest, Files};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Bytes.
    pub bytes: u64,
    /// One of the processes that read it.
    pub proc: ProcId,
}

/// Connections with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// With whom.
    pub peer: Peer,
    /// Connections that were made.
    pub made: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// What a group of processes did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Files that came, changed or went; whole directories as one.
    pub changes: Vec<Change>,
    /// Files that were read and not written by the same group.
    pub reads: Vec<Read>,
    /// Whom they talked to, in the order of the first connection.
    pub contacts: Vec<Contact>,
}

impl Digest {
    /// The effects of groups, by group. `group` says to which group a process belongs; `act`, where that is another one,
    /// to which a change or a connection of a process at a time; `existed` whether a path was there when the session
    /// started, where that is known.
    pub fn effects<G: Ord + Copy>(
        &self,
        group: impl Fn(ProcId) -> Option<G>,
        act: impl Fn(ProcId, u64) -> Option<G>,
        existed: impl Fn(&[u8]) -> Option<bool>,
    ) -> BTreeMap<G, Effects> {
        let mut members: BTreeMap<G, Vec<ProcId>> = BTreeMap::new();
        let mut group_of: HashMap<ProcId, G> = HashMap::new();
        for process in self.processes.iter() {
            if let Some(group) = group(process.id) {
                members.entry(group).or_default().push(process.id);
                group_of.insert(process.id, group);
            }
        }
        let group_at = |proc, ts| act(proc, ts).or_else(|| group_of.get(&proc).copied());
        let mut effects: BTreeMap<G, Effects> = BTreeMap::new();
        for (&group, procs) in &members {
            let reads = reads(&self.files, procs);
            effects.insert(group, Effects { reads, ..Effects::default() });
        }
        for (group, changes) in self.files.net_by(group_at, &existed) {
            let effects = effects.entry(group).or_default();
            effects.changes = fold_directories(changes);
            let changed = |path: &[u8]| effects.changes.iter().any(|c| is_below(path, &c.path));
            effects.reads.retain(|read| !changed(&read.path));
        }
        let told =
            |connection: &&Connection| connection.carries_data() && !self.is_recorder(connection);
        for connection in self.connections.iter().filter(told) {
            // A call's result is told by the next request, whose connection may be older than that: it is the agent's own.
            let asks = self.traffic.asks_model(connection.seq);
            let own = group_of.get(&connection.proc).copied();
            let group = if asks { own } else { group_at(connection.proc, connection.ts) };
            let Some(group) = group else { continue };
            let Effects { contacts, .. } = effects.entry(group).or_default();
            let at = contacts.iter().position(|c| c.peer == connection.peer).unwrap_or_else(|| {
                let peer = connection.peer.clone();
                contacts.push(Contact { peer, made: 0, failed: 0, sent: 0, received: 0 });
                contacts.len() - 1
            });
            let contact = &mut contacts[at];
            contact.made += u64::from(connection.made());
            contact.failed += u64::from(!connection.made());
            contact.sent = contact.sent.saturating_add(connection.sent);
            contact.received = contact.received.saturating_add(connection.received);
        }
        effects
    }
}

impl Digest {
    /// Whether it leads to the recorder's own socket, which is named by the session.
    fn is_recorder(&self, connection: &Connection) -> bool {
        let (Peer::Unix(path), Some(start)) = (&connection.peer, &self.start) else { return false };
        path.ends_with(format!("/{}.sock", start.session).as_bytes())
    }
}

/// What the processes read, each path once.
fn reads(files: &Files, procs: &[ProcId]) -> Vec<Read> {
    let mut reads: BTreeMap<&[u8], Read> = BTreeMap::new();
    for &proc in procs {
        for (path, usage) in files.uses_of(proc) {
            if usage.read > 0 && !is_pseudo(path) {
                let read = reads.entry(path).or_insert_with(|| Read {
                    path: path.to_vec(),
                    bytes: 0,
                    proc,
                });
                read.bytes = read.bytes.saturating_add(usage.read);
            }
        }
    }
    reads.into_values().collect()
}

/// Devices and the kernel's own file systems hold no files, and pipes, sockets and the like (`pipe:[4711]`) are none.
pub fn is_pseudo(path: &[u8]) -> bool {
    !path.starts_with(b"/")
        || [b"/dev".as_slice(), b"/proc", b"/sys"].iter().any(|directory| is_below(path, directory))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    #[test]
    fn only_what_has_a_path_is_a_file() {
        for path in [
            "pipe:[402000]",
            "socket:[7]",
            "anon_inode:[eventfd]",
            "/dev/tty",
            "/dev/pts/3",
            "/proc/1/mem",
            "/sys/x",
        ] {
            assert!(is_pseudo(path.as_bytes()), "{path}");
        }
        assert!(!is_pseudo(b"/devices/a") && !is_pseudo(b"/tmp/pipe:[1]"));
    }

    #[test]
    fn groups_keep_to_themselves() {
        let mut script = Script::new("/w");
        script.fork(1, 2).fork(2, 3).fork(1, 4);
        let open = script.open(3, "/w/in", libc::O_RDONLY, false);
        script.close(3, open, 7, 0).create(2, "/w/out").create(4, "/w/other");
        let own = script.open(2, "/w/out", libc::O_RDONLY, false);
        script.close(2, own, 1, 0).modify(2, "/dev/tty");
        script.connect(4, "::1", 443, None).connect(4, "::1", 443, Some(libc::ECONNREFUSED));
        let digest = script.digest();
        let group = |proc: ProcId| match proc.0 {
            2 | 3 => Some('a'),
            4 => Some('b'),
            _ => None,
        };
        let effects = digest.effects(group, |_, _| None, |_| None);
        let paths = |changes: &[Change]| {
            changes.iter().map(|c| c.path.escape_ascii().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&effects[&'a'].changes), ["/w/out"]);
        let read = Read { path: b"/w/in".to_vec(), bytes: 7, proc: ProcId(3) };
        assert_eq!(effects[&'a'].reads, [read]);
        assert_eq!(paths(&effects[&'b'].changes), ["/w/other"]);
        assert_eq!(effects[&'b'].contacts.len(), 1);
        assert_eq!((effects[&'b'].contacts[0].made, effects[&'b'].contacts[0].failed), (1, 1));
        assert!(effects[&'a'].contacts.is_empty());
    }
}
