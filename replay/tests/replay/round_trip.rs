//! Random trees come back as they were: into a new directory, and in place after random changes.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::common::{Fixture, TestSession, go_back, look, take_back};
use agentrec_replay::{Sources, restore_new};
use agentrec_store::CaptureOptions;
use proptest::prelude::*;

/// One thing that is done to a tree. Numbers choose among what is there, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    File { dir: usize, name: Vec<u8>, content: Vec<u8> },
    Sparse { dir: usize, name: Vec<u8>, holes: u8 },
    Dir { dir: usize, name: Vec<u8> },
    Symlink { dir: usize, name: Vec<u8>, target: Vec<u8> },
    Fifo { dir: usize, name: Vec<u8> },
    HardLink { file: usize, dir: usize, name: Vec<u8> },
    Mode { entry: usize, mode: u32 },
    Time { entry: usize, seconds: u32, nanoseconds: u32 },
    Attribute { entry: usize, name: u8, value: Vec<u8> },
    Remove { entry: usize },
    Move { entry: usize, dir: usize, name: Vec<u8> },
    Append { file: usize, content: Vec<u8> },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-e]".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>().prop_filter("no slash, no NUL", |b| *b != b'/' && *b != 0), 1..12)
            .prop_filter("a name", |name| name != b"." && name != b".."),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (any::<u8>(), 1_usize..3_000_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let dir = any::<usize>;
    prop_oneof![
        4 => (dir(), name(), content()).prop_map(|(dir, name, content)| Step::File { dir, name, content }),
        1 => (dir(), name(), any::<u8>()).prop_map(|(dir, name, holes)| Step::Sparse { dir, name, holes }),
        3 => (dir(), name()).prop_map(|(dir, name)| Step::Dir { dir, name }),
        1 => (dir(), name(), name()).prop_map(|(dir, name, target)| Step::Symlink { dir, name, target }),
        1 => (dir(), name()).prop_map(|(dir, name)| Step::Fifo { dir, name }),
        2 => (dir(), dir(), name()).prop_map(|(file, dir, name)| Step::HardLink { file, dir, name }),
        1 => (dir(), prop::sample::select(vec![0o600, 0o755, 0o4711, 0o1777, 0o444, 0o000]))
            .prop_map(|(entry, mode)| Step::Mode { entry, mode }),
        1 => (dir(), any::<u32>(), 0_u32..1_000_000_000)
            .prop_map(|(entry, seconds, nanoseconds)| Step::Time { entry, seconds, nanoseconds }),
        1 => (dir(), 0_u8..3, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(entry, name, value)| Step::Attribute { entry, name, value }),
        2 => dir().prop_map(|entry| Step::Remove { entry }),
        1 => (dir(), dir(), name()).prop_map(|(entry, dir, name)| Step::Move { entry, dir, name }),
        1 => (dir(), content()).prop_map(|(file, content)| Step::Append { file, content }),
    ]
}

/// Does the steps; one that can't be done (a name is taken, a directory is closed) is passed over.
fn act(root: &Path, steps: &[Step]) {
    for step in steps {
        let entries: Vec<PathBuf> = look(root).into_keys().collect();
        let of_kind = |kind: &str| {
            let found = look(root);
            found
                .into_iter()
                .filter(|(_, f)| f.kind == kind)
                .map(|(path, _)| root.join(path))
                .collect::<Vec<_>>()
        };
        let pick = |of: Vec<PathBuf>, n: usize| (!of.is_empty()).then(|| of[n % of.len()].clone());
        let place = |dir: usize, name: &[u8]| {
            Some(pick(of_kind("dir"), dir)?.join(OsString::from_vec(name.to_vec())))
                .filter(|path| path.symlink_metadata().is_err())
        };
        let entry = |n: usize| pick(entries.iter().map(|path| root.join(path)).collect(), n);
        let _ = try_step(step, place, entry, |n| pick(of_kind("file"), n), root);
    }
}

