//! From an archive to a directory that runs.

use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use impresario::builder::{BuildError, BuildLimits, Built, build, unpack_only};
use impresario::runner::FailureClass;
use serde_json::json;

use crate::support::{BRAND, Stage, request};

/// As the official client packs it: names start with `./`, and directories are entries.
pub(crate) fn pack(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, name: String, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let raw = name.as_bytes();
        header.as_old_mut().name[..raw.len()].copy_from_slice(raw);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    };
    add(tar::EntryType::Directory, "./".to_owned(), b"");
    for (name, content) in files {
        add(tar::EntryType::Regular, format!("./{name}"), content.as_bytes());
    }
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar.into_inner().unwrap()).unwrap();
    gz.finish().unwrap()
}

impl Stage {
    fn dest(&self) -> PathBuf {
        self.dir.path().join("bundles/one")
    }

    async fn build(&self, files: &[(&str, &str)], entry: &str) -> Result<Built, BuildError> {
        let built = build(
            pack(files),
            entry,
            &self.dest(),
            &self.runner,
            &BuildLimits::default(),
        )
        .await;
        let there = std::fs::read_dir(self.dir.path().join("bundles")).map_or(0, Iterator::count);
        assert_eq!(
            there,
            usize::from(built.is_ok()),
            "a failed build leaves nothing, a good one no draft"
        );
        built
    }

    async fn refused(&self, files: &[(&str, &str)], entry: &str) -> String {
        self.build(files, entry).await.unwrap_err().to_string()
    }
}

const PACKAGE: (&str, &str) = ("package.json", r#"{"type":"module"}"#);

fn branded(source: &str) -> String {
    format!("{BRAND}{source}")
}

#[tokio::test]
async fn a_manifest_is_believed_and_the_bundle_runs() {
    let stage = Stage::pageless();
    let manifest = r#"{"workflows":[{"name":"w","credentialNames":["pw"],"inputSchema":{"type":"object"},"startUrl":"https://example.com/"}]}"#;
    let source =
        branded("export const w = workflow('w', async () => { await import('playwright'); return 'ran'; });");
    let files = [
        PACKAGE,
        ("index.js", source.as_str()),
        (".libretto-workflows.json", manifest),
    ];
    let built = stage.build(&files, "index.js").await.unwrap();
    assert_eq!(built.workflows[0].credential_names, ["pw"]);
    assert_eq!(
        built.workflows[0].start_url.as_deref(),
        Some("https://example.com/")
    );
    let run = stage.run(request(&stage.dest(), "w")).await;
    assert_eq!(run.value(), json!("ran"));
    let text = serde_json::to_string(&built.workflows).unwrap();
    assert!(text.contains("credentialNames"), "{text}");
}

#[tokio::test]
async fn a_bundle_without_a_manifest_is_loaded_and_asked() {
    let stage = Stage::pageless();
    let source = branded(
        r#"import { workflow as make } from "libretto";
           console.log("noise"); process.stdout.write("more noise\n");
           export const one = make("one", { input: { type: "object", required: ["url"] }, startUrl: "data:,x",
             viewport: { width: 800, height: 600 }, gpu: true, credentialNames: ["pw"] }, () => 1);
           export const again = one;
           export const workflows = { two: workflow("two", () => 2) };
           export default [workflow("three", () => 3)];
           export const not = { name: "four", run() {} };"#,
    );
    let mut built = stage
        .build(&[PACKAGE, ("index.js", &source)], "index.ts")
        .await
        .unwrap()
        .workflows;
    built.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = built.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["one", "three", "two"]);
    let one = &built[0];
    assert_eq!(
        one.input_schema,
        Some(json!({"type": "object", "required": ["url"]}))
    );
    assert_eq!((one.start_url.as_deref(), one.gpu), (Some("data:,x"), Some(true)));
    assert_eq!(one.viewport.map(|v| (v.width, v.height)), Some((800, 600)));
    assert_eq!(one.credential_names, ["pw"]);
    let mut run = request(&stage.dest(), "two");
    run.entry_point = "index.ts".to_owned();
    assert_eq!(stage.run(run).await.value(), json!(2));
}

