use std::os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener};

use super::*;

fn directory(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        write(&dir, name, "x");
    }
    dir
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn listing(dir: &tempfile::TempDir) -> Listing {
    walk(dir.path(), &BuildLimits::default()).unwrap()
}

fn names(dir: &tempfile::TempDir) -> Vec<String> {
    listing(dir).files.into_iter().map(|file| file.name).collect()
}

#[track_caller]
fn refused(dir: &tempfile::TempDir, limits: &BuildLimits, expected: &str) {
    let error = format!("{:#}", walk(dir.path(), limits).unwrap_err());
    assert!(error.contains(expected), "{error}");
}

#[test]
fn files_come_by_name_and_some_are_never_packed() {
    let dir = directory(&[
        "b.js",
        "a/z.js",
        "a.js",
        "a/.env.local",
        ".env",
        ".ENVRC",
        ".npmrc",
        "environment.js",
        ".git/config",
        ".libretto-workflows.json",
        "node_modules/x/index.js",
        "a/node_modules/y/index.js",
        "a/.DS_Store",
    ]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let found = listing(&dir);
    let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            ".libretto-workflows.json",
            "a.js",
            "a/z.js",
            "b.js",
            "environment.js"
        ]
    );
    assert_eq!(found.kept_back, [".ENVRC", ".env", ".npmrc", "a/.env.local"]);
    assert_eq!(found.rules, None);
    assert!(found.has("a/z.js") && !found.has("a"));
}

#[test]
fn rules_are_those_of_the_first_file_and_mean_what_they_mean_to_git() {
    let dir = directory(&[
        "a.js",
        "a.map",
        "b/keep.map",
        "b/c.map",
        "b/d.txt",
        "top/x",
        "b/top/x",
    ]);
    write(&dir, ".gitignore", "# no maps\n*.map\n/top\n\\#x\n");
    write(&dir, "b/.gitignore", "!keep.map\nd.txt\n");
    assert_eq!(names(&dir), ["a.js", "b/keep.map", "b/top/x"]);
    assert_eq!(listing(&dir).rules, Some(".gitignore"));

    write(&dir, ".npmignore", "b/\n");
    assert_eq!(names(&dir), ["a.js", "a.map", "top/x"]);
    write(&dir, ".impresarioignore", "*\n!*.js\n!.env\n!node_modules\n");
    write(&dir, ".env", "PASSWORD=1");
    write(&dir, "node_modules/x.js", "");
    assert_eq!(
        names(&dir),
        ["a.js"],
        "what is never packed is not brought back by rules"
    );

    write(&dir, ".impresarioignore", "a.js\n{a\n");
    refused(&dir, &BuildLimits::default(), "line 2: \"{a\" is no rule");
}

#[test]
fn links_are_followed_inside_of_the_directory_only() {
    let dir = directory(&["lib/a.js", "x/keep.js"]);
    let root = dir.path();
    symlink("lib/a.js", root.join("link.js")).unwrap();
    symlink("../lib", root.join("x/lib")).unwrap();
    assert_eq!(
        names(&dir),
        ["lib/a.js", "link.js", "x/keep.js", "x/lib/a.js"],
        "as copies"
    );
    write(&dir, ".env", "PASSWORD=1");
    symlink(".env", root.join("settings")).unwrap();
    let found = listing(&dir);
    assert!(
        !found.has("settings"),
        "a secret does not leave under another name"
    );
    assert_eq!(found.kept_back, [".env", "settings"]);

    for (to, expected) in [
        ("/etc/passwd", "\"bad\" is a symbolic link out of the directory"),
        ("/", "\"bad\" is a symbolic link out of the directory"),
        ("nowhere", "\"bad\" is a symbolic link to \"nowhere\""),
        ("bad", "\"bad\" is a symbolic link to \"bad\""),
        (".", "a directory that it is in itself"),
    ] {
        symlink(to, root.join("bad")).unwrap();
        refused(&dir, &BuildLimits::default(), expected);
        write(&dir, ".impresarioignore", "bad\n");
        assert!(names(&dir).len() > 2, "what is left out is not looked at: {to}");
        fs::remove_file(root.join(".impresarioignore")).unwrap();
        fs::remove_file(root.join("bad")).unwrap();
    }
}

#[test]
fn what_no_bundle_can_hold_is_named() {
    let limits = BuildLimits {
        entries: 4,
        total_bytes: 100,
        depth: 3,
        path_bytes: 200,
        ..BuildLimits::default()
    };
    let with = |name: &[u8]| {
        let dir = directory(&["index.js"]);
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        dir
    };
    refused(
        &with(b"a\nb"),
        &limits,
        "\"a\\nb\" has a backslash or a control character",
    );
    refused(&with(b"a\\b"), &limits, "has a backslash");
    refused(
        &with(b"a\xff"),
        &limits,
        "\"a\\xFF\" has a name that is not UTF-8",
    );
    refused(&with(&[b'a'; 201]), &limits, "a name of more than 200 bytes");
    refused(
        &directory(&["a/b/c/d"]),
        &limits,
        "\"a/b/c/d\" is deeper than 3 directories",
    );
    refused(
        &directory(&["1", "2", "3", "4", "5"]),
        &limits,
        "a bundle may have 4 files",
    );
    // A long name takes a header of its own, which the server counts.
    let long = "n".repeat(150);
    refused(
        &directory(&["1", "2", "3", &long]),
        &limits,
        "a bundle may have 4 files",
    );
    let dir = directory(&["index.js"]);
    write(&dir, "big", &"x".repeat(80));
    write(&dir, "bigger", &"x".repeat(90));
    refused(
        &dir,
        &limits,
        "the largest are \"bigger\" (90 B), \"big\" (80 B), \"index.js\" (1 B)",
    );
    let dir = directory(&["index.js"]);
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    refused(&dir, &limits, "\"socket\" is a pipe, a socket or a device");
}
