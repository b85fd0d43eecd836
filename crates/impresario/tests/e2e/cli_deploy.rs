//! `deploy`, `deployments` and `workflows`: a directory becomes a deployment, or it is said why not.

use std::{
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{BRAND, Bundle, Client, PATIENCE, Ran, Server, Setup, wait_for, workflow};

/// Somebody who types commands, with a tenant's key.
pub(crate) struct Shell<'a> {
    server: &'a Server,
    pub(crate) client: Client,
}

impl<'a> Shell<'a> {
    pub(crate) fn of(server: &'a Server, tenant: &str) -> Self {
        Self {
            server,
            client: server.tenant(tenant),
        }
    }

    /// Runs a command with these variables and this on stdin, which is no terminal.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], more: &[(&str, &str)], stdin: &str) -> Ran {
        let url = format!("http://{}", self.client.address());
        let mut variables = vec![
            ("IMPRESARIO_URL", url.as_str()),
            ("LIBRETTO_API_KEY", self.client.key()),
        ];
        variables.extend_from_slice(more);
        let ran = self.server.cli_with(args, &variables, stdin);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(self.client.key()), "the key is shown: {ran:?}");
        ran
    }

    /// Runs a command that must go well.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args, &[], "");
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }

    /// Runs a command that prints JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {ran:?}"))
    }

    /// Runs a command that must end with this code: its stderr. It says nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args, &[], "");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {ran:?}");
        ran.stderr
    }

    /// The folder in which commands run.
    fn folder(&self) -> PathBuf {
        self.server.data_dir().parent().unwrap().to_owned()
    }

    /// Makes a directory of these files there, with a `package.json`.
    fn directory(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.folder().join(name);
        fs::create_dir(&dir).unwrap();
        put(&dir, "package.json", r#"{"type":"module"}"#);
        for (file, text) in files {
            put(&dir, file, text);
        }
        dir
    }
}

