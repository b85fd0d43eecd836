//! Child processes of the tests, and what `/proc` says of the server's.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// The marker in the environment of everything that belongs to a run.
const MARKER: &str = "IMPRESARIO_RUN=";

#[expect(
    clippy::disallowed_methods,
    reason = "the one home of child processes in these tests"
)]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Runs a program with this on stdin: what it says on stdout.
pub(super) fn feed(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} is needed by these tests: {error}", command.get_program()));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{:?} failed: {}",
        command.get_program(),
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program with this on stdin, however it ends.
pub(super) fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _unread = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Sends a signal to a process that this test started.
pub(super) fn signal(child: &Child, name: &str) {
    signal_pid(child.id(), name);
}

/// Sends a signal to a process that this test started and has not waited for.
pub(crate) fn signal_pid(pid: u32, name: &str) {
    let status = command("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// The processes that carry the marker of a run of this data directory and have not ended.
pub(crate) fn of_runs(data_dir: &Path) -> Vec<u32> {
    // A run's HOME is its private directory, so it tells whose the marker is.
    let home = format!("HOME={}/", data_dir.display()).into_bytes();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        // A zombie's environment reads as empty, so only the living are found.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |start: &[u8]| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry.starts_with(start))
        };
        has(MARKER.as_bytes()) && has(&home)
    })
    .collect()
}

/// Ends what a killed server left running; only what carries the marker of its own data directory.
pub(crate) fn sweep(data_dir: &Path) {
    for pid in of_runs(data_dir) {
        let _gone = command("kill")
            .args(["-KILL", &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

/// Whether a process of this id runs.
pub(crate) fn alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// How long a server may take to end.
pub(super) const END_LIMIT: Duration = Duration::from_secs(30);
