//! Databases that are in use while they are captured: what is stored opens again, with all that was committed before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;

use agentrec_store::{
    Capture, CaptureOptions, Home, Kind, Objects, StatCache, Store, Tree, capture_tree,
};
use rusqlite::Connection;
use tempfile::TempDir;

struct Fixture {
    _dir: TempDir,
    store: Store,
    root: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::new(dir.path().join("home"))).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        Self { _dir: dir, store, root }
    }

    fn capture(&self, cache: &mut StatCache) -> Capture {
        capture_tree(&self.store, &self.root, &CaptureOptions::default(), cache).unwrap()
    }

    /// Writes the files of a capture into a new directory.
    fn copy_out(&self, capture: &Capture) -> TempDir {
        let target = tempfile::tempdir().unwrap();
        for entry in Tree::load(&self.store, capture.tree).unwrap().entries {
            assert_eq!(entry.kind, Kind::File);
            let content = self.store.get(&entry.id.unwrap()).unwrap().unwrap();
            fs::write(target.path().join(entry.os_name()), content).unwrap();
        }
        target
    }
}

fn open(path: &Path, journal: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", journal).unwrap();
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER, twice INTEGER, filler BLOB)")
        .unwrap();
    connection
}

/// The rows of a captured database, after SQLite's own check of it.
fn rows(dir: &Path) -> i64 {
    let connection = Connection::open(dir.join("a.db")).unwrap();
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let torn: i64 = connection
        .query_row("SELECT count(*) FROM t WHERE twice <> 2 * n", [], |row| row.get(0))
        .unwrap();
    assert_eq!(torn, 0);
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn what_is_committed_only_to_the_wal_is_captured() {
    let fixture = Fixture::new();
    let writer = open(&fixture.root.join("a.db"), "WAL");
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let mut cache = StatCache::in_memory();
    for n in 1..=3_i64 {
        writer.execute("INSERT INTO t VALUES (?1, 2 * ?1, zeroblob(5000))", [n]).unwrap();
        let capture = fixture.capture(&mut cache);
        assert!(capture.torn.is_empty(), "{:?}", capture.torn);
        assert_eq!(rows(fixture.copy_out(&capture).path()), n);
    }
}

#[test]
fn a_transaction_that_was_open_is_rolled_back() {
    let fixture = Fixture::new();
    let mut writer = open(&fixture.root.join("a.db"), "DELETE");
    writer.execute("INSERT INTO t VALUES (1, 2, zeroblob(5000))", []).unwrap();
    writer.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = writer.transaction().unwrap();
    for n in 2..200_i64 {
        // Larger than the page cache: pages of the open transaction are in the file already.
        transaction.execute("INSERT INTO t VALUES (?1, 2 * ?1, zeroblob(5000))", [n]).unwrap();
    }
    assert!(fixture.root.join("a.db-journal").exists());
    let capture = fixture.capture(&mut StatCache::in_memory());
    assert_eq!(rows(fixture.copy_out(&capture).path()), 1);
    transaction.commit().unwrap();
    let capture = fixture.capture(&mut StatCache::in_memory());
    assert_eq!(rows(fixture.copy_out(&capture).path()), 199);
}

/// Captures while transactions change a row near the start and one near the end of a large file, always both: one without the
/// other shows that the file was not read at one moment.
fn under_load(journal: &'static str) {
    const ROWS: i64 = 2000;
    let fixture = Fixture::new();
    let path = fixture.root.join("a.db");
    let mut connection = open(&path, journal);
    let transaction = connection.transaction().unwrap();
    for n in 1..=ROWS {
        transaction.execute("INSERT INTO t VALUES (?1, 2 * ?1, randomblob(5000))", [n]).unwrap();
    }
    transaction.commit().unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 4).unwrap();

    let ready = Arc::new(Barrier::new(2));
    let bursts = 8;
    let writer = thread::spawn({
        let ready = Arc::clone(&ready);
        move || {
            for burst in 1..=bursts {
                ready.wait();
                // Of different lengths, so that some end while the capture tries again.
                for step in 0..burst * 25 {
                    connection
                        .execute(
                            "UPDATE t SET n = ?1, twice = 2 * ?1 WHERE rowid IN (1, ?2)",
                            [burst * 10_000 + step, ROWS],
                        )
                        .unwrap();
                }
            }
        }
    });
    let mut cache = StatCache::in_memory();
    for _ in 0..bursts {
        ready.wait();
        let capture = fixture.capture(&mut cache);
        // What could not be had at one moment is said to be torn; all else is whole.
        if capture.torn.is_empty() {
            let copy = fixture.copy_out(&capture);
            assert_eq!(rows(copy.path()), ROWS);
            let connection = Connection::open(copy.path().join("a.db")).unwrap();
            let value = |rowid: i64| -> i64 {
                let sql = "SELECT n FROM t WHERE rowid = ?1";
                connection.query_row(sql, [rowid], |row| row.get(0)).unwrap()
            };
            let (first, last) = (value(1), value(ROWS));
            assert!(first == last || (first, last) == (1, ROWS), "{first} and {last}");
        }
    }
    writer.join().unwrap();
    let capture = fixture.capture(&mut cache);
    assert!(capture.torn.is_empty(), "{:?}", capture.torn);
    assert_eq!(rows(fixture.copy_out(&capture).path()), ROWS);
}

#[test]
fn a_busy_database_with_a_wal_is_whole_or_torn() {
    under_load("WAL");
}

#[test]
fn a_busy_database_with_a_journal_is_whole_or_torn() {
    under_load("DELETE");
}
