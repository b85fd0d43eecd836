//! A run's own directory: its HOME, TMPDIR and working directory, gone after it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The names of these directories begin with it, so that leftovers can be told from anything else.
const PREFIX: &str = "r-";

/// A directory that only the server's user can enter. Dropping it removes it with all that is in it.
pub(super) struct PrivateDir {
    path: PathBuf,
    removed: bool,
}

impl PrivateDir {
    /// Makes one with `home` and `tmp` in it. The name is short: see
    /// [`RunnerSettings::work_dir`](super::RunnerSettings::work_dir).
    pub(super) fn new(work_dir: &Path, run: &str) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        std::fs::create_dir_all(work_dir)?;
        // Absolute, because it becomes HOME and TMPDIR of a process with another working directory.
        let path = std::path::absolute(work_dir)?.join(format!("{PREFIX}{run}"));
        builder.create(&path)?;
        let dir = Self { path, removed: false };
        builder.create(dir.home())?;
        builder.create(dir.tmp())?;
        Ok(dir)
    }

    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Removes it, off the threads that serve.
    pub(super) async fn remove(mut self) {
        self.removed = true;
        let path = std::mem::take(&mut self.path);
        let _ = tokio::task::spawn_blocking(move || remove(&path)).await;
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if !self.removed {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        // A workflow may take its own directories' permissions away; give them back and try once more.
        make_writable(path, 0);
        if std::fs::remove_dir_all(path).is_err() {
            tracing::warn!(path = %path.display(), %error, "the directory of a run could not be removed");
        }
    }
}

fn make_writable(path: &Path, depth: usize) {
    use std::os::unix::fs::PermissionsExt as _;
    // Symbolic links are not followed: `file_type` of an entry is that of the link.
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if depth < 64 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path(), depth + 1);
        }
    }
}

/// Removes what runs of an earlier server left in `work_dir`.
pub(super) fn remove_leftovers(work_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(work_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
}
