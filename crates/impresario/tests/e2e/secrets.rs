//! Secrets that come to be sealed under another key, while servers run and when it is cut off.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Receiver, Server, Setup, assert_signed, wait_for, workflow};

const NEW: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

struct Stage {
    server: Server,
    client: Client,
    receiver: Receiver,
    /// The key that the server made at its first start.
    old: String,
}

impl Stage {
    /// With a credential, a schedule's callback secret and a stored webhook, and `more` credentials beside them.
    fn new(more: u32) -> Self {
        let server = Setup::at("2027-01-01T00:00:30Z").start();
        let client = server.tenant("acme");
        client.deploy(
            &Bundle::of(&workflow("tells", "return input.credentials['c-0'];")).manifest(&json!([
                {"name": "tells", "credentialNames": ["c-0"]}
            ])),
        );
        for number in 0..=more {
            let credential = json!({"name": format!("c-{number}"), "value": format!("value {number}")});
            client.ok("credentials/create", credential);
        }
        let receiver = Receiver::start();
        client.schedule(json!({
            "workflow": "tells", "cron_expr": "* * * * *",
            "callback_url": receiver.url(), "callback_secret": "of the schedule",
        }));
        client.ok(
            "webhooks/create",
            json!({"url": receiver.url(), "signing_secret": "of the endpoint"}),
        );
        let old = fs::read_to_string(server.data_dir().join("secret.key")).unwrap();
        Self {
            server,
            client,
            receiver,
            old: old.trim().to_owned(),
        }
    }

    fn keys(&self, keys: &[&str]) {
        fs::write(self.server.data_dir().join("secret.key"), keys.join(",")).unwrap();
    }

    fn restart(&mut self, keys: &[&str]) {
        self.keys(keys);
        self.server.kill();
        self.server.start_again();
    }

    /// Everything that is sealed opens: a credential in a run, and both secrets that sign.
    fn all_is_well(&self, minute: u32) {
        let before = self.receiver.received().len();
        self.server.set_clock(&format!("2027-01-01T00:{minute:02}:00Z"));
        let told = self.receiver.wait(before + 1).pop().unwrap();
        assert_eq!(assert_signed(&told, "of the schedule")["result"], "value 0");
        let job = self.client.run(json!({"workflow": "tells"}));
        assert_eq!(job["result"], "value 0", "{job}");
        let told = self.receiver.wait(before + 2).pop().unwrap();
        assert_signed(&told, "of the endpoint");
    }

    /// The lines of `secrets status`, without the ids.
    fn status(&self) -> Vec<String> {
        let said = self.server.cli(&["secrets", "status"]);
        said.lines()
            .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
            .collect()
    }
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one_while_the_server_runs() {
    let mut stage = Stage::new(0);
    let old = stage.old.clone();
    assert_eq!(stage.status(), ["at hand, seals 3 secrets"]);
    // Nobody rotates before the servers have the new key.
    stage.keys(&[NEW, &old]);
    let (_, refused) = stage.server.cli_fails(&["secrets", "rotate"]);
    assert!(refused.contains("start each again"), "{refused}");
    stage.restart(&[NEW, &old]);
    stage.all_is_well(1);
    assert_eq!(
        stage.status(),
        ["at hand, seals 0 secrets", "at hand, opens 3 secrets"]
    );

    // The old key cannot be taken away too early.
    stage.keys(&[NEW]);
    stage.server.kill();
    let (status, stderr) = stage.server.start_another();
    assert!(!status.success());
    assert!(
        stderr.contains("secrets rotate") && stderr.contains("after a comma"),
        "{stderr}"
    );
    stage.keys(&[NEW, &old]);
    stage.server.start_again();

    let said = stage.server.cli(&["secrets", "rotate"]);
    assert!(
        said.starts_with("3 secrets sealed under ")
            && said.contains("\nthe old keys can be removed now, if every server"),
        "{said}"
    );
    stage.all_is_well(2);
    assert_eq!(
        stage.status(),
        ["at hand, seals 3 secrets", "at hand, opens 0 secrets"]
    );
    stage.restart(&[NEW]);
    stage.all_is_well(3);
    let said = stage.server.cli(&["secrets", "rotate"]);
    assert!(said.starts_with("0 secrets sealed under "), "{said}");
}

#[test]
fn a_rotation_that_is_killed_leaves_every_secret_readable_and_is_ended_by_the_next() {
    let mut stage = Stage::new(450);
    let old = stage.old.clone();
    stage.restart(&[NEW, &old]);
    stage
        .server
        .cli_killed(&["secrets", "rotate"], "200 secrets sealed under");
    stage.all_is_well(1);
    let said = stage.server.cli(&["secrets", "rotate"]);
    assert!(
        said.contains("\nthe old keys can be removed now, if every server"),
        "{said}"
    );
    assert_eq!(
        stage.status(),
        ["at hand, seals 453 secrets", "at hand, opens 0 secrets"]
    );
    stage.restart(&[NEW]);
    stage.all_is_well(2);
    let values: Vec<Value> = wait_for("the credentials", PATIENCE, || {
        let get = |number: u32| {
            stage
                .client
                .ok("credentials/get", json!({"name": format!("c-{number}")}))
        };
        Ok((0..=450).step_by(50).map(get).collect())
    });
    for (value, number) in values.iter().zip((0..=450).step_by(50)) {
        assert_eq!(value["value"], format!("value {number}"));
    }
}

#[test]
fn without_an_old_key_it_says_what_cannot_be_opened_and_changes_nothing_of_it() {
    let mut stage = Stage::new(0);
    let old = stage.old.clone();
    stage.restart(&[NEW, &old]);
    stage
        .client
        .ok("credentials/create", json!({"name": "made-later", "value": "x"}));
    stage.keys(&[NEW]);
    let (code, stderr) = stage.server.cli_fails(&["secrets", "rotate"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("0 secrets sealed under") && stderr.contains("3 secrets cannot be opened: the key "),
        "{stderr}"
    );
    let status = stage.status();
    assert_eq!(status, ["at hand, seals 1 secret", "missing 3 secrets"]);
    let id = stage.server.cli(&["secrets", "status"]);
    let id = id
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    assert!(stderr.contains(&id), "{stderr}");
    // The old key comes back, and all is as it was.
    stage.keys(&[NEW, &old]);
    stage.all_is_well(1);
    stage.server.cli(&["secrets", "rotate"]);
    stage.restart(&[NEW]);
    stage.all_is_well(2);
    assert!(!stage.server.log().contains(NEW), "no log shows a key");
}