fn try_step(
    step: &Step,
    place: impl Fn(usize, &[u8]) -> Option<PathBuf>,
    entry: impl Fn(usize) -> Option<PathBuf>,
    file: impl Fn(usize) -> Option<PathBuf>,
    root: &Path,
) -> Option<()> {
    match step {
        Step::File { dir, name, content } => fs::write(place(*dir, name)?, content).ok(),
        Step::Sparse { dir, name, holes } => {
            let file = File::create(place(*dir, name)?).ok()?;
            file.write_all_at(b"data", u64::from(*holes) * 5000).ok()?;
            file.set_len(u64::from(*holes) * 9000 + 10).ok()
        }
        Step::Dir { dir, name } => fs::create_dir(place(*dir, name)?).ok(),
        Step::Symlink { dir, name, target } => {
            symlink(OsString::from_vec(target.clone()), place(*dir, name)?).ok()
        }
        Step::Fifo { dir, name } => {
            nix::unistd::mkfifo(&place(*dir, name)?, nix::sys::stat::Mode::S_IRWXU).ok()
        }
        Step::HardLink { file: n, dir, name } => fs::hard_link(file(*n)?, place(*dir, name)?).ok(),
        Step::Mode { entry: n, mode } => {
            let path = entry(*n)?;
            let is_link = path.symlink_metadata().ok()?.is_symlink();
            (!is_link).then(|| fs::set_permissions(&path, Permissions::from_mode(*mode)))?.ok()
        }
        Step::Time { entry: n, seconds, nanoseconds } => {
            let path = entry(*n)?;
            let metadata = path.symlink_metadata().ok()?;
            let time = UNIX_EPOCH + Duration::new(u64::from(*seconds), *nanoseconds);
            (metadata.is_file() || metadata.is_dir())
                .then(|| File::open(&path).and_then(|file| file.set_modified(time)))?
                .ok()
        }
        Step::Attribute { entry: n, name, value } => {
            let path = entry(*n)?;
            xattr::set(&path, format!("user.test{name}"), value).ok()
        }
        Step::Remove { entry: n } => {
            let path = entry(*n).filter(|path| path != root)?;
            if path.symlink_metadata().ok()?.is_dir() {
                fs::remove_dir_all(path).ok()
            } else {
                fs::remove_file(path).ok()
            }
        }
        Step::Move { entry: n, dir, name } => {
            let path = entry(*n).filter(|path| path != root)?;
            fs::rename(path, place(*dir, name)?).ok()
        }
        Step::Append { file: n, content } => {
            let mut file = File::options().append(true).open(file(*n)?).ok()?;
            std::io::Write::write_all(&mut file, content).ok()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_new_directory_is_identical(steps in prop::collection::vec(step(), 0..40)) {
        let fixture = Fixture::new();
        act(&fixture.root, &steps);
        let before = look(&fixture.root);
        let capture = fixture.capture();
        prop_assert_eq!(&capture.left_out, &[]);
        prop_assert_eq!(&look(&fixture.root), &before, "a capture changes nothing");

        let target = fixture.path("target");
        let sources = Sources::store(&fixture.store);
        let restored = restore_new(&sources, capture.tree, &target, None, None).unwrap();
        prop_assert_eq!(&restored.missing, &[]);
        prop_assert_eq!(&restored.not_set, &[]);
        prop_assert_eq!(&look(&target), &before);
        prop_assert_eq!(&fixture.store.check().unwrap().damaged, &[]);
    }

    #[test]
    fn in_place_goes_back_and_forth(
        steps in prop::collection::vec(step(), 0..30),
        changes in prop::collection::vec(step(), 0..30),
    ) {
        let fixture = Fixture::new();
        act(&fixture.root, &steps);
        let before = look(&fixture.root);
        let capture = fixture.capture();
        act(&fixture.root, &changes);
        let after = look(&fixture.root);

        let reader = fixture.trace("t.zst", &TestSession::default(), &[capture.tree]);
        let go_to = |tree| {
            let options = CaptureOptions::default();
            go_back(&fixture.home, &reader, tree, &fixture.root, None, &options)
        };
        let back = go_to(capture.tree);
        prop_assert_eq!(&back.done.missing, &[]);
        prop_assert_eq!(&look(&fixture.root), &before);
        let forth = take_back(&fixture.home, back.done.id);
        prop_assert_eq!(&forth.missing, &[]);
        prop_assert_eq!(&look(&fixture.root), &after);
        let again = take_back(&fixture.home, forth.id);
        prop_assert_eq!(&again.missing, &[]);
        prop_assert_eq!(&look(&fixture.root), &before);
        let saved = go_to(back.saved);
        prop_assert_eq!(&saved.done.missing, &[]);
        prop_assert_eq!(&look(&fixture.root), &after);
    }
}
