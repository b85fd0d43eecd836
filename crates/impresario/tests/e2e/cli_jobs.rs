//! `jobs …`: run, watched, read and cancelled from the command line.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::support::{Bundle, PATIENCE, Ran, Server, Setup, Typist, wait_until, workflow};

fn start() -> Server {
    Setup::at("2027-01-01T00:00:30Z").start()
}

const WAIT: &str = "console.log('begun'); await new Promise((done) => setTimeout(done, 600_000));";
/// What would clear the screen.
const NASTY: &str = "'bad\\u001b[2J thing'";

fn typist(server: &Server) -> Typist<'_> {
    let typist = Typist::of(server, "acme");
    typist.client.deploy(&Bundle::of(
        &[
            workflow(
                "echo",
                "console.log('one\\u001b[2J'); console.warn('two'); console.error('three'); return input;",
            ),
            workflow("bad", &format!("throw new Error({NASTY});")),
            workflow("long", WAIT),
            workflow(
                "many",
                "for (let n = 0; n < 1205; n++) console.log('line ' + n); return null;",
            ),
        ]
        .concat(),
    ));
    typist
}

fn plain(ran: &Ran) {
    let text = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn a_run_that_is_watched_prints_its_result_and_ends_as_the_job_did() {
    let server = start();
    let typist = typist(&server);
    let ran = typist.ends(
        0,
        &[
            "jobs",
            "run",
            "echo",
            "--params",
            r#"{"a": 1}"#,
            "--param",
            "b=x",
            "--watch",
        ],
    );
    plain(&ran);
    assert_eq!(ran.stdout, "{\n  \"a\": 1,\n  \"b\": \"x\"\n}\n");
    for part in [
        "  completed\n",
        "  info   one\\u{1b}[2J\n",
        "  warn   two\n",
        "  error  three\n",
    ] {
        assert!(ran.stderr.contains(part), "{part:?}: {ran:?}");
    }

    let ran = typist.ends(5, &["jobs", "run", "bad", "--watch"]);
    plain(&ran);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(" failed (workflow): "), "{ran:?}");
    // The runner has taken the colours out already.
    assert!(ran.stderr.contains("bad thing"), "{ran:?}");
    let ran = typist.ends(5, &["jobs", "run", "bad", "--watch", "--json"]);
    let job: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        job,
        typist.client.job(&job["job_id"]),
        "it is the server's answer"
    );

    // The server goes on with what is no longer watched.
    let long = typist.says(&["jobs", "run", "long"]);
    typist.client.job_is(&json!(long), "running");
    let ran = typist.ends(1, &["jobs", "watch", &long, "--timeout", "1s"]);
    assert!(ran.stderr.contains("is still running, and goes on"), "{ran:?}");
    assert_eq!(ran.stdout, "");
    thread::scope(|scope| {
        let watching = scope.spawn(|| typist.ends(6, &["jobs", "watch", &long]));
        let following = scope.spawn(|| typist.ends(0, &["jobs", "logs", &long, "--follow"]));
        let ran = typist.ends(0, &["jobs", "cancel", &long]);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("", "impresario: the job's processes were ended\n")
        );
        let ran = watching.join().unwrap();
        assert!(
            ran.stderr.contains(&format!("the job {long} was cancelled")),
            "{ran:?}"
        );
        let ran = following.join().unwrap();
        assert!(
            ran.stdout.ends_with("  info   begun\n") && ran.stdout.lines().count() == 1,
            "{ran:?}"
        );
    });
    typist.fails(4, &["jobs", "cancel", &long], "cancelled already");
}

/// A way to a server that can be shut.
struct Door {
    url: String,
    shut: AtomicBool,
    /// How many requests went through it, and how many found it shut.
    through: AtomicUsize,
    refused: AtomicUsize,
}

impl Door {
    fn to(server: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            shut: AtomicBool::new(false),
            through: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        let here = door.clone();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                if here.shut.load(Ordering::SeqCst) {
                    here.refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                // One request a connection, so that none is left open when the door is shut.
                let mut server = TcpStream::connect(server).unwrap();
                let (mut request, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut request, &mut into));
                let mut answer = [0; 65536];
                let count = server.read(&mut answer).unwrap_or(0);
                let text = String::from_utf8_lossy(&answer[..count]);
                let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                let _gone = client.write_all(text.as_bytes());
                let _gone = client.shutdown(Shutdown::Both);
                here.through.fetch_add(1, Ordering::SeqCst);
            }
        });
        door
    }
}

#[test]
fn a_watch_goes_on_when_the_server_is_back() {
    let server = start();
    let typist = typist(&server);
    let long = typist.client.create_job(json!({"workflow": "long"}));
    typist.client.job_is(&long, "running");
    let door = Door::to(typist.client.address());
    let args = ["jobs", "watch", long.as_str().unwrap(), "--url", &door.url];
    thread::scope(|scope| {
        let watching = scope.spawn(|| typist.ends(6, &args));
        wait_until("a look at the job and its lines", PATIENCE, || {
            door.through.load(Ordering::SeqCst) >= 3
        });
        door.shut.store(true, Ordering::SeqCst);
        wait_until("a look at nothing", PATIENCE, || {
            door.refused.load(Ordering::SeqCst) >= 1
        });
        typist.client.ok("jobs/cancel", json!({"id": long}));
        door.shut.store(false, Ordering::SeqCst);
        let ran = watching.join().unwrap();
        assert_eq!(ran.stderr.matches("it is asked again").count(), 1, "{ran:?}");
        assert_eq!(ran.stderr.matches("  begun").count(), 1, "{ran:?}");
    });
    // One that has never answered is not waited for.
    door.shut.store(true, Ordering::SeqCst);
    typist.fails(1, &args, &format!("no answer from {}", door.url));
}