fn put(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The source of a module that exports these workflows.
fn module(names: &[&str]) -> String {
    let workflows: String = names
        .iter()
        .map(|name| workflow(name, &format!("return {name:?};")))
        .collect();
    format!("{BRAND}{workflows}")
}

fn start() -> Server {
    Setup::at("2027-01-01T00:00:30Z").start()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn a_directory_becomes_workflows_that_run() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let source = module(&["one", "two"]);
    let dir = shell.directory(
        "app",
        &[
            ("index.js", &source),
            (".env.local", "TOKEN=hunter2"),
            ("node_modules/junk/index.js", "throw 1"),
            (".git/config", ""),
        ],
    );
    let ran = shell.ok(&["deploy", "app"]);
    let newest = || shell.client.ok("deployments/list", json!({}))["deployments"][0].clone();
    let first = newest();
    let id = first["id"].as_str().unwrap();
    assert_eq!(
        ran.stdout,
        format!("deployment  {id}\nworkflow    one\nworkflow    two\n")
    );
    has(
        &ran.stderr,
        &[
            "impresario: never packed, because it may hold secrets: .env.local;",
            "impresario: packing 2 files, ",
            "impresario: packed 2 files into ",
            "impresario: sending ",
            &format!("impresario: building deployment {id}\n"),
            "impresario: built in ",
        ],
    );
    assert!(
        !ran.stderr.contains("hunter2") && !ran.stderr.contains('\u{1b}'),
        "{}",
        ran.stderr
    );
    assert_eq!(first["entry_point"], "index.js");
    assert_eq!(shell.client.run(json!({"workflow": "two"}))["result"], "two");

    // The same files later, and elsewhere, are the same bundle.
    let copy = shell.directory("copy", &[("index.js", &source)]);
    let old = File::options().write(true).open(copy.join("index.js")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    let answer = shell.json(&["deploy", "./copy/", "--description", "again"]);
    assert_eq!(answer["source_path"], first["source_path"]);
    assert_ne!(answer["id"], first["id"]);
    assert_eq!(answer["description"], "again");
    assert_eq!(
        answer,
        shell.client.ok("deployments/sync", json!({"id": answer["id"]}))
    );
    fs::write(dir.join("index.js"), source + "\n").unwrap();
    shell.ok(&["deploy", "app"]);
    assert_ne!(newest()["source_path"], first["source_path"]);
}

#[test]
fn what_is_loaded_is_named_or_main() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let (main, other) = (module(&["main"]), module(&["other"]));
    let dir = shell.directory("app", &[("dist/index.js", &main), ("dist/other.mjs", &other)]);
    put(
        &dir,
        "package.json",
        r#"{"type":"module","main":"./dist","dependencies":{"libretto":"*"}}"#,
    );
    put(&dir, ".gitignore", "dist\n");
    has(
        &shell.fails(1, &["deploy", "app"]),
        &["\"dist/index.js\"", "left out by .gitignore", ".impresarioignore"],
    );
    put(&dir, ".impresarioignore", "*.map\n");
    put(&dir, "dist/index.js.map", "{}");
    let answer = shell.json(&["deploy", "app"]);
    assert_eq!(
        (&answer["entry_point"], &answer["workflows"]),
        (&json!("dist/index.js"), &json!(["main"]))
    );
    let answer = shell.json(&["deploy", "app", "--entry-point", "./dist/other.mjs"]);
    assert_eq!(
        (&answer["entry_point"], &answer["workflows"]),
        (&json!("dist/other.mjs"), &json!(["other"]))
    );
    put(&dir, "dist/typed.ts", "");
    for (entry, part) in [
        (
            "dist/typed.ts",
            "is TypeScript: build it to JavaScript first, for example with `npx esbuild",
        ),
        ("nowhere.js", "there is no \"nowhere.js\" in app"),
        (
            "../app/dist/index.js",
            "\"../app/dist/index.js\" is no file within the directory",
        ),
        ("package.json", "is no JavaScript file"),
    ] {
        has(
            &shell.fails(1, &["deploy", "app", "--entry-point", entry]),
            &[part],
        );
    }
}

#[test]
fn a_build_that_fails_is_told_with_its_reason() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    shell.directory(
        "app",
        &[("index.js", "throw new Error('at the top\\nof it \\u001b[2J')")],
    );
    let error = shell.fails(1, &["deploy", "app"]);
    has(&error, &["the build of deployment ", " failed: ", "at the top"]);
    assert!(!error.contains('\u{1b}'), "{error:?}");

    let ran = shell.run(&["deploy", "app", "--json"], &[], "");
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &answer["status"]), (1, &json!("failed")));
    let id = answer["id"].as_str().unwrap();
    let shown = shell.ok(&["deployments", "get", id]).stdout;
    has(
        &shown,
        &["status       failed", "The build failed:\n", "at the top"],
    );
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn who_does_not_wait_or_not_for_long_enough_is_told_where_to_look() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    // A build that goes on until a file is there.
    let gate = shell.folder().join("go");
    let source = format!(
        "import fs from 'node:fs';\nwhile (!fs.existsSync({:?})) await new Promise((go) => setTimeout(go, 20));\n{}",
        gate.to_str().unwrap(),
        module(&["slow"])
    );
    shell.directory("app", &[("index.js", &source)]);
    let error = shell.fails(1, &["deploy", "app", "--timeout", "1"]);
    has(
        &error,
        &[
            "after 1 s the build has not ended; it goes on",
            "impresario deployments get ",
        ],
    );
    let ran = shell.ok(&["deploy", "app", "--no-wait"]);
    let id = ran
        .stdout
        .strip_prefix("deployment  ")
        .unwrap()
        .trim_end()
        .to_owned();
    assert!(
        ran.stderr.contains("sending") && !ran.stderr.contains("building"),
        "{ran:?}"
    );
    assert_eq!(shell.json(&["deployments", "get", &id])["status"], "building");
    has(&shell.ok(&["workflows", "list"]).stderr, &["being built: ", &id]);
    assert_eq!(shell.json(&["deploy", "app", "--no-wait"])["status"], "building");

    fs::write(gate, "").unwrap();
    wait_for("the build", PATIENCE, || {
        let shown = shell.ok(&["deployments", "get", &id]).stdout;
        if shown.contains("status       ready\n") && shown.contains("workflow     slow\n") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    assert_eq!(
        shell
            .fails(2, &["deploy", "app", "--timeout", "0"])
            .lines()
            .count(),
        3
    );
    let error = shell.fails(2, &["deploy", "app", "--timeout", "9", "--no-wait"]);
    has(&error, &["cannot be used with"]);
}

#[test]
fn schedules_that_do_not_fit_the_new_version_are_named() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let source = module(&["claims"]);
    let dir = shell.directory("app", &[("index.js", &source)]);
    shell.ok(&["deploy", "app"]);
    for name in ["morning", "evening"] {
        shell
            .client
            .schedule(json!({"name": name, "workflow": "claims", "cron_expr": "@daily"}));
    }
    let manifest = json!({"workflows": [{"name": "claims", "inputSchema": {
        "type": "object", "required": ["clinic"], "properties": {"clinic": {"type": "string"}},
    }}]});
    put(&dir, ".libretto-workflows.json", &manifest.to_string());
    let ran = shell.ok(&["deploy", "app"]);
    has(
        &ran.stderr,
        &[
            "warning: 2 schedules have params that do not fit",
            "\n  morning (",
            "\n  evening (",
            "), workflow claims: params.clinic: is required\n",
        ],
    );
    let id = ran
        .stdout
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("deployment  ");
    has(
        &shell.ok(&["deployments", "get", id]).stdout,
        &["2 schedules have params"],
    );
    let shown = shell.ok(&["workflows", "get", "claims"]).stdout;
    has(
        &shown,
        &[
            "name            claims\n",
            id,
            "JSON Schema of the input:\n{",
            "\"required\"",
            "The bundle says nothing of the result.",
        ],
    );
    assert_eq!(
        shell.json(&["workflows", "get", "claims"])["input_schema"],
        manifest["workflows"][0]["inputSchema"]
    );
}

