//! A receiver at a public address that sends the callback elsewhere, in every way that HTTP has.

use impresario::delivery::http::{ErrorClass, Sender};

use crate::{
    canary::{Canary, PUBLIC_V4, at},
    corpus::{Case, corpus},
    counters::Counters,
    namespace::inside,
    oddities::PASSWORD,
    sending::{attempt, block_on, class, sender},
};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// The answer that a request for `/<kind>/<place in the corpus>` gets.
fn answer(cases: &[Case], head: &str) -> Vec<u8> {
    let mut parts = head.split(['/', ' ']).skip(2);
    let (kind, place) = (parts.next().unwrap(), parts.next().unwrap());
    let url = cases[place.parse::<usize>().unwrap()].url.as_str();
    // What breaks a line would be a header of its own; the target is then what stands before it.
    let url = url.replace(['\r', '\n'], "%0A");
    let end = "content-length: 0\r\n\r\n";
    let elsewhere = format!(
        "refresh: 0; url={url}\r\nlink: <{url}>; rel=\"canonical preload\"\r\ncontent-location: {url}\r\n\
         alt-svc: http/1.1=\"127.0.0.1:8080\"\r\n{end}"
    );
    match kind {
        "hints" => format!("HTTP/1.1 103 Early Hints\r\nlink: <{url}>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n{elsewhere}"),
        "200" | "201" => format!("HTTP/1.1 {kind} Yes\r\nlocation: {url}\r\n{elsewhere}"),
        "401" | "407" => {
            let ask = if kind == "401" { "www" } else { "proxy" };
            format!("HTTP/1.1 {kind} Who\r\n{ask}-authenticate: Basic realm=\"{url}\"\r\nlocation: {url}\r\n{elsewhere}")
        }
        status => format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {url}\r\n{end}"),
    }
    .into_bytes()
}

/// Posts to the receiver for every URL of the corpus; each must be heard once, there, and nothing anywhere else.
async fn each(
    canary: &Canary,
    sender: &Sender,
    (cases, kind): (&[Case], &str),
    check: impl Fn(&str, impresario::delivery::http::AttemptResult),
) {
    let before = Counters::read();
    for (place, case) in cases.iter().enumerate() {
        let result = sender
            .post(&attempt(&format!("http://{PUBLIC_V4}:8080/{kind}/{place}")))
            .await;
        check(&case.url, result);
    }
    let heard = canary.take(cases.len());
    let elsewhere: Vec<_> = heard.iter().filter(|to| **to != at(PUBLIC_V4, 8080)).collect();
    assert!(elsewhere.is_empty(), "{kind}: {elsewhere:?}");
    let sent = before.since();
    assert_eq!(
        (sent.opens, sent.datagrams, sent.no_routes),
        (cases.len() as u64, 0, 0),
        "{kind}"
    );
}

#[test]
fn no_redirect_is_followed_wherever_it_leads() {
    inside("redirects::no_redirect_is_followed_wherever_it_leads", || {
        let cases = corpus();
        let known = cases.clone();
        let canary = Canary::answering(move |head| answer(&known, head));
        let sender = sender(&[]);
        block_on(async {
            for status in STATUSES {
                each(&canary, &sender, (&cases, &status.to_string()), |url, result| {
                    // What cannot stand in a header is no HTTP.
                    if url.contains(|c: char| c.is_ascii_control() && !"\t\r\n".contains(c)) {
                        assert_eq!(class(&result), Some(ErrorClass::Protocol), "{url:?}: {result:?}");
                        return;
                    }
                    assert_eq!(
                        (result.status, class(&result)),
                        (Some(status), Some(ErrorClass::Redirect)),
                        "{url:?}: {result:?}"
                    );
                    let message = result.error.unwrap().message;
                    assert!(!message.contains(PASSWORD), "{url:?}: {message}");
                })
                .await;
            }
        });
    });
}

#[test]
fn nothing_else_that_an_answer_says_sends_a_callback_on() {
    inside(
        "redirects::nothing_else_that_an_answer_says_sends_a_callback_on",
        || {
            // One in nine: what is followed is followed for any target.
            let cases: Vec<Case> = corpus()
                .into_iter()
                .filter(|case| !case.url.contains(|c: char| c.is_ascii_control()))
                .step_by(9)
                .collect();
            let known = cases.clone();
            let canary = Canary::answering(move |head| answer(&known, head));
            let sender = sender(&[]);
            block_on(async {
                for kind in ["200", "201", "hints"] {
                    each(&canary, &sender, (&cases, kind), |url, result| {
                        assert!(result.delivered(), "{kind} {url:?}: {result:?}");
                    })
                    .await;
                }
                for kind in [
                    "300", "304", "305", "306", "401", "407", "408", "421", "425", "503",
                ] {
                    each(&canary, &sender, (&cases, kind), |url, result| {
                        assert_eq!(
                            result.status.map(|status| status.to_string()).as_deref(),
                            Some(kind),
                            "{url:?}: {result:?}"
                        );
                        assert!(!result.delivered());
                    })
                    .await;
                }
            });
        },
    );
}
