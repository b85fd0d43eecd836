//! Programs of the other languages: in goes JSON on stdin, out comes JSON on stdout.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

/// A program that runs in a directory.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of child processes in these tests"
)]
pub(crate) fn program(name: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(directory);
    command
}

/// What a program answers to this.
pub(crate) fn ask(command: &mut Command, question: &Value) -> Value {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{name} is missing: run `scripts/setup --tests`")
        }
        spawned => spawned.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    let question = question.to_string();
    // A program that ends without reading says on stderr why; the broken pipe would only hide it.
    let writer = thread::spawn(move || drop(stdin.write_all(question.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.status.success(),
        "{name} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
