//! Signatures, computed by programs that share no code with the server: `openssl`, and Node's own crypto.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{Received, process::feed};

/// The lowercase hexadecimal HMAC-SHA256 of `body`, by `openssl`.
fn hmac_hex(secret: &str, body: &[u8]) -> String {
    let mut openssl = super::process::command("openssl");
    openssl.args(["dgst", "-sha256", "-hmac", secret]);
    let said = feed(openssl.stderr(Stdio::inherit()), body);
    said.trim().rsplit("= ").next().unwrap().to_owned()
}

/// The Standard Webhooks signature (<https://www.standardwebhooks.com>), by Node.
fn standard(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    const SCRIPT: &str = r#"
        const crypto = require("node:crypto");
        const { secret, id, timestamp, body } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
        const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
        const mac = crypto.createHmac("sha256", key).update(`${id}.${timestamp}.`).update(Buffer.from(body));
        process.stdout.write("v1," + mac.digest("base64"));
    "#;
    let mut node = super::process::command("node");
    node.args(["-e", SCRIPT]);
    let input = json!({"secret": secret, "id": id, "timestamp": timestamp, "body": body});
    feed(&mut node, input.to_string().as_bytes())
}

/// By which of the secrets a callback is signed, as Standard Webhooks has it.
pub(crate) fn signed_by(callback: &Received, secrets: &[&str]) -> Vec<bool> {
    let header = |name| callback.header(name).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let given: Vec<&str> = header("webhook-signature").split(' ').collect();
    secrets
        .iter()
        .map(|secret| given.contains(&&*standard(secret, id, timestamp, &callback.body)))
        .collect()
}

/// Checks everything that a callback's headers promise, and gives its body.
#[track_caller]
pub(crate) fn assert_signed(callback: &Received, secret: &str) -> Value {
    let header = |name: &str| {
        let value = callback.header(name);
        value
            .unwrap_or_else(|| panic!("no {name} in {:?}", callback.headers))
            .to_owned()
    };
    assert_eq!(callback.method, "POST");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-webhook-signature"), hmac_hex(secret, &callback.body));
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert!(
        timestamp.parse::<i64>().is_ok(),
        "seconds since 1970: {timestamp}"
    );
    let expected = standard(secret, &id, &timestamp, &callback.body);
    let signatures = header("webhook-signature");
    assert_eq!(
        signatures.split(' ').next(),
        Some(&*expected),
        "the newest secret's is the first"
    );
    let body = callback.json();
    assert_eq!(header("x-event-type"), body["event"].as_str().unwrap());
    body
}
