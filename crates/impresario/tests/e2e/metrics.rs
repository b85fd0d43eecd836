//! `/metrics`, as a scraper reads it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Bundle, PATIENCE, Receiver, Request, Server, Setup, wait_until, workflow};

/// Every line of the page, as the text format has it: samples by name and labels, in the order of their families.
fn scrape(server: &Server, key: &str) -> BTreeMap<String, f64> {
    let address = server.client(key).address();
    let answer = Request::get("/metrics").send(address).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with('\n'));
    let (mut family, mut samples) = (String::new(), BTreeMap::new());
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split(' ').next().unwrap().to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert_eq!(name, family, "a sample stands below its family: {line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inner = labels
                .strip_prefix('{')
                .and_then(|l| l.strip_suffix('}'))
                .unwrap();
            for label in inner.split(',') {
                let (name, value) = label.split_once('=').unwrap();
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{line}"
                );
                assert!(
                    value.len() >= 2 && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
            }
        }
        assert!(
            samples
                .insert(series.to_owned(), value.parse().unwrap())
                .is_none(),
            "{line}"
        );
    }
    samples
}

#[test]
fn what_happens_is_counted_and_nobody_is_named() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme-corporation");
    client.deploy(&Bundle::of(
        &(workflow("quick", "return 1;") + &workflow("broken", "throw new Error('no');")),
    ));
    let receiver = Receiver::start();
    let before = scrape(&server, client.key());
    for series in [
        "impresario_fires_total{outcome=\"fired\"}",
        "impresario_fires_total{outcome=\"missed\"}",
        "impresario_delivery_attempts_total{result=\"delivered\"}",
        "impresario_jobs_queued",
        "impresario_scheduler_lag_seconds",
        "impresario_deliveries_pending",
        "impresario_deliveries_in_flight",
    ] {
        assert_eq!(before.get(series), Some(&0.0), "{series} in {before:?}");
    }
    assert_eq!(before["impresario_store_up"], 1.0);
    assert!(
        before
            .keys()
            .any(|series| series.starts_with("impresario_build_info{version="))
    );
    assert!(before["impresario_loop_age_seconds{loop=\"scheduler\"}"] < 30.0);

    let schedule = client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *",
        "callback_url": receiver.url(), "callback_secret": "x"}));
    server.set_clock("2027-01-01T00:01:00Z");
    let fire = client.fired(&schedule["id"], "2027-01-01T00:01:00.000Z");
    client.job_ended(&fire["job_id"]);
    receiver.wait(1);
    client.run(json!({"workflow": "broken"}));
    client.refused("jobs/get", json!({"id": schedule["id"]}), 404);
    wait_until("the counters to move", PATIENCE, || {
        let now = scrape(&server, client.key());
        let moved = |series: &str, by: f64| {
            (now.get(series).copied().unwrap_or(0.0) - before.get(series).copied().unwrap_or(0.0) - by).abs()
                < 0.1
        };
        moved("impresario_fires_total{outcome=\"fired\"}", 1.0)
            && moved(
                "impresario_jobs_ended_total{status=\"completed\",failure_class=\"\"}",
                1.0,
            )
            && moved(
                "impresario_jobs_ended_total{status=\"failed\",failure_class=\"workflow\"}",
                1.0,
            )
            && moved("impresario_delivery_attempts_total{result=\"delivered\"}", 1.0)
            && moved("impresario_http_requests_total{status=\"4xx\"}", 1.0)
            && now["impresario_http_requests_total{status=\"2xx\"}"]
                > before["impresario_http_requests_total{status=\"2xx\"}"]
    });
    let answer = Request::get("/metrics").send(client.address()).unwrap();
    let answer = String::from_utf8(answer.body).unwrap();
    for secret in ["acme", "quick", schedule["id"].as_str().unwrap()] {
        assert!(!answer.contains(secret), "{secret} in {answer}");
    }
}

#[test]
fn a_node_without_the_api_shows_its_own() {
    let front = Setup::at("2027-01-01T00:00:30Z").shared().start();
    let client = front.tenant("acme");
    let mut back = front.node(Setup::at("2027-01-01T00:00:30Z").roles("worker,delivery"));
    back.start_again();
    let samples = scrape(&back, client.key());
    assert!(
        samples.contains_key("impresario_loop_age_seconds{loop=\"worker\"}"),
        "{samples:?}"
    );
}
