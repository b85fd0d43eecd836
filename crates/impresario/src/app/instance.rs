//! What marks the processes of this data directory's server, so that the next one on it can end what this one left: made
//! once, kept in a file, and the same by whatever path the directory is reached. It is the directory's and not the
//! database's: several nodes may share a database, and must not end each other's runs.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context;

const FILE: &str = "instance";

/// The mark of `dir`, whose lock is held. Where it has none yet, `new` gives one.
///
/// # Errors
/// Where the file cannot be read or made.
pub(super) fn mark(dir: &Path, new: impl FnOnce() -> String) -> anyhow::Result<String> {
    match known(dir)? {
        Some(mark) => Ok(mark),
        None => {
            let mark = new();
            keep(dir, &mark).with_context(|| format!("cannot write {}", dir.join(FILE).display()))?;
            Ok(mark)
        }
    }
}

/// The mark that the file has; nothing where there is none, or it is none of ours.
pub(super) fn known(dir: &Path) -> anyhow::Result<Option<String>> {
    let path = dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|mark| is_mark(mark))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A word that is no prefix of another server's: marks are compared up to the slash that follows.
fn is_mark(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// By a rename, so that a crash leaves the whole mark or none.
fn keep(dir: &Path, mark: &str) -> std::io::Result<()> {
    let draft = dir.join(format!("{FILE}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    writeln!(file, "{mark}")?;
    file.sync_all()?;
    std::fs::rename(draft, dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ONE: &str = "0190a0b0-0000-7000-8000-000000000001";
    const TWO: &str = "0190a0b0-0000-7000-8000-000000000002";

    fn marked(dir: &Path, new: &str) -> String {
        mark(dir, || new.to_owned()).unwrap()
    }

    #[test]
    fn a_directory_keeps_its_mark_in_a_file_of_its_owner_s() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(marked(folder.path(), ONE), ONE);
        assert_eq!(marked(folder.path(), TWO), ONE);
        let file = folder.path().join(FILE);
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_eq!(marked(other.path(), TWO), TWO);
    }

    #[test]
    fn a_file_that_holds_no_mark_is_made_anew() {
        for text in ["", "short", "0190a0b0/0000/7000/8000/000000000001", "\0\0\0\0"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(marked(folder.path(), ONE), ONE, "{text:?}");
            assert_eq!(marked(folder.path(), TWO), ONE);
        }
    }
}
