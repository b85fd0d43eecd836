use std::{cell::Cell, fs, io::Read as _, os::unix::fs::PermissionsExt as _};

use flate2::read::GzDecoder;

use super::*;
use crate::{builder::BuildLimits, cli::deploy::walk::walk};

const MOST: u64 = 1024 * 1024;

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("run.js"), "#!/usr/bin/env node").unwrap();
    fs::set_permissions(dir.path().join("run.js"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(dir.path().join("lib")).unwrap();
    fs::write(dir.path().join("lib/a.js"), "a".repeat(2000)).unwrap();
    fs::write(dir.path().join(format!("lib/{}.js", "n".repeat(150))), "").unwrap();
    dir
}

fn list(dir: &tempfile::TempDir) -> Listing {
    walk(dir.path(), &BuildLimits::default()).unwrap()
}

fn packed(listing: &Listing) -> Vec<u8> {
    pack(listing, MOST, &|_| ()).unwrap()
}

#[track_caller]
fn refused(listing: &Listing, most: u64, expected: &str) {
    let error = format!("{:#}", pack(listing, most, &|_| ()).unwrap_err());
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let (one, other) = (directory(), directory());
    let moment = fs::metadata("/").unwrap().modified().unwrap();
    let old = File::options()
        .write(true)
        .open(other.path().join("lib/a.js"))
        .unwrap();
    old.set_modified(moment).unwrap();
    fs::set_permissions(other.path().join("run.js"), fs::Permissions::from_mode(0o755)).unwrap();
    let bytes = packed(&list(&one));
    assert_eq!(bytes, packed(&list(&other)));
    fs::write(other.path().join("lib/a.js"), "b").unwrap();
    assert_ne!(bytes, packed(&list(&other)));

    let read = Cell::new(0);
    pack(&list(&one), MOST, &|bytes| read.set(read.get() + bytes)).unwrap();
    assert_eq!(read.get(), list(&one).bytes());
}

#[test]
fn the_archive_holds_the_files_and_nothing_of_their_owner() {
    let bytes = packed(&list(&directory()));
    let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
        assert_eq!((header.gid().unwrap(), header.username().unwrap()), (0, Some("")));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let name = entry.path().unwrap().display().to_string();
        seen.push((name, header.mode().unwrap(), text.len()));
    }
    let long = format!("lib/{}.js", "n".repeat(150));
    assert_eq!(
        seen,
        [
            ("lib/a.js".to_owned(), 0o644, 2000),
            (long, 0o644, 0),
            ("run.js".to_owned(), 0o755, 19)
        ]
    );
}

#[test]
fn a_file_that_changes_or_vanishes_is_named() {
    let dir = directory();
    let path = dir.path().join("lib/a.js");
    let listing = list(&dir);
    for text in ["a".repeat(1999), "a".repeat(2001), String::new()] {
        fs::write(&path, text).unwrap();
        refused(&listing, MOST, "\"lib/a.js\" changed while it was packed");
    }
    fs::remove_file(&path).unwrap();
    refused(&listing, MOST, "\"lib/a.js\" was there and is gone");
    fs::create_dir(&path).unwrap();
    refused(&listing, MOST, "\"lib/a.js\" changed");

    // While it is read: longer, shorter, and of the same length.
    for text in ["a".repeat(3000), "a".repeat(5), "b".repeat(2000)] {
        let dir = directory();
        let path = dir.path().join("lib/a.js");
        let listing = list(&dir);
        let read = |bytes: u64| {
            if bytes == 2000 {
                fs::write(&path, &text).unwrap();
                // A clock of the file system may be coarse.
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        };
        let error = pack(&listing, MOST, &read).unwrap_err().to_string();
        assert!(
            error.contains("\"lib/a.js\" changed while it was packed"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut listing = list(&directory());
    // Root may read whatever has a mode; the memory at 0 nobody may.
    let unreadable = Found {
        name: "memory".to_owned(),
        path: "/proc/self/mem".into(),
        size: 0,
        executable: false,
    };
    listing.files = vec![unreadable];
    refused(&listing, MOST, "\"memory\" cannot be read");
}

#[test]
fn an_archive_that_gets_too_large_ends_at_once() {
    let dir = directory();
    // What cannot be made smaller.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(1_000_000)
    .collect();
    fs::write(dir.path().join("a.bin"), noise).unwrap();
    let listing = list(&dir);
    let seen = Cell::new(0);
    let error = pack(&listing, 50_000, &|bytes| seen.set(seen.get() + bytes)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("more than 48.83 KiB"), "{error}");
    assert!(
        error.contains("the largest are \"a.bin\" (976.56 KiB), \"lib/a.js\""),
        "{error}"
    );
    assert!(seen.get() < 500_000, "it read on: {}", seen.get());
}