#[tokio::test]
async fn what_is_wrong_with_a_bundle_is_said() {
    let stage = Stage::pageless();
    let twice = branded("export const a = workflow('w', () => 1); export const b = workflow('w', () => 2);");
    let empty = branded("export const a = workflow('', () => 1);");
    for (source, part) in [
        (twice.as_str(), "two workflows of the bundle are named \"w\""),
        (empty.as_str(), "1 to 256 bytes"),
        (
            "export const a = 1;",
            "the bundle has no workflow: index.js must export one",
        ),
        (
            "export const a = ;",
            "the bundle could not be loaded: Unexpected token",
        ),
        ("process.exit(4);", "exit code 4 while the bundle was loaded"),
        ("import 'not-there';", "not-there"),
    ] {
        let error = stage.refused(&[PACKAGE, ("index.js", source)], "index.js").await;
        assert!(error.contains(part), "{source}: {error}");
    }
    let error = stage.refused(&[PACKAGE, ("index.js", &twice)], "main.js").await;
    assert!(
        error.contains("main.js is not in the bundle; index.js is"),
        "{error}"
    );
    let error = stage
        .refused(
            &[PACKAGE, (".libretto-workflows.json", "{"), ("index.js", "")],
            "index.js",
        )
        .await;
    assert!(
        error.contains(".libretto-workflows.json cannot be read"),
        "{error}"
    );
    let error = stage
        .refused(
            &[
                PACKAGE,
                (".libretto-workflows.json", r#"{"workflows":[]}"#),
                ("index.js", ""),
            ],
            "index.js",
        )
        .await;
    assert!(error.contains("has no workflow"), "{error}");
    let error = stage
        .refused(
            &[
                ("package.json", r#"{"dependencies":{"x":"file:/etc"}}"#),
                ("index.js", ""),
            ],
            "index.js",
        )
        .await;
    assert!(error.contains("npm registry"), "{error}");
}

#[tokio::test]
async fn a_bundle_that_does_not_end_loading_is_given_up() {
    let stage = Stage::with(|settings| {
        settings.chromium = None;
        settings.limits.discover_timeout = std::time::Duration::from_secs(2);
    });
    let built = stage
        .build(&[PACKAGE, ("index.js", "for (;;) {}")], "index.js")
        .await;
    assert!(matches!(built, Err(BuildError::Load(f)) if f.class == FailureClass::Timeout));
}

#[tokio::test]
async fn typescript_runs_where_node_takes_it_and_says_what_to_do_where_not() {
    let stage = Stage::pageless();
    let source = branded("export const w: unknown = workflow('w', () => 'typed');");
    match stage.build(&[PACKAGE, ("index.ts", &source)], "index.ts").await {
        Ok(built) => assert_eq!(built.workflows[0].name, "w"),
        Err(error) => assert!(error.to_string().contains("bundle it to JavaScript"), "{error}"),
    }
}

#[tokio::test]
async fn a_bundle_is_unpacked_again_as_it_was_and_once_is_enough() {
    let stage = Stage::pageless();
    let source = branded("export const w = workflow('w', () => 'again');");
    let packed = pack(&[PACKAGE, ("index.js", &source)]);
    let (dest, limits) = (stage.dest(), BuildLimits::default());
    let unpack = || unpack_only(packed.clone(), &dest, &stage.runner, &limits);
    let (a, b) = tokio::join!(unpack(), unpack());
    a.unwrap();
    b.unwrap();
    unpack().await.unwrap();
    assert_eq!(stage.run(request(&dest, "w")).await.value(), json!("again"));
    assert_eq!(std::fs::read_dir(dest.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_examples_build() {
    let stage = Stage::pageless();
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/workflows");
    for name in ["portal-login", "table-scrape", "http-check"] {
        let read = |file: &str| std::fs::read_to_string(examples.join(name).join(file)).unwrap();
        let (package, source) = (read("package.json"), read("index.js"));
        let built = stage
            .build(&[("package.json", &package), ("index.js", &source)], "index.js")
            .await
            .unwrap();
        assert_eq!(built.workflows[0].name, name);
        assert!(built.workflows[0].input_schema.is_some(), "{name}");
        std::fs::remove_dir_all(stage.dest()).unwrap();
    }
}
