//! A tree, what is in doubt of it, and two who capture it: one by that, one by looking at everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentrec_store::{
    Capture, CaptureOptions, Dirty, Home, Later, Objects, StatCache, Store, Touch, Tracked, Tree,
    capture_tree,
};
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

pub(super) struct Fixture {
    _dir: TempDir,
    pub(super) store: Arc<Store>,
    pub(super) later: Arc<Later>,
    /// Of somebody who knows nothing of the other one.
    pub(super) other: Store,
    pub(super) root: PathBuf,
    pub(super) options: CaptureOptions,
    pub(super) tracked: Tracked,
    pub(super) cache: StatCache,
    pub(super) dirty: Dirty,
    /// Everything that is in doubt, once more.
    pub(super) marks: Vec<(PathBuf, Touch)>,
    pub(super) renames: Vec<(PathBuf, PathBuf)>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&Home::new(dir.path().join("home"))).unwrap());
        let other = Store::open(&Home::new(dir.path().join("other"))).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let later = Arc::new(Later::new(Arc::clone(&store)).unwrap());
        let options =
            CaptureOptions { later: Some(Arc::clone(&later)), ..CaptureOptions::default() };
        Self {
            tracked: Tracked::new(&root),
            _dir: dir,
            store,
            later,
            other,
            root,
            options,
            cache: StatCache::in_memory(),
            dirty: Dirty::default(),
            marks: Vec::new(),
            renames: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, path: &str, content: &str) {
        let full = self.root.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, content).unwrap();
        for dir in Path::new(path).ancestors() {
            self.mark(dir, if dir == Path::new("") { Touch::Content } else { Touch::Name });
        }
    }

    pub(super) fn touch(&mut self, path: &str, touch: Touch) {
        self.mark(Path::new(path), touch);
    }

    pub(super) fn mark(&mut self, path: &Path, touch: Touch) {
        self.dirty.touch(path, touch);
        self.marks.push((path.to_owned(), touch));
    }

    /// Renames a directory, and says so.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        fs::rename(self.root.join(from), self.root.join(to)).unwrap();
        self.renamed(Path::new(from), Path::new(to));
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        for (path, touch) in self.marks.clone() {
            if let Ok(rest) = path.strip_prefix(from) {
                self.mark(&to.join(rest), touch);
            }
        }
        self.mark(from, Touch::Name);
        self.mark(to, Touch::Name);
        self.renames.push((from.to_owned(), to.to_owned()));
    }

    /// Says of every directory that was renamed what names it had.
    fn say_renames(&mut self) {
        let renames = std::mem::take(&mut self.renames);
        let back: Vec<_> = renames.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        for (_, to) in &renames {
            for now in closure(&renames, to) {
                self.dirty.renamed(&now, closure(&back, &now));
            }
        }
        self.marks.clear();
    }

    pub(super) fn start(&mut self) -> Capture {
        let capture = self.tracked.capture(&self.store, &self.options, &mut self.cache).unwrap();
        self.dirty = Dirty::default();
        self.marks.clear();
        self.renames.clear();
        assert!(capture.walked);
        capture
    }

    /// A capture that begins in the tick in which something was made could have come before it.
    pub(super) fn until_they_are_older(&self) {
        let now = || clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap();
        let before = now();
        while now() <= before {
            std::thread::yield_now();
        }
    }

    /// Captures what is in doubt, and all of it for comparison.
    pub(super) fn next(&mut self) -> Capture {
        self.say_renames();
        let dirty = std::mem::take(&mut self.dirty);
        let (store, cache) = (&self.store, &mut self.cache);
        let found = self.tracked.capture_changes(store, &dirty, &self.options, cache).unwrap();
        let options = CaptureOptions { later: None, ..self.options.clone() };
        let whole =
            capture_tree(&self.other, &self.root, &options, &mut StatCache::in_memory()).unwrap();
        if found.tree != whole.tree {
            let objects: [&dyn Objects; 2] = [&*self.later, &self.other];
            differ(objects, [found.tree, whole.tree], Path::new(""));
            panic!("the trees differ");
        }
        assert_eq!((found.files, found.bytes), (whole.files, whole.bytes));
        assert_eq!(found.left_out, whole.left_out);
        assert_eq!(found.secrets, whole.secrets);
        assert_eq!(found.ignored, whole.ignored);
        found
    }
}

/// Every name that a path may have had, or may have now, but not more than some.
fn closure(renames: &[(PathBuf, PathBuf)], path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    for at in 0..100 {
        let Some(path) = found.get(at).cloned() else { break };
        for (from, to) in renames {
            let other = path
                .strip_prefix(from)
                .map(|rest| to.components().chain(rest.components()).collect());
            found.extend(other.ok().filter(|other| !found.contains(other)));
        }
    }
    found
}

/// Prints where two trees differ.
fn differ(objects: [&dyn Objects; 2], ids: [agentrec_trace::ObjectId; 2], path: &Path) {
    let [a, b] = [0, 1].map(|n| Tree::load(objects[n], ids[n]).unwrap());
    if a.meta != b.meta {
        eprintln!("{}: {:?} and {:?}", path.display(), a.meta, b.meta);
    }
    let mut names: Vec<_> = a.entries.iter().chain(&b.entries).map(|e| e.name.clone()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (x, y) = (a.entry(&name), b.entry(&name));
        let path = path.join(String::from_utf8_lossy(&name).into_owned());
        match (x, y) {
            (x, y) if x == y => {}
            (Some(x), Some(y)) if x.is_dir() && y.is_dir() && x.id.is_some() && y.id.is_some() => {
                if x.ignored != y.ignored {
                    eprintln!("{}: ignored {} and {}", path.display(), x.ignored, y.ignored);
                }
                differ(objects, [x.id.unwrap(), y.id.unwrap()], &path);
            }
            _ => eprintln!("{}: {x:?}\n  and {y:?}", path.display()),
        }
    }
}
