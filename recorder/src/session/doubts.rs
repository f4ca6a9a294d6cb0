//! From names that events told of to paths below the roots that a snapshot has to look at.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentrec_launch::PathMap;
use agentrec_store::{Dirty, Kind, Objects, Touch, Tracked};

use super::changes::{Changes, Named, Since};
use super::renames::Renames;

/// Why the whole tree has to be looked at.
type Refusal = &'static str;

const LINK_CHANGED: Refusal = "a symbolic link that was followed may have changed";

/// What is asked of a root.
pub(super) struct Place<'a> {
    pub(super) visible: &'a Path,
    pub(super) real: PathBuf,
    pub(super) tracked: &'a mut Tracked,
}

/// Resolves what changed.
pub(super) struct Doubts<'a> {
    pub(super) paths: &'a PathMap,
    pub(super) objects: &'a dyn Objects,
    pub(super) places: Vec<Place<'a>>,
    found: Vec<Dirty>,
    /// Real paths of directories, and of the first name that is missing in them.
    dirs: HashMap<PathBuf, Option<Dir>>,
    renames: Renames,
}

/// Where a directory of an event really is.
#[derive(Clone)]
enum Dir {
    There(PathBuf),
    /// It is gone: the first name on the way that is missing, and where the directory was.
    Gone(PathBuf, PathBuf),
}

impl<'a> Doubts<'a> {
    pub(super) fn new(
        paths: &'a PathMap,
        objects: &'a dyn Objects,
        places: Vec<Place<'a>>,
    ) -> Self {
        let found = places.iter().map(|_| Dirty::default()).collect();
        let (dirs, renames) = (HashMap::new(), Renames::default());
        Self { paths, objects, places, found, dirs, renames }
    }

    /// What every root has to look at, in their order.
    ///
    /// # Errors
    /// Where that can't be told.
    pub(super) fn resolve(
        mut self,
        mut since: Since,
        changes: &mut Changes,
    ) -> Result<Vec<Dirty>, Refusal> {
        for (from, to) in &since.renames {
            if let (Some(from), Some(to)) = (self.place(from)?, self.place(to)?) {
                self.renames.add(from, to);
            }
        }
        self.settle_links(&mut since)?;
        let since = &since;
        let renamed = self.renames.all();
        for (path, named) in &since.names {
            self.named(path, *named, since)?;
            if renamed.is_some() && !self.renames.is_empty() {
                self.by_later_names(path, *named, since)?;
            }
        }
        for (to, names) in renamed.into_iter().flatten() {
            for (place, dirty) in self.places.iter().zip(&mut self.found) {
                let inside = |path: &PathBuf| Some(path.strip_prefix(&place.real).ok()?.to_owned());
                if let Some(to) = inside(&to) {
                    dirty.renamed(&to, names.iter().filter_map(inside));
                }
            }
        }
        for held in changes.held_mut() {
            if !held.resolved {
                let named = Named { touch: Touch::Content, follow: true, existed: true };
                for path in &mut held.paths {
                    if let Some(real) = self.named(path, named, since)? {
                        *path = self.visible(&real);
                    }
                }
                held.resolved = true;
            }
            for path in &held.paths {
                let real = self.paths.real(path).into_owned();
                self.touch(&real, Touch::Content);
            }
        }
        for &ino in &since.inodes {
            let mut known = self.places.iter().zip(&mut self.found);
            if known.any(|(place, _)| place.tracked.is_linked(ino)) {
                self.found.iter_mut().for_each(|dirty| dirty.touch_inode(ino));
            } else {
                return Err("a file is open that has another name by now");
            }
        }
        Ok(self.found)
    }

    /// Adds the names of what was renamed and is gone, unless it is known to have been no link: none stood at any of its names when
    /// the last snapshot was taken, and none was made there since.
    fn settle_links(&mut self, since: &mut Since) -> Result<(), Refusal> {
        if since.unsure.is_empty() {
            return Ok(());
        }
        let mut links = HashSet::new();
        for path in &since.links {
            links.extend(self.place(path)?);
        }
        for (from, to) in std::mem::take(&mut since.unsure) {
            let names = self.place(&from)?.and_then(|place| self.renames.earlier(&place));
            let is_known = names.is_some_and(|names| {
                names.iter().all(|name| !links.contains(name) && self.was_link(name) == Some(false))
            });
            if !is_known {
                since.links.extend([from, to]);
            }
        }
        Ok(())
    }

    /// Whether a symbolic link stood at a real path when the last snapshot was taken; none outside of the roots.
    fn was_link(&mut self, real: &Path) -> Option<bool> {
        let inside = self.places.iter_mut().filter(|place| real.starts_with(&place.real));
        let place = inside.max_by_key(|place| place.real.iter().count())?;
        let former = place.tracked.entry(self.objects, real.strip_prefix(&place.real).ok()?);
        Some(former.is_some_and(|entry| entry.kind == Kind::Symlink))
    }