#[test]
fn a_nonce_runs_a_workflow_once() {
    let server = start();
    let typist = typist(&server);
    let run = ["jobs", "run", "echo", "--nonce", "n-1", "--timeout", "60"];
    let first = typist.says(&run);
    assert_eq!(typist.says(&run), first);
    assert_eq!(typist.json(&run)["job_id"], json!(first));
    typist.fails(4, &["jobs", "run", "echo", "--nonce", "n-1"], "nonce");
    typist.fails(3, &["jobs", "run", "nothing"], "\"nothing\"");
    assert_eq!(
        typist.json(&["jobs", "list"])["jobs"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn jobs_are_listed_and_shown() {
    let server = start();
    let typist = typist(&server);
    let good = typist
        .client
        .run(json!({"workflow": "echo", "params": {"a": [1]}}));
    server.set_clock("2027-01-01T00:00:31Z");
    let bad = typist.client.run(json!({"workflow": "bad"}));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (good_id, bad_id) = (text(&good["job_id"]), text(&bad["job_id"]));
    let ran = typist.ends(0, &["jobs", "list"]);
    plain(&ran);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("JOB "), "{ran:?}");
    assert!(
        lines[1].starts_with(&bad_id) && lines[1].contains("  failed "),
        "{ran:?}"
    );
    assert!(
        lines[2].starts_with(&good_id) && lines[2].contains("  completed "),
        "{ran:?}"
    );
    assert!(
        lines[2].contains("  2027-01-01 01:00:30 CET ("),
        "in the zone of TZ: {ran:?}"
    );
    for args in [
        &["--status", "failed"][..],
        &["--workflow", "bad"],
        &["--limit", "1"],
    ] {
        let list = typist.json(&[&["jobs", "list"], args].concat());
        let jobs = list["jobs"].as_array().unwrap();
        assert_eq!((jobs.len(), &jobs[0]["job_id"]), (1, &bad["job_id"]), "{args:?}");
    }
    typist.fails(4, &["jobs", "list", "--status", "odd"], "status");

    let ran = typist.ends(0, &["jobs", "get", &good_id]);
    plain(&ran);
    assert!(ran.stdout.contains("params      {\"a\":[1]}\n"), "{ran:?}");
    assert!(
        ran.stdout.ends_with("\nresult\n{\n  \"a\": [\n    1\n  ]\n}\n"),
        "{ran:?}"
    );
    let ran = typist.ends(0, &["jobs", "get", &bad_id]);
    plain(&ran);
    assert!(
        ran.stdout.contains("\nerror\n") && ran.stdout.contains("bad thing"),
        "{ran:?}"
    );
    assert_eq!(typist.json(&["jobs", "get", &bad_id]), bad);
    let unknown = "01988f6e-0000-7000-8000-000000000000";
    for args in [
        &["get"][..],
        &["logs"],
        &["cancel"],
        &["watch"],
        &["logs", "--follow"],
    ] {
        typist.fails(3, &[&["jobs"], args, &[unknown]].concat(), unknown);
    }
    typist.fails(4, &["jobs", "get", "nonsense"], "id");
}

#[test]
fn all_lines_are_shown_however_many_pages_they_are() {
    let server = start();
    let typist = typist(&server);
    let job = typist.client.run(json!({"workflow": "many"}));
    let id = job["job_id"].as_str().unwrap();
    let whole = typist.says(&["jobs", "logs", id]);
    assert_eq!(whole.lines().count(), 1205);
    assert!(
        whole
            .lines()
            .enumerate()
            .all(|(n, line)| line.ends_with(&format!("  info   line {n}"))),
        "{whole}"
    );
    assert_eq!(typist.says(&["jobs", "logs", id, "--follow"]), whole);
    assert_eq!(typist.says(&["jobs", "logs", id, "--level", "error"]), "");
    let list = typist.json(&["jobs", "logs", id]);
    assert_eq!(list["logs"].as_array().unwrap().len(), 1205);
    let followed = typist.says(&["jobs", "logs", id, "--follow", "--json"]);
    let lines: Vec<Value> = followed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(lines), list["logs"]);
}

#[test]
fn every_command_has_an_example() {
    let server = start();
    for group in ["schedules", "jobs"] {
        let help = server.cli(&[group, "--help"]);
        let commands = help.split("Commands:\n").nth(1).unwrap();
        let commands = commands.lines().take_while(|line| !line.is_empty());
        let mut count = 0;
        for name in commands
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
        {
            let help = server.cli(&[group, name, "--help"]);
            assert!(
                help.contains(&format!("impresario {group} {name}")) && help.contains("Example"),
                "{help}"
            );
            count += 1;
        }
        assert!(count >= 6, "{help}");
    }
    assert!(server.cli(&["--help"]).contains("Exit codes:"));
}
