//! The real binary: what it takes as a receiver, what it says of what it does not take, and where it then goes.

use impresario::delivery::gate::SETTING;
use serde_json::{Value, json};

use crate::{
    canary::{Canary, PUBLIC_V4, at},
    corpus::{Case, Verdict, corpus},
    counters::Counters,
    dns::{Answer, Dns},
    namespace::inside,
    oddities::{NAMES, PASSWORD},
    support::{Bundle, Client, PATIENCE, Server, Setup, wait_for},
};

/// What the API takes, because it is public, in whatever notation; and because a name is for name servers to tell, see
/// [`NAMES`].
const PUBLIC: [&str; 12] = [
    "http://93.184.215.14/",
    "https://93.184.215.14:8443/hook?token=1#fragment",
    "http://0x5db8d70e/",
    "http://1572394766:8080/",
    "http://0135.184.0xd7.14/",
    "http://９３.184。215.14/",
    "http://[2606:4700::1111]/",
    "http://[2606:4700:0:0:0:0:0.0.17.17]:8080/",
    "http://1.1.1.1/http://127.0.0.1/",
    "http://1.1.1.1\\@127.0.0.1/",
    "http://1.1.1.1#@127.0.0.1/",
    "HTTPS://HOOKS.EXAMPLE./",
];

struct Stage {
    server: Server,
    client: Client,
}

/// A server that nobody has opened anything to, with one workflow, whose clock stands.
fn start() -> Stage {
    let setup = Setup::at("2027-01-01T00:00:30Z");
    let server = setup.public_callbacks_only().embedded().start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return { n: 1 };"));
    Stage { server, client }
}

impl Stage {
    /// A refusal names the field, says what an operator can do, and repeats no user information.
    fn assert_refused(&self, route: &str, field: &str, input: Value, case: &Case) {
        let answer = self.client.call(route, &input);
        let value = answer.value();
        let what = format!("{route} {:?}: {value}", case.url);
        assert_eq!(answer.status, 400, "{what}");
        assert!(!value.to_string().contains(PASSWORD), "{what}");
        let issues = value["json"]["data"]["issues"].as_array().unwrap();
        assert!(!issues.is_empty(), "{what}");
        for issue in issues {
            assert_eq!(issue["path"], json!([field]), "{what}");
        }
        let message = issues[0]["message"].as_str().unwrap();
        match case.verdict {
            Verdict::Shut => {
                assert!(
                    message.contains("an operator can allow") && message.contains(SETTING),
                    "{what}"
                );
            }
            Verdict::Metadata => assert!(message.contains("never") && message.contains(SETTING), "{what}"),
            // These are refused for what they are, and no setting changes that.
            _ => assert!(!message.contains(SETTING), "{what}"),
        }
    }

    /// Waits until the newest delivery has had so many attempts: what became of each, in their order.
    fn outcomes(&self, filter: &Value, attempts: usize) -> Vec<String> {
        wait_for(&format!("attempt {attempts} on record"), PATIENCE, || {
            let found = self.client.ok("webhooks/deliveries", filter.clone());
            let log = found["deliveries"][0]["attempt_log"].as_array();
            let outcomes = log.into_iter().flatten().map(|attempt| {
                let class = attempt["error_class"].as_str();
                class.unwrap_or("delivered").to_owned()
            });
            let outcomes: Vec<String> = outcomes.collect();
            (outcomes.len() == attempts)
                .then_some(outcomes)
                .ok_or_else(|| found.to_string())
        })
    }

    /// Runs the workflow with a callback to this URL: what finds its delivery.
    fn run(&self, url: &str) -> Value {
        let job = self.client.create_job(with_callback(url));
        json!({"job_id": job})
    }
}

fn with_callback(url: &str) -> Value {
    json!({"workflow": "quick", "callback_url": url, "callback_secret": "of nobody"})
}

