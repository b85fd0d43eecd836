use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

fn gz(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// An archive of raw entries: kind, name (as it stands, unchecked), link target, content.
fn archive(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4777);
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    gz(&builder.into_inner().unwrap())
}

fn file(name: &str) -> (EntryType, &str, &str, &[u8]) {
    (EntryType::Regular, name, "", b"x")
}

fn limits() -> BuildLimits {
    BuildLimits {
        total_bytes: 32 * 1024 * 1024,
        entries: 50,
        ..BuildLimits::default()
    }
}

fn refusal(source: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("bundle");
    std::fs::create_dir(&inside).unwrap();
    let error = unpack(source, &inside, &limits()).unwrap_err();
    assert!(matches!(error, BuildError::Archive(_)), "{error:?}");
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "something was written beside the bundle");
    error.to_string()
}

#[test]
fn a_plain_bundle_is_unpacked_without_its_modes() {
    use std::os::unix::fs::PermissionsExt as _;
    let source = archive(&[
        (EntryType::Directory, "./", "", b""),
        (EntryType::Directory, "./lib/", "", b""),
        (EntryType::Regular, "./lib/a.js", "", b"hello"),
        (EntryType::Regular, "index.js", "", b""),
    ]);
    let dir = tempfile::tempdir().unwrap();
    unpack(&source, dir.path(), &limits()).unwrap();
    assert_eq!(std::fs::read(dir.path().join("lib/a.js")).unwrap(), b"hello");
    let mode = std::fs::metadata(dir.path().join("lib/a.js"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7111, 0, "neither setuid nor executable: {mode:o}");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../x",
        "a/../../x",
        "./..",
        "/etc/x",
        "//x",
        "a\\..\\x",
        "a\u{7}b",
        "a\nb",
    ] {
        refusal(&archive(&[file(name)]));
    }
    assert!(refusal(&archive(&[file("../x")])).contains("leads out of the bundle"));
}

#[test]
fn only_files_and_directories_are_taken() {
    for (kind, part) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "device or a pipe"),
        (EntryType::GNUSparse, "kind"),
        (EntryType::new(b'V'), "kind"),
    ] {
        let error = refusal(&archive(&[(kind, "x", "/etc/passwd", b"")]));
        assert!(error.contains(part), "{kind:?}: {error}");
    }
    // The classic: a link first, then a file through it.
    refusal(&archive(&[(EntryType::Symlink, "d", "/tmp", b""), file("d/x")]));
}

#[test]
fn one_name_twice_or_as_file_and_directory_is_refused() {
    for twice in [["x", "x"], ["x", "./x"], ["x", "x/y"], ["x/y", "x"]] {
        let error = refusal(&archive(&[file(twice[0]), file(twice[1])]));
        assert!(error.contains("twice"), "{twice:?}: {error}");
    }
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 33 * 1024 * 1024];
    let bomb = |bytes: usize| archive(&[(EntryType::Regular, "x", "", &zeros[..bytes])]);
    assert!(refusal(&bomb(20 * 1024 * 1024)).contains("far more"));
    assert!(refusal(&bomb(zeros.len())).contains("bytes together"));
    let many: Vec<String> = (0..60).map(|i| format!("f{i}")).collect();
    let many: Vec<_> = many.iter().map(|name| file(name)).collect();
    assert!(refusal(&archive(&many)).contains("more than 50"));
    let deep = "d/".repeat(40) + "x";
    assert!(refusal(&archive(&[file(&deep)])).contains("deeper than"));
    // A header that describes the next one is read into memory whole, so it must be small.
    let long = vec![b'a'; 100 * 1024];
    assert!(refusal(&archive(&[(EntryType::GNULongName, "x", "", &long), file("x")])).contains("header of"));
    assert!(refusal(&archive(&[(EntryType::XHeader, "x", "", &long), file("x")])).contains("header of"));
}

#[test]
fn long_names_of_both_dialects_are_checked_as_they_will_be_used() {
    let long_name = format!("{}/../../../x\0", "d".repeat(120));
    assert!(
        refusal(&archive(&[
            (EntryType::GNULongName, "x", "", long_name.as_bytes()),
            file("x")
        ]))
        .contains("leads out")
    );
    let record = "21 path=../evil/name\n";
    refusal(&archive(&[
        (EntryType::XHeader, "x", "", record.as_bytes()),
        file("x"),
    ]));
    let good = format!("{}/x\0", "d".repeat(120));
    let dir = tempfile::tempdir().unwrap();
    unpack(
        &archive(&[(EntryType::GNULongName, "x", "", good.as_bytes()), file("x")]),
        dir.path(),
        &limits(),
    )
    .unwrap();
    assert!(dir.path().join("d".repeat(120)).join("x").is_file());
}

#[test]
fn what_is_no_archive_or_cut_off_is_refused() {
    for bad in [&b""[..], b"hello", &gz(b"hello"), &gz(b"")] {
        refusal(bad);
    }
    let whole = archive(&[(EntryType::Regular, "x", "", &[7; 5_000])]);
    refusal(&whole[..whole.len() / 2]);
}
