//! The page's own code, each block in its language.

use std::{fs, path::Path};

use axum::http::{HeaderValue, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    page, receiver,
    run::{ask, program},
    vectors::{self, Vector},
};

/// Any instant will do: the page's code is told what time it is.
const NOW: i64 = 1_835_438_400;

/// Runs a program against all vectors. It answers a pair for each: what the standard and what the plain signature say.
#[track_caller]
fn judge(language: &str, answers: impl FnOnce(&[Vector]) -> Vec<(bool, bool)>) {
    let vectors = vectors::all(NOW);
    let answers = answers(&vectors);
    assert_eq!(answers.len(), vectors.len());
    let wrong: Vec<String> = vectors
        .iter()
        .zip(answers)
        .flat_map(|(vector, (standard, plain))| {
            let say = |header, says: bool, must: bool| {
                let verb = if says { "accepts" } else { "refuses" };
                (says != must).then(|| format!("{verb} by {header}: {}", vector.name))
            };
            [
                say("webhook-signature", standard, vector.standard),
                say("x-webhook-signature", plain, vector.plain),
            ]
        })
        .flatten()
        .collect();
    assert!(
        wrong.is_empty(),
        "the page's {language} is wrong {} times:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn question(vectors: &[Vector]) -> Value {
    vectors.iter().map(Vector::question).collect()
}

fn desk(files: &[(&str, &str)]) -> TempDir {
    let desk = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = desk.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    desk
}

fn request(vector: &Vector) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in &vector.headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().insert(*name, value);
    }
    request
}

fn pairs(answer: Value) -> Vec<(bool, bool)> {
    serde_json::from_value(answer).unwrap()
}

#[test]
fn node() {
    let desk = desk(&[
        ("receiver.mjs", &page::code("node", "js")),
        ("main.mjs", include_str!("harness/node.mjs")),
    ]);
    judge("Node", |vectors| {
        pairs(ask(
            program("node", desk.path()).arg("main.mjs"),
            &question(vectors),
        ))
    });
}

#[test]
fn python() {
    let desk = desk(&[
        ("receiver.py", &page::code("python", "python")),
        ("main.py", include_str!("harness/python.py")),
    ]);
    judge("Python", |vectors| {
        pairs(ask(
            program("python3", desk.path()).arg("main.py"),
            &question(vectors),
        ))
    });
}

#[test]
fn go() {
    let desk = desk(&[
        ("go.mod", "module callbacks\n\ngo 1.19\n"),
        ("receiver/receiver.go", &page::code("go", "go")),
        ("main.go", include_str!("harness/main.go")),
    ]);
    // What is compiled once is kept, also where there is no home directory; nothing comes from the network.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build");
    judge("Go", |vectors| {
        pairs(ask(
            program("go", desk.path())
                .args(["run", "."])
                .env("GOCACHE", cache)
                .env("GOPROXY", "off")
                .env("GOTOOLCHAIN", "local")
                .env("GOFLAGS", "")
                .env("GOWORK", "off"),
            &question(vectors),
        ))
    });
}

#[test]
fn rust() {
    assert_eq!(
        page::code("rust", "rust"),
        include_str!("receiver.rs"),
        "the page and tests/verify/receiver.rs must be the same"
    );
    judge("Rust", |vectors| {
        vectors
            .iter()
            .map(|vector| {
                let secrets: Vec<&str> = vector.secrets.iter().map(String::as_str).collect();
                // As the page says for the crate `http`.
                let request = request(vector);
                let header = |name: &str| request.headers().get(name)?.to_str().ok();
                let now = u64::try_from(vector.now).unwrap();
                (
                    receiver::verify(&secrets, header, &vector.body, now),
                    receiver::verify_plain(secrets[0], header, &vector.body),
                )
            })
            .collect()
    });
}

#[test]
fn the_page_names_the_crates_that_its_rust_was_tried_with() {
    let manifest = include_str!("../../Cargo.toml");
    for line in page::code("rust dependencies", "toml").lines() {
        assert!(manifest.lines().any(|known| known == line), "{line}");
    }
}

#[test]
fn the_vectors_have_many_of_each_kind() {
    let vectors = vectors::all(NOW);
    let count = |standard, plain| {
        vectors
            .iter()
            .filter(|vector| (vector.standard, vector.plain) == (standard, plain))
            .count()
    };
    let kinds = json!([
        count(true, true),
        count(true, false),
        count(false, true),
        count(false, false)
    ]);
    for kind in kinds.as_array().unwrap() {
        assert!(kind.as_u64() >= Some(10), "{kinds}");
    }
}
