//! Callbacks that a receiver must accept and callbacks that it must refuse, made with what the server signs with.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use impresario::delivery::sign::sign;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PLAIN_SECRET: &str = "a secret of words";
const JSON: &[u8] = br#"{"event":"job.completed","job_id":"0198","result":null}"#;
const ID: &str = "msg_0198c0de";

/// A callback as it arrives, what the receiver knows, and what it must say.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) secrets: Vec<String>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) now: i64,
    /// Whether to accept it by `webhook-signature`.
    pub(crate) standard: bool,
    /// Whether to accept it by `x-webhook-signature`, with the first secret.
    pub(crate) plain: bool,
    /// Whether the packages of Standard Webhooks are not asked, because they go by the machine's clock, or read what the
    /// server never sends in another way.
    pub(crate) page_alone: bool,
}

impl Vector {
    /// What the server sends, to a receiver that knows the secret.
    fn sent(name: impl Into<String>, secret: &str, body: &[u8], now: i64) -> Self {
        Self::sent_at(name, secret, body, now, now)
    }

    fn sent_at(name: impl Into<String>, secret: &str, body: &[u8], sent: i64, now: i64) -> Self {
        let signed = sign(secret, ID, sent, body);
        Self {
            name: name.into(),
            secrets: vec![secret.to_owned()],
            headers: vec![
                ("webhook-id", ID.to_owned()),
                ("webhook-timestamp", sent.to_string()),
                ("webhook-signature", signed.webhook_signature),
                ("x-webhook-signature", signed.x_webhook_signature),
            ],
            body: body.to_vec(),
            now,
            standard: true,
            plain: true,
            page_alone: false,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The same with another value of a header.
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn known(mut self, secrets: &[&str]) -> Self {
        self.secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
        self
    }

    fn carrying(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn must(mut self, standard: bool, plain: bool) -> Self {
        (self.standard, self.plain) = (standard, plain);
        self
    }

    fn page_alone(mut self) -> Self {
        self.page_alone = true;
        self
    }

    /// What a program is asked: not what it has to answer.
    pub(crate) fn question(&self) -> Value {
        let headers: serde_json::Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "secrets": self.secrets,
            "headers": headers,
            "body": STANDARD.encode(&self.body),
            "now": self.now,
        })
    }
}

/// All of them, as of `now` in seconds since 1970.
pub(crate) fn all(now: i64) -> Vec<Vector> {
    let mut all = genuine(now);
    all.extend(rotated(now));
    all.extend(made_up_secrets(now));
    for secret in [STANDARD_SECRET, PLAIN_SECRET] {
        all.extend(forged(secret, now));
        all.extend(malformed(secret, now));
        all.extend(at_other_times(secret, now));
    }
    for secret in ["", "whsec_", "whsec_=="] {
        let name = format!("signed with the secret {secret:?}, which anybody knows");
        all.push(Vector::sent(name, secret, JSON, now).must(false, !secret.is_empty()));
    }
    all
}

fn genuine(now: i64) -> Vec<Vector> {
    let padded = format!("whsec_{}", STANDARD.encode([0xfb; 32]));
    let long = "x".repeat(1024);
    let secrets = [
        STANDARD_SECRET,
        &padded,
        padded.trim_end_matches('='),
        PLAIN_SECRET,
        "sëcret 鍵 🔑",
        &long,
        "whsec_secret",
        "whsec_not base64!",
        "whsec_url-safe_base64",
        "whsec_QUJDQ",
        "WHSEC_QUJD",
    ];
    let large = format!(r#"{{"result":"{}"}}"#, "0123456789abcde\u{e9}".repeat(65_536));
    let bodies: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("JSON", JSON),
        (
            "letters of every kind",
            r#"{"result":"größe 鍵 🔑 \ud83d\udd11 \u2028 \u0000"}"#.as_bytes(),
        ),
        (
            "JSON that is nearly binary",
            "\r\n\t{\"result\" : \"\u{7f}\u{80}\u{feff}\u{fffd}\\u0000\\u001f\\\\\" }\n\n".as_bytes(),
        ),
        ("bytes that are no text", &[0xff, 0x00, 0x0a, 0x0d, 0xc3, 0x28]),
        ("1 MiB", large.as_bytes()),
    ];
    secrets
        .iter()
        .flat_map(|secret| {
            let name = |what| format!("{what}, signed with {}", secret.get(..20).unwrap_or(secret));
            bodies.map(|(what, body)| Vector::sent(name(what), secret, body, now))
        })
        .collect()
}

/// Whatever stands after `whsec_`, receivers and the server must read it alike.
fn made_up_secrets(now: i64) -> Vec<Vector> {
    let mut rng = StdRng::seed_from_u64(1);
    let letters: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain("+/".chars())
        .collect();
    (0..200)
        .map(|_| {
            let length = rng.random_range(1..48);
            let mut text: String = (0..length)
                .map(|_| letters[rng.random_range(0..letters.len())])
                .collect();
            if rng.random_bool(0.2) {
                let wrong = ['-', '_', '=', ' ', 'é'][rng.random_range(0..5)];
                text.insert(rng.random_range(0..text.len()), wrong);
            }
            let padding = "=".repeat(rng.random_range(0..4));
            let secret = format!("whsec_{text}{padding}");
            Vector::sent(format!("signed with {secret}"), &secret, JSON, now)
        })
        // Of nothing but padding there is another test.
        .filter(|vector| vector.secrets[0].trim_end_matches('=') != "whsec_")
        .collect()
}

/// Between two secrets `webhook-signature` has a signature of each, and the plain one is the new one's.
fn rotated(now: i64) -> Vec<Vector> {
    let (new, old, other) = (
        STANDARD_SECRET,
        "whsec_b2xkIGtleSBvZiB0aGUgdGVzdHM=",
        PLAIN_SECRET,
    );
    let of = |secret| sign(secret, ID, now, JSON).webhook_signature;
    let several = |what: &str, signatures: &[String]| {
        Vector::sent(what, new, JSON, now).with("webhook-signature", signatures.join(" "))
    };
    let both = [of(new), of(old)];
    let turned = [of(old), of(new)];
    vec![
        several("new and old, new known", &both),
        several("new and old, old known", &both)
            .known(&[old])
            .must(true, false),
        several("new and old, both known", &both).known(&[new, old]),
        several("old and new, new known", &turned),
        several("old and new, old known", &turned)
            .known(&[old])
            .must(true, false),
        several("new and old, neither known", &both)
            .known(&[other])
            .must(false, false),
        several("of two other secrets", &[of(old), of(other)]).must(false, true),
        several(
            "with one of a later version before it",
            &["v2,AAAA".into(), of(new)],
        ),
        several(
            "with one of a later version after it",
            &[of(new), "v1a,AAAA".into()],
        ),
        Vector::sent("new, both known", new, JSON, now)
            .known(&[old, new])
            .must(true, false),
        several("with a comma in between", &[both.join(",")])
            .must(false, true)
            .page_alone(),
    ]
}

/// What a stranger could make of a callback that was seen, or without one.
fn forged(secret: &str, now: i64) -> Vec<Vector> {
    let sent = |what: &str| Vector::sent(format!("{what} ({secret})"), secret, JSON, now);
    let other = sign("whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==", ID, now, JSON);
    let mut first = JSON.to_vec();
    first[0] ^= 1;
    let mut middle = JSON.to_vec();
    middle[20] ^= 0x20;
    let right = sent("").header("webhook-signature").unwrap().to_owned();
    let without_time = sign(secret, "", now, JSON).webhook_signature;
    vec![
        sent("the body's first byte changed")
            .carrying(first)
            .must(false, false),
        sent("a byte in the body changed")
            .carrying(middle)
            .must(false, false),
        sent("a byte behind the body")
            .carrying([JSON, b" "].concat())
            .must(false, false),
        sent("the body cut")
            .carrying(&JSON[..JSON.len() - 1])
            .must(false, false),
        sent("no body").carrying("").must(false, false),
        sent("another id")
            .with("webhook-id", "msg_0198c0df")
            .must(false, true),
        sent("another time")
            .with("webhook-timestamp", (now + 1).to_string())
            .must(false, true),
        sent("the dot moved from the time to the id")
            .with("webhook-id", format!("{ID}."))
            .must(false, true),
        sent("signed with another secret")
            .with("webhook-signature", other.webhook_signature)
            .with("x-webhook-signature", other.x_webhook_signature)
            .must(false, false),
        sent("no id, and signed so")
            .without("webhook-id")
            .with("webhook-signature", &without_time)
            .must(false, true),
        sent("an empty id, and signed so")
            .with("webhook-id", "")
            .with("webhook-signature", without_time)
            .must(false, true),
        sent("the signature under another version")
            .with("webhook-signature", right.replace("v1,", "v2,"))
            .must(false, true),
    ]
}

fn malformed(secret: &str, now: i64) -> Vec<Vector> {
    let sent = |what: &str| Vector::sent(format!("{what} ({secret})"), secret, JSON, now);
    let signed = |value: &str| {
        sent(&format!("webhook-signature: {value:?}"))
            .with("webhook-signature", value)
            .must(false, true)
    };
    let plain = |value: &str| {
        sent(&format!("x-webhook-signature: {value:?}"))
            .with("x-webhook-signature", value)
            .must(true, false)
    };
    let right = sent("").header("webhook-signature").unwrap().to_owned();
    let hex = sent("").header("x-webhook-signature").unwrap().to_owned();
    let mut all: Vec<Vector> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| sent(&format!("no {name}")).without(name).must(false, true))
        .into();
    all.push(
        sent("no x-webhook-signature")
            .without("x-webhook-signature")
            .must(true, false),
    );
    all.extend(
        [
            "",
            " ",
            "v1",
            "v1,",
            "v2,",
            ",",
            "v1,é",
            "v1,%%%%",
            &right[..right.len() - 1],
            &right[..right.len() - 4],
            &right[..right.len() / 2],
            &right["v1,".len()..],
            &format!("v1,{hex}"),
            &right.to_uppercase().replace("V1,", "v1,"),
        ]
        .map(signed),
    );
    all.extend(["", "é", &hex[..63], &hex[..32], &hex.to_uppercase(), &right].map(plain));
    all.extend(
        ["", "yesterday", "NaN", "inf", "-1", "1e400", &"9".repeat(400)].map(|value| {
            sent(&format!("webhook-timestamp: {value:?}"))
                .with("webhook-timestamp", value)
                .must(false, true)
        }),
    );
    all
}

/// Five minutes either way, and not a second more.
fn at_other_times(secret: &str, now: i64) -> Vec<Vector> {
    let at = |offset: i64| {
        let name = format!("sent {offset} s from now ({secret})");
        Vector::sent_at(name, secret, JSON, now + offset, now)
    };
    let mut all = [-240, -1, 1, 240].map(at).to_vec();
    all.extend([-300, 300].map(|offset| at(offset).page_alone()));
    all.extend([-301, 301].map(|offset| at(offset).page_alone().must(false, true)));
    all.extend([-360, 360, -86_400, 86_400, -now].map(|offset| at(offset).must(false, true)));
    all
}
