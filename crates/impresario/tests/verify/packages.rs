//! The packages of Standard Webhooks, whose authors know nothing of this server: they must accept what it signs, refuse
//! what is not genuine, and sign to the same letters.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use impresario::{
    clock::{Clock as _, SystemClock},
    delivery::sign::sign,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    page,
    run::{ask, program},
    vectors::{self, Vector},
};

/// Where `scripts/setup --tests` has put the packages.
fn installed() -> PathBuf {
    let installed = page::root().join("target/verify");
    for (name, wanted) in [
        ("package-lock.json", include_str!("packages/package-lock.json")),
        ("requirements.txt", include_str!("packages/requirements.txt")),
    ] {
        let found = fs::read_to_string(installed.join("installed").join(name)).ok();
        assert!(
            found.as_deref() == Some(wanted),
            "the packages that signatures are held against are missing or others: run `scripts/setup --tests`"
        );
    }
    installed
}

/// The two lines of the page as a function in a file: the first imports, the second opens the callback.
fn function(name: &str, language: &str, head: &str, tail: &str) -> String {
    let code = page::code(name, language);
    let [import, call] = code.lines().collect::<Vec<_>>()[..] else {
        panic!("the block {name:?} must have two lines: {code}");
    };
    format!("{import}\n{head}\n    {call}\n    return event\n{tail}")
}

/// A folder below the packages, where Node finds them, and the program that runs in it.
fn node() -> (TempDir, Command) {
    let desk = tempfile::tempdir_in(installed()).unwrap();
    let open = function(
        "node package",
        "js",
        "export function open(secret, headers, body) {",
        "}\n",
    );
    fs::write(desk.path().join("open.mjs"), open).unwrap();
    fs::write(
        desk.path().join("main.mjs"),
        include_str!("harness/node_package.mjs"),
    )
    .unwrap();
    let mut command = program("node", desk.path());
    command.arg("main.mjs");
    (desk, command)
}

fn python() -> (TempDir, Command) {
    let desk = tempfile::tempdir().unwrap();
    let open = function("python package", "python", "def open(secret, headers, body):", "");
    fs::write(desk.path().join("opening.py"), open).unwrap();
    fs::write(
        desk.path().join("main.py"),
        include_str!("harness/python_package.py"),
    )
    .unwrap();
    let python = fs::canonicalize(installed()).unwrap().join("venv/bin/python");
    let mut command = program(Path::new(&python), desk.path());
    command.arg("main.py");
    (desk, command)
}

/// Whether the packages can judge it: they know one secret, in the standard form (the one for JavaScript wants at least four
/// letters and at most two `=`), and a body of JSON.
fn within_their_reach(vector: &Vector) -> bool {
    let [secret] = &vector.secrets[..] else {
        return false;
    };
    let base64 = secret.strip_prefix("whsec_").is_some_and(|text| {
        let letters = text.trim_end_matches('=');
        let alphabet = |letter: char| letter.is_ascii_alphanumeric() || "+/".contains(letter);
        letters.len() >= 4
            && letters.len() % 4 != 1
            && text.len() - letters.len() <= 2
            && letters.chars().all(alphabet)
    });
    // A callback always has a body of JSON; one that was tampered with may be anything.
    let json = !vector.standard || serde_json::from_slice::<Value>(&vector.body).is_ok();
    base64 && json && !vector.page_alone
}

#[track_caller]
fn judges_as_it_must(language: &str, mut command: Command) {
    let now = SystemClock.now().as_second();
    let vectors: Vec<Vector> = vectors::all(now).into_iter().filter(within_their_reach).collect();
    let questions: Vec<Value> = vectors.iter().map(Vector::question).collect();
    let answer = ask(&mut command, &json!({"open": questions, "sign": []}));
    let answers: Vec<bool> = serde_json::from_value(answer["opened"].clone()).unwrap();
    assert_eq!(answers.len(), vectors.len());
    let wrong: Vec<&str> = vectors
        .iter()
        .zip(answers)
        .filter(|(vector, opened)| *opened != vector.standard)
        .map(|(vector, _)| vector.name.as_str())
        .collect();
    assert!(
        wrong.is_empty(),
        "{language} has it otherwise:\n{}",
        wrong.join("\n")
    );
    let good = vectors.iter().filter(|vector| vector.standard).count();
    let bad = vectors.len() - good;
    assert!(good >= 100 && bad >= 40, "only {good} and {bad} vectors are left");
}

/// 200 callbacks with secrets of the standard form, about half of them as nobody's encoder wrote them.
fn random_callbacks() -> Vec<(String, String, i64, String)> {
    let mut rng = StdRng::seed_from_u64(20_270_301);
    (0..200)
        .map(|_| {
            let key: Vec<u8> = (0..rng.random_range(16..80)).map(|_| rng.random()).collect();
            let mut secret = format!("whsec_{}", STANDARD.encode(key));
            if rng.random_bool(0.5) {
                secret.truncate(secret.trim_end_matches('=').len());
                secret.pop();
                secret.push('9');
            }
            let id: String = (0..rng.random_range(1..40))
                .map(|_| char::from(rng.random_range(b'!'..=b'~')))
                .collect();
            let timestamp = rng.random_range(0..4_102_444_800);
            let body: String = (0..rng.random_range(0..300))
                .map(|_| rng.random::<char>())
                .collect();
            (secret, id, timestamp, body)
        })
        .collect()
}

#[track_caller]
fn signs_alike(language: &str, mut command: Command) {
    let callbacks = random_callbacks();
    let question = json!({"open": [], "sign": callbacks});
    let answer = ask(&mut command, &question);
    let signatures: Vec<String> = serde_json::from_value(answer["signed"].clone()).unwrap();
    assert_eq!(signatures.len(), 200);
    for ((secret, id, timestamp, body), theirs) in callbacks.iter().zip(signatures) {
        let ours = sign(secret, id, *timestamp, body.as_bytes()).webhook_signature;
        assert_eq!(ours, theirs, "{language}: {secret} {id} {timestamp} {body:?}");
    }
}

#[test]
fn javascript_judges_as_it_must() {
    let (_desk, command) = node();
    judges_as_it_must("JavaScript", command);
}

#[test]
fn javascript_signs_alike() {
    let (_desk, command) = node();
    signs_alike("JavaScript", command);
}

#[test]
fn python_judges_as_it_must() {
    let (_desk, command) = python();
    judges_as_it_must("Python", command);
}

#[test]
fn python_signs_alike() {
    let (_desk, command) = python();
    signs_alike("Python", command);
}
