//! What a run is given, what it may return, and what is said of how it ended.

use serde_json::json;

use crate::support::{Bundle, Client, PATIENCE, Server, Setup, keys, wait_until, workflow};

fn start(bundle: &Bundle) -> (Server, Client) {
    begin(Setup::at("2027-01-01T00:00:30Z"), bundle)
}

fn begin(setup: Setup, bundle: &Bundle) -> (Server, Client) {
    let server = setup.start();
    let client = server.tenant("acme");
    client.deploy(bundle);
    (server, client)
}

#[test]
fn without_chromium_a_workflow_without_a_page_runs_and_one_that_uses_it_says_what_to_install() {
    let bundle = Bundle::of(&format!(
        "{}{}",
        workflow("plain", "return typeof ctx.page;"),
        workflow("page", "await ctx.page.goto('about:blank');"),
    ));
    let (_server, client) = start(&bundle);
    assert_eq!(client.run(json!({"workflow": "plain"}))["result"], "object");
    let job = client.run(json!({"workflow": "page"}));
    assert_eq!(
        (&job["status"], &job["failure_class"]),
        (&json!("failed"), &json!("configuration"))
    );
    let error = job["error"].as_str().unwrap();
    assert!(
        error.contains("Chromium") && error.contains("IMPRESARIO_CHROMIUM"),
        "{error}"
    );
}

#[test]
fn a_page_has_the_jobs_start_url_and_viewport_or_else_the_workflows_own() {
    let body = "({ page }) => page.evaluate(() => [document.title, innerWidth, innerHeight])";
    let options = "{ startUrl: 'data:text/html,<title>own</title>', viewport: { width: 500, height: 400 } }";
    let bundle = Bundle::of(&format!(
        "export const workflows = {{ own: workflow('own', {body}, {options}), bare: workflow('bare', {body}) }};"
    ));
    let (_server, client) = begin(Setup::at("2027-01-01T00:00:30Z").with_browser(), &bundle);
    assert_eq!(
        client.run(json!({"workflow": "own"}))["result"],
        json!(["own", 500, 400])
    );
    let given = json!({
        "workflow": "own", "start_url": "data:text/html,<title>job</title>",
        "viewport": {"width": 640, "height": 480},
    });
    assert_eq!(client.run(given)["result"], json!(["job", 640, 480]));
    assert_eq!(
        client.run(json!({"workflow": "bare"}))["result"],
        json!(["", 1366, 768])
    );
}

#[test]
fn only_declared_credentials_are_given_to_a_run_and_a_missing_one_is_named() {
    let bundle = Bundle::of(
        "export const a = workflow('declares', (ctx, input) => input, { credentialNames: ['Portal_Password'] });
         export const b = workflow('declares_none', (ctx, input) => input);
         export const c = workflow('lacks', () => 1, { credentialNames: ['portal_password', 'pin_code'] });",
    );
    let (_server, client) = start(&bundle);
    client.ok(
        "credentials/create",
        json!({"name": "PORTAL_PASSWORD", "value": "hunter2"}),
    );
    let other = client.ok("credentials/create", json!({"name": "other", "value": "unasked"}));
    let job = client.run(json!({"workflow": "declares", "params": {"a": 1}}));
    assert_eq!(
        job["result"],
        json!({"a": 1, "credentials": {"portal_password": "hunter2"}})
    );
    assert_eq!(job["params"], json!({"a": 1}), "no credential among the params");
    let job = client.run(json!({"workflow": "declares_none", "params": {}}));
    assert!(!job["result"].to_string().contains("hunter2"), "{job}");
    let job = client.run(json!({"workflow": "declares_none", "credential_id": other["credential_id"]}));
    assert_eq!(job["result"]["credentials"], json!({"other": "unasked"}));

    let job = client.run(json!({"workflow": "lacks"}));
    assert_eq!(
        (&job["status"], &job["failure_class"]),
        (&json!("failed"), &json!("credential"))
    );
    let error = job["error"].as_str().unwrap();
    assert!(
        error.contains("pin_code") && !error.contains("hunter2"),
        "{error}"
    );
    // It failed before anything of it ran; once the credential is there, the next job runs.
    assert_eq!(client.logs(&job["job_id"]), []);
    client.ok("credentials/upsert", json!({"name": "pin_code", "value": "1"}));
    assert_eq!(client.run(json!({"workflow": "lacks"}))["result"], 1);
}

#[test]
fn credentials_and_keys_stand_in_no_process_list() {
    let wait = "async (ctx, input) => { console.log(input.credentials.pin); await new Promise((r) => setTimeout(r, 9e5)); }";
    let source = format!("export const w = workflow('w', {wait}, {{ credentialNames: ['pin'] }});");
    let (server, client) = start(&Bundle::of(&source));
    let secrets = ["pin-5d0c1f77", "cb-5d0c1f88", client.key()];
    client.ok("credentials/create", json!({"name": "pin", "value": secrets[0]}));
    let job = client.create_job(json!({
        "workflow": "w", "callback_url": "http://127.0.0.1:1/", "callback_secret": secrets[1],
    }));
    wait_until("the workflow to have its credential", PATIENCE, || {
        !client.logs(&job).is_empty()
    });
    assert_eq!(client.logs(&job)[0].1, secrets[0]);
    let mut processes = server.run_processes();
    assert!(!processes.is_empty());
    processes.push(server.pid());
    for pid in processes {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(
                secrets.iter().all(|secret| !text.contains(secret)),
                "{file} of {pid}: {text}"
            );
        }
    }
    client.ok("jobs/cancel", json!({"id": job}));
}

