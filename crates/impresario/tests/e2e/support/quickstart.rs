//! The quickstart as a process, with a clock that the test moves.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use super::{
    PATIENCE, process,
    server::{lines_of, node, runner_dir},
    wait_for,
};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[derive(Debug)]
pub(crate) struct Quickstart {
    dir: TempDir,
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Quickstart {
    pub(crate) fn start(instant: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("clock"), instant).unwrap();
        let vars = [
            ("IMPRESARIO_RUNNER_DIR", runner_dir()),
            ("IMPRESARIO_NODE", node()),
            ("IMPRESARIO_CLOCK_FILE", dir.path().join("clock")),
        ];
        Self::run(dir, &vars)
    }

    /// One whose packages are not installed yet, with an npm that does not come to an end; and the file into which that
    /// npm writes its process id.
    pub(crate) fn start_with_endless_npm() -> (Self, PathBuf) {
        let dir = TempDir::new().unwrap();
        let (bin, pid) = (dir.path().join("bin"), dir.path().join("npm.pid"));
        std::fs::create_dir(&bin).unwrap();
        // npm is looked for beside Node.
        std::os::unix::fs::symlink(node(), bin.join("node")).unwrap();
        let script = format!(
            "#!/bin/sh\necho $$ > '{0}.new'\n/bin/mv '{0}.new' '{0}'\nexec /bin/sleep 600\n",
            pid.display()
        );
        std::fs::write(bin.join("npm"), script).unwrap();
        std::fs::set_permissions(bin.join("npm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let node = bin.join("node");
        (Self::run(dir, &[("IMPRESARIO_NODE", node)]), pid)
    }

    fn run(dir: TempDir, vars: &[(&str, PathBuf)]) -> Self {
        let mut child = process::command(env!("CARGO_BIN_EXE_impresario"))
            .args(["quickstart", "--listen", "127.0.0.1:0"])
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", dir.path())
            .envs(vars.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        Self {
            dir,
            child,
            stdout,
            stderr,
        }
    }

    /// What it said so far.
    pub(crate) fn text(&self) -> String {
        self.stdout.lock().unwrap().join("\n")
    }

    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        wait_for(&format!("{part:?}"), PATIENCE, || {
            let text = self.text();
            if text.contains(part) {
                return Ok(());
            }
            let ended = self.child.try_wait().unwrap();
            let stderr = self.stderr.lock().unwrap().join("\n");
            assert!(ended.is_none(), "it ended: {ended:?}\n{text}\n{stderr}");
            Err(format!("{text}\n{stderr}"))
        });
    }

    pub(crate) fn set_clock(&self, instant: &str) {
        let draft = self.dir.path().join("clock.new");
        std::fs::write(&draft, instant).unwrap();
        std::fs::rename(draft, self.dir.path().join("clock")).unwrap();
    }

    /// Runs what a reader would copy into a shell.
    pub(crate) fn shell(&self, script: &str) -> String {
        process::feed(
            process::command("sh").env_clear().env("PATH", PATH),
            script.as_bytes(),
        )
    }

    /// Ctrl-C, and the end.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        process::signal(&self.child, "INT");
        wait_for("the quickstart to end", process::END_LIMIT, || {
            self.child.try_wait().unwrap().ok_or_else(|| self.text())
        })
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let data_dir = self.dir.path().join("data-quickstart");
        let left = process::of_runs(&data_dir);
        process::sweep(&data_dir);
        assert!(
            std::thread::panicking() || left.is_empty(),
            "processes of runs were left behind: {left:?}"
        );
    }
}