#[test]
fn no_forbidden_url_is_taken_as_a_webhook() {
    inside("served::no_forbidden_url_is_taken_as_a_webhook", || {
        let canary = Canary::start();
        let stage = start();
        let refused: Vec<Case> = corpus()
            .into_iter()
            .filter(|case| case.verdict != Verdict::Name)
            .collect();
        let before = Counters::read();
        for case in &refused {
            stage.assert_refused("webhooks/create", "url", json!({"url": case.url}), case);
        }
        let sent = before.since();
        assert_eq!(
            (sent.opens, sent.datagrams, sent.no_routes),
            (refused.len() as u64, 0, 0),
            "the requests to the server itself, and nothing of its own: no look-up either"
        );
        for url in PUBLIC.iter().chain(&NAMES) {
            stage.client.ok("webhooks/create", json!({"url": url}));
        }
        let list = stage.client.ok("webhooks/list", json!({}));
        let mut listed: Vec<&str> = list["webhook_endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["url"].as_str().unwrap())
            .collect();
        let mut taken: Vec<&str> = PUBLIC.iter().chain(&NAMES).copied().collect();
        listed.sort_unstable();
        taken.sort_unstable();
        assert_eq!(listed, taken);
        assert!(!stage.server.log().contains(PASSWORD), "{}", stage.server.log());
        canary.assert_silence("registering");
    });
}

#[test]
fn no_forbidden_url_is_taken_anywhere_else() {
    inside("served::no_forbidden_url_is_taken_anywhere_else", || {
        let stage = start();
        let of = |wanted: Verdict, count: usize| -> Vec<Case> {
            let cases: Vec<Case> = corpus()
                .into_iter()
                .filter(|case| case.verdict == wanted)
                .collect();
            let step = cases.len() / count;
            cases.into_iter().step_by(step).take(count).collect()
        };
        let mut sample = of(Verdict::Shut, 10);
        for (verdict, count) in [(Verdict::Metadata, 4), (Verdict::Slip, 2), (Verdict::NotAUrl, 4)] {
            sample.extend(of(verdict, count));
        }
        assert_eq!(sample.len(), 20);
        let made = stage.client.ok("webhooks/create", json!({"url": PUBLIC[0]}));
        for case in &sample {
            let change = json!({"id": made["webhook_endpoint_id"], "url": case.url});
            stage.assert_refused("webhooks/update", "url", change, case);
            let mut input = with_callback(&case.url);
            stage.assert_refused("jobs/create", "callback_url", input.clone(), case);
            input["cron_expr"] = json!("0 0 * * *");
            stage.assert_refused("schedules/create", "callback_url", input, case);
        }
        let endpoints = stage.client.ok("webhooks/list", json!({}));
        assert_eq!(endpoints["webhook_endpoints"][0]["url"], PUBLIC[0]);
        for (route, list) in [("jobs/list", "jobs"), ("schedules/list", "schedules")] {
            assert_eq!(stage.client.ok(route, json!({}))[list], json!([]));
        }
    });
}

#[test]
fn a_delivery_reaches_what_is_public_and_nothing_else() {
    inside(
        "served::a_delivery_reaches_what_is_public_and_nothing_else",
        || {
            let canary = Canary::answering(|head| {
                let status = match head.split(' ').nth(1) {
                    Some("/busy") => "503 Busy\r\nretry-after: 1",
                    Some("/elsewhere") => "307 Elsewhere\r\nlocation: http://169.254.169.254/latest/",
                    _ => "200 OK",
                };
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes()
            });
            let dns = Dns::start();
            let stage = start();
            let public = Answer::of(&[PUBLIC_V4]);
            let forbidden = Answer::of(&["127.0.0.1", "169.254.169.254", "fd00:ec2::254"]);
            // Each name is asked for once an attempt.
            dns.tell("public.test", vec![public.clone()]);
            dns.tell("forbidden.test", vec![forbidden.clone()]);
            dns.tell("first-shut.test", vec![forbidden.clone(), public.clone()]);
            dns.tell("then-shut.test", vec![public, forbidden]);
            let (refused, delivered, redirect) = ("refused_address", "delivered", "redirect");

            let filter = stage.run("http://public.test:8080/");
            assert_eq!(stage.outcomes(&filter, 1), [delivered]);
            assert_eq!(canary.take(1), [at(PUBLIC_V4, 8080)]);

            let shut = stage.run("http://forbidden.test:8080/");
            assert_eq!(stage.outcomes(&shut, 1), [refused]);
            let redirected = stage.run("http://93.184.215.14:8080/elsewhere");
            assert_eq!(stage.outcomes(&redirected, 1), [redirect]);
            let first_shut = stage.run("http://first-shut.test:8080/");
            assert_eq!(stage.outcomes(&first_shut, 1), [refused]);
            let then_shut = stage.run("http://then-shut.test:8080/busy");
            assert_eq!(stage.outcomes(&then_shut, 1), ["status"]);
            assert_eq!(canary.take(2), [at(PUBLIC_V4, 8080); 2]);

            // All four are tried again.
            stage.server.set_clock("2027-01-01T00:00:45Z");
            assert_eq!(stage.outcomes(&shut, 2), [refused, refused]);
            assert_eq!(stage.outcomes(&redirected, 2), [redirect, redirect]);
            assert_eq!(stage.outcomes(&first_shut, 2), [refused, delivered]);
            assert_eq!(stage.outcomes(&then_shut, 2), ["status", refused]);
            assert_eq!(canary.take(2), [at(PUBLIC_V4, 8080); 2]);

            // An endpoint that is stored has no easier way.
            stage
                .client
                .ok("webhooks/create", json!({"url": "http://forbidden.test:8080/"}));
            let job = stage.client.create_job(json!({"workflow": "quick"}));
            assert_eq!(stage.outcomes(&json!({"job_id": job}), 1), [refused]);
            canary.assert_silence("forbidden names");
            let told = stage.client.ok("webhooks/deliveries", shut);
            let error = told["deliveries"][0]["last_error"].as_str().unwrap();
            assert!(error.contains(SETTING) && !error.contains("169.254"), "{error}");
        },
    );
}
