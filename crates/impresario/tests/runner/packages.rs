//! Installing packages, with an `npm` of our own: what is tested is what we ask of npm and make of its answers.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use impresario::builder::{BuildLimits, build};
use impresario::runner::{ProvisionError, provision};
use serde_json::json;
use tempfile::TempDir;

use crate::build::pack;
use crate::support::{Stage, located, request};

/// A directory with the real Node and an `npm` that is this script.
fn with_npm(dir: &Path, script: &str) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let npm = bin.join("npm");
    std::fs::write(&npm, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = bin.join("node");
    symlink(located().node, &node).unwrap();
    node
}

const MAKES_ALL: &str = r#"echo "$@" >> "$(dirname "$0")/asked"
[ -f package-lock.json ] && [ -f libretto/index.js ] || exit 9
for p in playwright playwright-core chromium-bidi libretto; do mkdir -p node_modules/$p; echo '{}' > node_modules/$p/package.json; done"#;

#[tokio::test]
async fn packages_are_installed_once_also_by_two_at_once() {
    let dir = TempDir::new().unwrap();
    let node = with_npm(dir.path(), MAKES_ALL);
    let into = dir.path().join("runner");
    let (a, b) = tokio::join!(provision(&into, &node), provision(&into, &node));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a, b);
    assert!(a.join("node_modules/playwright-core/package.json").exists());
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1, "no draft is left");
    assert_eq!(provision(&into, &node).await.unwrap(), a);
    let asked = std::fs::read_to_string(dir.path().join("bin/asked")).unwrap();
    assert!(asked.lines().count() <= 2, "{asked}");
    assert!(
        asked
            .lines()
            .all(|line| line.starts_with("ci ") && line.contains("--ignore-scripts")),
        "{asked}"
    );
}

#[tokio::test]
async fn an_npm_that_fails_says_why_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let script = "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network request failed' >&2; exit 1";
    let node = with_npm(dir.path(), script);
    let into = dir.path().join("runner");
    let error = provision(&into, &node).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Npm { .. }));
    let text = error.to_string();
    for part in [
        "code ENOTFOUND; network request failed",
        "cannot be reached",
        "IMPRESARIO_RUNNER_DIR",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0);
}

#[tokio::test]
async fn other_dependencies_are_installed_without_scripts_and_without_the_servers_environment() {
    let dir = TempDir::new().unwrap();
    let script = r#"echo "$@" > "$(dirname "$0")/asked"; env > "$(dirname "$0")/env"; cp package.json "$(dirname "$0")/wanted"
        ls -a > "$(dirname "$0")/beside"
        mkdir -p node_modules/dep node_modules/@s/dep node_modules/playwright
        echo '{"main":"i.js"}' > node_modules/dep/package.json; echo 'module.exports = "installed"' > node_modules/dep/i.js"#;
    let node = with_npm(dir.path(), script);
    let stage = Stage::with(|settings| {
        settings.chromium = None;
        settings.node = node;
    });
    let package = r#"{"type":"module","scripts":{"install":"touch /tmp/x"},"dependencies":{"dep":"^1","libretto":"*","playwright":"1"}}"#;
    let source = r#"import dep from "dep"; import { workflow } from "libretto"; import "playwright";
        export default workflow("w", () => dep);"#;
    let dest = stage.dir.path().join("bundles/one");
    let packed = pack(&[
        ("package.json", package),
        (".npmrc", "registry=http://127.0.0.1:1/"),
        ("index.js", source),
    ]);
    build(packed, "index.js", &dest, &stage.runner, &BuildLimits::default())
        .await
        .unwrap();
    assert_eq!(stage.run(request(&dest, "w")).await.value(), json!("installed"));
    let told = |file: &str| std::fs::read_to_string(dir.path().join("bin").join(file)).unwrap();
    assert!(
        told("asked").contains("--ignore-scripts") && told("asked").contains("--omit=dev"),
        "{}",
        told("asked")
    );
    let wanted: serde_json::Value = serde_json::from_str(&told("wanted")).unwrap();
    assert_eq!(
        (&wanted["dependencies"], &wanted["scripts"]),
        (&json!({"dep": "^1"}), &json!(null))
    );
    assert!(!told("beside").contains(".npmrc"), "{}", told("beside"));
    assert!(!told("env").contains("CARGO"), "{}", told("env"));
    assert!(!dest.join(".impresario-install").exists());
}

#[tokio::test]
async fn a_dependency_that_npm_does_not_find_is_a_build_error() {
    let dir = TempDir::new().unwrap();
    let node = with_npm(
        dir.path(),
        "echo 'npm error 404 no-such-package is not in this registry.' >&2; exit 1",
    );
    let stage = Stage::with(|settings| settings.node = node);
    let packed = pack(&[
        ("package.json", r#"{"dependencies":{"no-such-package":"1"}}"#),
        ("index.js", ""),
    ]);
    let dest = stage.dir.path().join("bundles/one");
    let error = build(packed, "index.js", &dest, &stage.runner, &BuildLimits::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot be installed") && error.contains("404 no-such-package"),
        "{error}"
    );
}

#[tokio::test]
async fn an_npm_that_hangs_is_ended() {
    let dir = TempDir::new().unwrap();
    let node = with_npm(dir.path(), "echo $$ > \"$(dirname \"$0\")/pid\"; sleep 600");
    let stage = Stage::with(|settings| settings.node = node);
    let packed = pack(&[
        ("package.json", r#"{"dependencies":{"slow":"1"}}"#),
        ("index.js", ""),
    ]);
    let limits = BuildLimits {
        install_timeout: std::time::Duration::from_millis(1_500),
        ..BuildLimits::default()
    };
    let dest = stage.dir.path().join("bundles/one");
    let error = build(packed, "index.js", &dest, &stage.runner, &limits)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not end within"), "{error}");
    let pid: i64 = std::fs::read_to_string(dir.path().join("bin/pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    crate::support::eventually("npm is gone", || !crate::support::alive(pid)).await;
}
