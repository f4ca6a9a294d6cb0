//! Where a path leads: an event has the name that a process used, and a symbolic link, a second name or a bind mount
//! can make that another file's. Known are the links that the session itself made, and those of its first snapshot.

use std::collections::BTreeMap;

/// Links on the way of one path (path_resolution(7)).
const MAX_FOLLOWED: usize = 40;

/// Links that are remembered, and the bytes of their names.
const MAX_LINKS: usize = 50_000;
const MAX_BYTES: usize = 32 << 20;

/// Links that are followed when the directories that they are in get other names, over and over.
const MAX_MOVED: usize = 1 << 20;

/// What a link of the first snapshot holds, by its path.
pub type Before<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// The links that are known.
pub struct Links<'a> {
    /// By path: where it leads, or nowhere, where a link of the snapshot was removed.
    made: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Links that went with their directories.
    moved: usize,
    before: Before<'a>,
    /// Links that there was no room for.
    pub forgotten: u64,
}

impl<'a> Links<'a> {
    /// With those of the first snapshot.
    pub fn new(before: Before<'a>) -> Self {
        Self { made: BTreeMap::new(), bytes: 0, moved: 0, before, forgotten: 0 }
    }

    /// `path` leads to `target` from here on, which may be relative to the directory of `path`.
    pub fn add(&mut self, path: &[u8], target: &[u8]) {
        // A second name of itself would lead nowhere.
        if path != target {
            self.set(path, Some(target));
        }
    }

    /// `path` is no link any more. Says whether it was one.
    pub fn remove(&mut self, path: &[u8]) -> bool {
        let was = self.target(path).is_some();
        if was {
            self.set(path, None);
        }
        was
    }

    /// `from` has the name `to` now. Says whether that changes where anything leads.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let target = self.target(from);
        let was = self.remove(from) | self.remove(to) | self.rename_below(from, to);
        if let Some(target) = target {
            // A relative one leads from its new directory; a hard link is absolute.
            self.set(to, Some(&target));
        }
        was
    }

    /// The links inside of a directory go with it. Says whether there are any.
    fn rename_below(&mut self, from: &[u8], to: &[u8]) -> bool {
        let inside = [from, b"/"].concat();
        let links = self.made.range(inside.clone()..).map(|(path, _)| path);
        let links: Vec<_> = links.take_while(|path| path.starts_with(&inside)).cloned().collect();
        self.moved += links.len();
        if self.moved > MAX_MOVED {
            self.forgotten += links.len() as u64;
            return false;
        }
        for path in &links {
            let target = self.made.remove(path).flatten();
            self.bytes -= path.len() + target.as_ref().map_or(0, Vec::len);
            self.set(&[to, &path[from.len()..]].concat(), target.as_deref());
        }
        !links.is_empty()
    }

    fn set(&mut self, path: &[u8], target: Option<&[u8]>) {
        let bytes = path.len() + target.map_or(0, <[u8]>::len);
        if self.made.len() >= MAX_LINKS || self.bytes + bytes > MAX_BYTES {
            self.forgotten += 1;
            return;
        }
        self.bytes += bytes;
        if let Some(old) = self.made.insert(path.to_vec(), target.map(<[u8]>::to_vec)) {
            self.bytes -= path.len() + old.map_or(0, |target| target.len());
        }
    }

    fn target(&self, path: &[u8]) -> Option<Vec<u8>> {
        match self.made.get(path) {
            Some(known) => known.clone(),
            None => (self.before)(path),
        }
    }

    /// The path of what `path` means, where links are known to lead elsewhere; `follow` says whether the call follows
    /// a link that is the last component.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Option<Vec<u8>> {
        let mut rest: Vec<Vec<u8>> = Vec::new();
        push(&mut rest, path);
        let (mut done, mut followed) = (Vec::new(), 0);
        while let Some(name) = rest.pop() {
            if name == b".." {
                done.truncate(done.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            let before = done.len();
            done.push(b'/');
            done.extend(&name);
            if rest.is_empty() && !follow {
                break;
            }
            if let Some(target) = self.target(&done).filter(|_| followed < MAX_FOLLOWED) {
                followed += 1;
                done.truncate(if target.starts_with(b"/") { 0 } else { before });
                push(&mut rest, &target);
            }
        }
        if done.is_empty() {
            done.push(b'/');
        }
        (followed > 0 && done != path).then_some(done)
    }
}

/// Puts the components of `path` on the stack, the first on top.
fn push(rest: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|&b| b == b'/').rev();
    rest.extend(names.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(links: &Links<'_>, path: &str, follow: bool) -> String {
        let found = links.resolve(path.as_bytes(), follow);
        found.map_or(path.to_owned(), |path| String::from_utf8(path).expect("text"))
    }

    #[test]
    fn links_lead_on_relative_and_absolute() {
        let before = |path: &[u8]| (path == b"/w/old").then(|| b"../etc".to_vec());
        let mut links = Links::new(&before);
        links.add(b"/w/abs", b"/home/u/.ssh");
        links.add(b"/w/two", b"abs");
        for (path, follow, real) in [
            ("/w/abs/id", false, "/home/u/.ssh/id"),
            ("/w/two/id", true, "/home/u/.ssh/id"),
            ("/w/two", true, "/home/u/.ssh"),
            ("/w/two", false, "/w/two"),
            ("/w/abs/../x", true, "/home/u/x"),
            ("/w/old/passwd", true, "/etc/passwd"),
            ("/w/other", true, "/w/other"),
            ("/", true, "/"),
        ] {
            assert_eq!(resolve(&links, path, follow), real, "{path}");
        }
    }

    #[test]
    fn links_go_and_move() {
        let before = |path: &[u8]| (path == b"/w/old").then(|| b"/etc".to_vec());
        let mut links = Links::new(&before);
        links.add(b"/w/a", b"/etc");
        assert!(links.rename(b"/w/a", b"/w/b"));
        assert_eq!(resolve(&links, "/w/a/x", true), "/w/a/x");
        assert_eq!(resolve(&links, "/w/b/x", true), "/etc/x");
        links.add(b"/w/d/e/link", b"/etc");
        links.rename(b"/w/d", b"/w/f");
        assert_eq!(resolve(&links, "/w/f/e/link/x", true), "/etc/x");
        assert_eq!(resolve(&links, "/w/d/e/link/x", true), "/w/d/e/link/x");
        assert!(links.remove(b"/w/old") && !links.remove(b"/w/old"));
        assert_eq!(resolve(&links, "/w/old/x", true), "/w/old/x");
    }

    #[test]
    fn circles_end() {
        let nothing = |_: &[u8]| None;
        let mut links = Links::new(&nothing);
        links.add(b"/w/a", b"b");
        links.add(b"/w/b", b"a");
        links.add(b"/w/c", b"/w/c/c");
        assert!(resolve(&links, "/w/a/x", true).starts_with("/w/"));
        assert!(resolve(&links, "/w/c/x", true).starts_with("/w/c"));
        links.add(b"/w/d", b"/w/d");
        assert_eq!(resolve(&links, "/w/d", true), "/w/d");
    }
}