#[test]
fn what_no_bundle_can_hold_is_named_and_nothing_is_sent() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let source = module(&["one"]);
    let good = |name: &str| shell.directory(name, &[("index.js", &source)]);

    symlink("/etc/passwd", good("out").join("passwd")).unwrap();
    symlink(shell.folder(), good("up").join("up")).unwrap();
    symlink("nowhere", good("broken").join("broken.js")).unwrap();
    symlink(".", good("loop").join("again")).unwrap();
    put(&good("newline"), "a\nb.js", "");
    fs::write(good("bytes").join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    let pipe = good("pipe").join("pipe");
    assert_eq!(
        crate::support::process::command("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .code(),
        Some(0)
    );
    let huge = File::create(good("huge").join("video.bin")).unwrap();
    huge.set_len(600 * 1024 * 1024).unwrap();
    fs::create_dir(shell.folder().join("empty")).unwrap();
    put(&good("list"), "package.json", "[]");
    put(&good("cut"), "package.json", "{");
    put(&good("dotenv"), "index.js", "");
    fs::rename(
        shell.folder().join("dotenv/index.js"),
        shell.folder().join("dotenv/.env"),
    )
    .unwrap();
    symlink(".env", shell.folder().join("dotenv/index.js")).unwrap();

    for (dir, parts) in [
        (
            "out",
            &["\"passwd\" is a symbolic link out of the directory, to \"/etc/passwd\""][..],
        ),
        ("up", &["\"up\" is a symbolic link out of the directory"]),
        ("broken", &["\"broken.js\" is a symbolic link to \"nowhere\""]),
        (
            "loop",
            &["\"again\" is a symbolic link to a directory that it is in itself"],
        ),
        (
            "newline",
            &["\"a\\nb.js\" has a backslash or a control character in its name"],
        ),
        ("bytes", &["\"a\\xFF\" has a name that is not UTF-8"]),
        ("pipe", &["\"pipe\" is a pipe, a socket or a device"]),
        (
            "huge",
            &[
                "600.00 MiB",
                "a bundle may have 512.00 MiB",
                "the largest are \"video.bin\" (600.00 MiB)",
            ],
        ),
        ("empty", &["\"empty\" has no package.json"]),
        ("nowhere", &["\"nowhere\" is not there"]),
        ("out/index.js", &["\"out/index.js\" is a file"]),
        ("list", &["must be an object"]),
        ("cut", &["is not JSON"]),
        ("dotenv", &["the entry point is missing"]),
    ] {
        has(&shell.fails(1, &["deploy", dir]), parts);
    }
    assert_eq!(
        shell.client.ok("deployments/list", json!({}))["deployments"],
        json!([])
    );
    has(
        &shell.fails(2, &["deploy"]),
        &["required arguments were not provided", "<DIR>"],
    );

    // What is left out may be anything.
    for (dir, name) in [
        ("out", "passwd"),
        ("newline", "*.js\n!index.js"),
        ("pipe", "pipe"),
        ("huge", "*.bin"),
    ] {
        put(&shell.folder().join(dir), ".impresarioignore", name);
        assert_eq!(shell.json(&["deploy", dir])["workflows"], json!(["one"]), "{dir}");
    }
}

#[test]
fn a_bundle_that_is_too_large_is_refused_before_or_by_the_server() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").unstarted();
    server.write_file("impresario.toml", "max_bundle_bytes = 50000\n");
    server.start_again();
    let shell = Shell::of(&server, "acme");
    let dir = shell.directory("app", &[("index.js", &module(&["one"]))]);
    shell.ok(&["deploy", "app"]);
    // What cannot be packed any smaller.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    let noise: Vec<u8> = noise.take(3_000_000).collect();
    fs::write(dir.join("noise.bin"), &noise[..60_000]).unwrap();
    let error = shell.fails(1, &["deploy", "app", "--max-bundle-bytes", "50000"]);
    has(
        &error,
        &[
            "the packed files have more than 36.",
            " KiB",
            "the largest are \"noise.bin\" (58.59 KiB)",
        ],
    );
    assert!(!error.contains("sending"), "{error}");
    fs::write(dir.join("noise.bin"), &noise[..60_000]).unwrap();
    let error = shell.fails(4, &["deploy", "app"]);
    has(
        &error,
        &[
            "does not take so large a bundle",
            "max_bundle_bytes",
            "the largest are \"noise.bin\"",
            "50000",
        ],
    );
    // Of a much larger one the server may close the connection before its answer is read.
    fs::write(dir.join("noise.bin"), &noise).unwrap();
    let ran = shell.run(&["deploy", "app"], &[], "");
    assert!(ran.code == 4 || ran.code == 1, "{ran:?}");
    has(&ran.stderr, &["max_bundle_bytes", "\"noise.bin\" (2.86 MiB)"]);
}