#[test]
fn what_a_workflow_returns_is_the_result_and_nothing_is_no_result() {
    let bundle = Bundle::of(&format!(
        "{}{}{}{}",
        workflow("returns", "return input.value;"),
        workflow("nothing", ""),
        workflow("bigint", "return { n: 12n };"),
        workflow("circular", "const a = {}; a.a = a; return a;"),
    ));
    let (_server, client) = start(&bundle);
    for value in [
        json!("text"),
        json!(0),
        json!(false),
        json!([]),
        json!({"a": {"b": [1.5, "é", null]}}),
    ] {
        let job = client.run(json!({"workflow": "returns", "params": {"value": value}}));
        assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &value));
    }
    let job = client.run(json!({"workflow": "nothing"}));
    assert_eq!(job["status"], "completed");
    assert!(job.get("result").is_none(), "{job}");
    for name in ["bigint", "circular"] {
        let job = client.run(json!({"workflow": name}));
        assert_eq!(job["status"], "failed", "{job}");
        assert!(job["error"].as_str().unwrap().contains("JSON"), "{job}");
    }
}

#[test]
fn whatever_ends_a_workflow_the_job_says_what_it_was() {
    let bundle = Bundle::of(&format!(
        "{}{}{}{}{}",
        workflow("exit", "process.exit(3);"),
        workflow(
            "rejection",
            "Promise.reject(new Error('nobody caught me')); await new Promise((r) => setTimeout(r, 9e5));"
        ),
        workflow("string", "throw 'just a string';"),
        workflow(
            "signal",
            "process.kill(process.pid, 'SIGKILL'); await new Promise((r) => setTimeout(r, 9e5));"
        ),
        workflow("stuck", "await new Promise(() => {});"),
    ));
    let (_server, client) = start(&bundle);
    for (name, class, part) in [
        ("exit", "process_exit", "3"),
        ("rejection", "process_exit", "nobody caught me"),
        ("string", "workflow", "just a string"),
        ("signal", "process_exit", "signal"),
        ("stuck", "process_exit", "never happen"),
    ] {
        let job = client.run(json!({"workflow": name}));
        assert_eq!(
            (&job["status"], &job["failure_class"]),
            (&json!("failed"), &json!(class)),
            "{job}"
        );
        assert!(
            job["error"].as_str().unwrap().to_lowercase().contains(part),
            "{job}"
        );
    }
}

#[test]
fn a_run_sees_nothing_of_the_servers_environment_and_has_a_private_home() {
    let body = "
        const fs = await import('node:fs');
        const os = await import('node:os');
        fs.writeFileSync(os.tmpdir() + '/here', 'x');
        return { keys: Object.keys(process.env).sort(), tmp: os.tmpdir(), home: os.homedir(),
                 empty: fs.readdirSync(os.tmpdir()), production: process.env.NODE_ENV, session: ctx.session };";
    let (server, client) = start(&Bundle::with("w", body));
    let jobs = [(); 2].map(|()| client.run(json!({"workflow": "w"})));
    let known = [
        "FORCE_COLOR",
        "HOME",
        "IMPRESARIO_RUN",
        "LIBRETTO_HOSTED_RUNTIME",
        "LIBRETTO_REPO_ROOT",
        "NODE_ENV",
        "PATH",
        "TMPDIR",
    ];
    for job in &jobs {
        let result = &job["result"];
        assert_eq!(result["keys"], json!(known), "{job}");
        assert_eq!(
            (&result["production"], &result["session"]),
            (&json!("production"), &job["job_id"])
        );
        assert_eq!(
            result["empty"],
            json!(["here"]),
            "a directory that was empty before"
        );
        let tmp = result["tmp"].as_str().unwrap();
        assert!(tmp.starts_with(server.data_dir().to_str().unwrap()), "{tmp}");
        wait_until("the private directory to be gone", PATIENCE, || {
            !std::path::Path::new(tmp).exists()
        });
    }
    assert_ne!(jobs[0]["result"]["home"], jobs[1]["result"]["home"]);
}

#[test]
fn logs_are_kept_in_order_filtered_and_paged() {
    let body = "for (let i = 0; i < 250; i++) console.log('line ' + i);
                console.warn('warned'); process.stdout.write('raw\\n'); process.stderr.write('raw error\\n');";
    let (_server, client) = start(&Bundle::with("w", body));
    let job = client.run(json!({"workflow": "w"}))["job_id"].clone();
    let mut lines = Vec::new();
    let mut token = json!(null);
    loop {
        let answer = client.ok(
            "logs/list",
            json!({"jobId": job, "limit": 100, "pageToken": token}),
        );
        let page = answer["logs"].as_array().unwrap();
        assert!(page.len() <= 100);
        lines.extend(page.iter().cloned());
        token = answer["nextPageToken"].clone();
        if token.is_null() {
            break;
        }
    }
    let numbered: Vec<&str> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .filter(|text| text.starts_with("line "))
        .collect();
    assert_eq!(numbered.len(), 250);
    assert!(
        (0..250).all(|number| numbered[number] == format!("line {number}")),
        "in order"
    );
    assert_eq!(lines.len(), 253);
    assert_eq!(
        keys(&lines[0]),
        ["jobId", "level", "message", "timestamp", "workflow"]
    );
    let only = |level: &str| {
        let answer = client.ok("logs/list", json!({"workflow": "w", "level": level}));
        let lines = answer["logs"].as_array().unwrap().iter();
        lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(only("warn"), ["warned"]);
    assert_eq!(only("error"), ["raw error"]);
    assert_eq!(
        client.issues("logs/list", json!({"limit": 1001, "level": "loud"})),
        ["level", "limit"]
    );
}