    /// Where a name stands, or stood: the real path, without following the name itself.
    fn place(&mut self, path: &Path) -> Result<Option<PathBuf>, Refusal> {
        let is_file = path.is_absolute() && !path.starts_with("/proc") && !path.starts_with("/sys");
        let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), is_file) else {
            return Ok(None);
        };
        let (Dir::There(dir) | Dir::Gone(_, dir)) = self.dir(parent)?;
        Ok(Some(dir.join(name)))
    }

    /// Takes up the names that something has now which lies in a renamed directory.
    fn by_later_names(&mut self, path: &Path, named: Named, since: &Since) -> Result<(), Refusal> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        for name in self.renames.later(&place).into_iter().flatten().filter(|name| *name != place) {
            self.named(&self.visible(&name), named, since)?;
        }
        Ok(())
    }

    /// Takes up a name; returns where it leads.
    fn named(
        &mut self,
        path: &Path,
        named: Named,
        since: &Since,
    ) -> Result<Option<PathBuf>, Refusal> {
        if !path.is_absolute() {
            return if path.as_os_str().is_empty() {
                Ok(None)
            } else {
                Err("a path could not be told")
            };
        }
        if path.starts_with("/proc") {
            let through = ["cwd", "root", "fd", "task", "map_files"];
            let leads =
                path.components().any(|it| through.iter().any(|name| it.as_os_str() == *name));
            return if leads { Err("a path led through /proc") } else { Ok(None) };
        }
        if path.starts_with("/sys") {
            return Ok(None);
        }
        if since.is_ambiguous(path) || (named.follow && since.links.contains(path)) {
            return Err(LINK_CHANGED);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // It ends in `..`, after a link.
            let real = self.real(path).ok_or("a path could not be told")?;
            self.touch(&real, named.touch);
            return Ok(Some(real));
        };
        let real = match self.dir(parent)? {
            Dir::There(dir) => dir.join(name),
            Dir::Gone(missing, dir) => {
                self.touch(&missing, Touch::Name);
                if named.follow && named.existed && since.unlinked.contains(path) {
                    self.was_no_link(&dir.join(name))?;
                }
                return Ok(None);
            }
        };
        let there = real.symlink_metadata().ok();
        let inside = self.touch(&real, named.touch);
        if named.follow {
            if since.unlinked.contains(path) && named.existed {
                self.was_no_link(&real)?;
            }
            if there.as_ref().is_some_and(Metadata::is_symlink) {
                let Some(target) = self.real(&real) else { return Ok(None) };
                let inside = self.touch(&target, named.touch);
                let found = target.symlink_metadata().ok();
                self.linked(found.as_ref().filter(|_| !inside));
                return Ok(Some(target));
            }
        }
        if !inside {
            self.linked(there.as_ref());
            if named.touch == Touch::Name {
                // It may have stood for a file of a root before.
                self.found.iter_mut().for_each(Dirty::outer_links_changed);
            }
        }
        Ok(Some(real))
    }

    /// What was there before was followed, and is gone.
    fn was_no_link(&mut self, real: &Path) -> Result<(), Refusal> {
        let names = self.renames.earlier(real).ok_or(LINK_CHANGED)?;
        let is_known = names.iter().all(|name| self.was_link(name) == Some(false));
        if is_known { Ok(()) } else { Err(LINK_CHANGED) }
    }

    /// Adds a real path to the roots that it lies in; whether there is any.
    fn touch(&mut self, real: &Path, touch: Touch) -> bool {
        let mut inside = false;
        for (place, dirty) in self.places.iter().zip(&mut self.found) {
            if let Ok(path) = real.strip_prefix(&place.real) {
                dirty.touch(path, touch);
                inside = true;
            } else if is_above(real, &place.real) && touch == Touch::Name
                || rules(real, &place.real)
            {
                dirty.touch(Path::new(""), Touch::Name);
            }
        }
        inside
    }

    /// A file outside that may have a name in a root too.
    fn linked(&mut self, file: Option<&Metadata>) {
        let Some(file) = file.filter(|file| file.nlink() > 1 && !file.is_dir()) else { return };
        for (place, dirty) in self.places.iter().zip(&mut self.found) {
            if place.tracked.is_linked(file.ino()) {
                dirty.touch_inode(file.ino());
            }
        }
    }

    fn visible(&self, real: &Path) -> PathBuf {
        for place in &self.places {
            if let Ok(path) = real.strip_prefix(&place.real) {
                return place.visible.join(path);
            }
        }
        real.to_owned()
    }

    /// Where a directory really is, as the agent sees it.
    fn dir(&mut self, path: &Path) -> Result<Dir, Refusal> {
        if let Some(known) = self.dirs.get(path) {
            return known.clone().ok_or("a path could not be told");
        }
        let found = self.find_dir(path);
        self.dirs.insert(path.to_owned(), found.clone());
        found.ok_or("a path could not be told")
    }

    fn find_dir(&mut self, path: &Path) -> Option<Dir> {
        if let Some(real) = self.real(path) {
            return Some(Dir::There(real));
        }
        let missing = self.paths.real(path).symlink_metadata();
        let gone = |error: std::io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        };
        if !missing.is_err_and(gone) {
            // A link that leads nowhere now, or nothing that we may look at.
            return None;
        }
        let name = path.file_name()?;
        Some(match self.dir(path.parent()?).ok()? {
            Dir::There(parent) => Dir::Gone(parent.join(name), parent.join(name)),
            Dir::Gone(missing, dir) => Dir::Gone(missing, dir.join(name)),
        })
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        let real = self.paths.real(path).canonicalize().ok()?;
        // A link may have led back to where the agent sees a copy.
        Some(self.paths.real(&real).into_owned())
    }
}

fn is_above(path: &Path, root: &Path) -> bool {
    root.starts_with(path)
}

/// Whether a file outside of a root says what git ignores inside.
fn rules(path: &Path, root: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let above = match name {
        Some(".git" | ".gitignore") => path.parent(),
        Some("exclude") if path.ends_with(".git/info/exclude") => path.ancestors().nth(3),
        _ => None,
    };
    above.is_some_and(|dir| root.starts_with(dir))
}
