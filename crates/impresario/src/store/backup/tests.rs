use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    clock::ManualClock,
    store::{Access, Store, tx::params},
};

fn clock() -> ManualClock {
    ManualClock::new("2027-01-01T00:00:00Z".parse().unwrap())
}

/// A database of 20 MB in a directory of its own.
fn large(runtime: &tokio::runtime::Runtime) -> (tempfile::TempDir, Store, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Server).unwrap();
    for number in 0..20 {
        let sql = "INSERT INTO bundles (sha256, archive, created_at) VALUES ($1, $2, 0)";
        let write = store.write("fill", move |tx| {
            tx.execute(sql, params![number.to_string(), vec![7_u8; 1_000_000]])
        });
        runtime.block_on(write).unwrap();
    }
    let path = dir.path().join("impresario.db");
    (dir, store, path)
}

fn value(path: &Path, sql: &str) -> Option<String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

const MARK: &str = "SELECT MAX(value) FROM settings WHERE name = 'restored_from'";
const WRITTEN: &str = "SELECT COUNT(*) || '' FROM tenants";

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_go_on_while_a_large_database_is_copied_and_the_copy_shows_one_instant() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, store, path) = large(&runtime);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("copy.db");
    let mut written = 0;
    let copied = copy_while(&path, &target, &clock(), || {
        assert!(!target.exists(), "a file of that name is whole");
        // Committed before the copy goes on: the writer waits for nobody.
        let sql = "INSERT INTO tenants (id, name, created_at) VALUES ($1, $1, 0)";
        let number = written.to_string();
        let write = store.write("meanwhile", move |tx| tx.execute_one(sql, params![&number]));
        runtime.block_on(write).unwrap();
        written += 1;
        assert!(written < 100, "it begins anew with each commit, and never ends");
    })
    .unwrap();
    assert!(written >= 4, "{written} parts");
    assert_eq!(value(&target, WRITTEN).as_deref(), Some("0"));
    assert_eq!(value(&path, WRITTEN), Some(written.to_string()));
    assert_eq!(
        value(&target, "SELECT COUNT(*) || '' FROM bundles").as_deref(),
        Some("20")
    );
    // Only the copy says that it is one.
    assert_eq!(value(&target, MARK).as_deref(), Some("2027-01-01T00:00:00.000Z"));
    assert_eq!(value(&path, MARK), None);
    let file = target.metadata().unwrap();
    assert_eq!(
        (file.len(), file.permissions().mode() & 0o777),
        (copied.bytes, 0o600)
    );
    assert!(copied.schema >= 2);
    assert_eq!(names(folder.path()), ["copy.db"]);
}

#[test]
fn a_backup_overwrites_nothing_and_says_what_is_in_its_way() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, _store, path) = large(&runtime);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("taken"), "mine").unwrap();
    std::fs::write(
        at("text.db"),
        "no database, but long enough to be asked for its header".repeat(100),
    )
    .unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
    for (source, target, said) in [
        (&path, at("taken"), "overwrites nothing"),
        (&path, at("link"), "overwrites nothing"),
        (&path, at("missing/copy.db"), "there is no directory"),
        (&path, at(".."), "no name for a file"),
        (&at("text.db"), at("copy.db"), "no database of this program"),
    ] {
        let error = copy(source, &target, &clock()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(names(folder.path()), ["link", "taken", "text.db"]);
    assert_eq!(std::fs::read_to_string(at("taken")).unwrap(), "mine");
    // Somebody takes the name while the copy is made.
    let late = copy_while(&path, &at("late"), &clock(), || {
        std::fs::write(at("late"), "theirs").unwrap();
    });
    assert!(late.unwrap_err().to_string().contains("overwrites nothing"));
    assert_eq!(std::fs::read_to_string(at("late")).unwrap(), "theirs");
    assert_eq!(names(folder.path()), ["late", "link", "taken", "text.db"]);
}

#[test]
fn a_damaged_database_makes_no_backup() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (dir, store, path) = large(&runtime);
    drop(store);
    let folder = tempfile::tempdir().unwrap();
    copy(&path, &folder.path().join("before.db"), &clock()).unwrap();
    // The page after the first: the root of a table or of an index.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3 * 4096..4 * 4096].fill(0xff);
    let damaged = dir.path().join("damaged.db");
    std::fs::write(&damaged, bytes).unwrap();
    let error = copy(&damaged, &folder.path().join("after.db"), &clock())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("damaged") || error.contains("malformed"),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["before.db"]);
}