#[test]
fn without_the_right_key_or_a_server_it_says_so() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    shell.directory("app", &[("index.js", &module(&["one"]))]);
    let url = format!("http://{}", shell.client.address());
    for (variables, code, part) in [
        (vec![("LIBRETTO_API_KEY", "")], 1, "LIBRETTO_API_KEY is not set"),
        (
            vec![
                ("LIBRETTO_API_KEY", "imp_wrong"),
                ("IMPRESARIO_URL", url.as_str()),
            ],
            1,
            "the server does not take the key in LIBRETTO_API_KEY",
        ),
        (
            vec![("IMPRESARIO_URL", "http://127.0.0.1:1")],
            1,
            "no answer from http://127.0.0.1:1",
        ),
    ] {
        let ran = shell.run(&["deploy", "app"], &variables, "");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        has(&ran.stderr, &[part]);
    }
    let other = "019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58";
    has(
        &shell.fails(3, &["deployments", "get", other]),
        &["there is no deployment", other],
    );
    has(&shell.fails(4, &["deployments", "get", "x"]), &["id"]);
}

#[test]
fn deployments_and_workflows_are_listed_and_deleted() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    assert_eq!(
        shell.ok(&["deployments", "list"]).stdout,
        "ID  STATUS  CREATED  WORKFLOWS  DESCRIPTION\n"
    );
    assert_eq!(
        shell.ok(&["workflows", "list"]).stdout,
        "NAME  STATUS  DEPLOYMENT  UPDATED\n"
    );
    let first = shell
        .client
        .deploy(&Bundle::of(&(workflow("a", "") + &workflow("b", ""))));
    let second = shell.client.deploy(&Bundle::with("b", ""));
    let shown = shell.ok(&["deployments", "list"]).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(
        lines[1].starts_with(&second) && lines[2].starts_with(&first),
        "{shown}"
    );
    has(lines[2], &["  ready  ", "  a, b  "]);
    assert_eq!(
        shell
            .ok(&["deployments", "list", "--limit", "1"])
            .stdout
            .lines()
            .count(),
        2
    );
    has(
        &shell.fails(4, &["deployments", "list", "--limit", "0"]),
        &["limit"],
    );
    assert_eq!(
        shell.json(&["deployments", "list"]),
        shell.client.ok("deployments/list", json!({}))
    );
    assert_eq!(
        shell.json(&["workflows", "list"]),
        shell.client.ok("workflows/list", json!({}))
    );
    let shown = shell.ok(&["workflows", "list"]).stdout;
    assert!(
        shown.lines().nth(2).unwrap().starts_with("b     ready   "),
        "{shown}"
    );
    has(&shown, &[&first, &second]);

    has(
        &shell.fails(1, &["workflows", "delete", "b"]),
        &["nothing was changed", "--yes"],
    );
    shell.ok(&["workflows", "delete", "b", "--yes"]);
    has(
        &shell.fails(3, &["workflows", "delete", "b", "--yes"]),
        &["no deployed workflow \"b\""],
    );
    has(
        &shell.fails(3, &["workflows", "get", "b"]),
        &["no deployed workflow"],
    );
    assert_eq!(
        shell.json(&["workflows", "delete", "a", "--yes"])["success"],
        true
    );
}
