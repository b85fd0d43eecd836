//! One attempt: in comes what to post and where, out goes what became of it. Retrying is somebody else's decision.
//!
//! The address and everything that comes back belong to a stranger, so the defaults of the HTTP client are turned off:
//! no redirect is followed (it would walk around the gate), no proxy of the environment is used, no cookies are kept, nothing is
//! decompressed, nothing is sent twice by itself, no connection is kept (each attempt resolves its name anew), and
//! one deadline covers name, connection, answer and body.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Client, Response,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
    redirect, retry,
};

pub use crate::delivery::failure::{AttemptError, ErrorClass};
use crate::delivery::{
    failure,
    gate::Gate,
    resolver::{GatedResolver, Lookup, SystemLookup},
    sign::{self, Signatures},
};

/// How much of an answer is read, in bytes: enough for any receiver that means well to finish its sentence.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How much of an answer is kept, in bytes, before it is decoded.
const EXCERPT_BYTES: usize = 1024;

/// What one attempt posts, and where.
#[derive(Clone)]
pub struct Attempt {
    /// Where to; the gate is asked again at each attempt.
    pub url: String,
    /// `webhook-id`: the same over all attempts of one delivery, so that receivers can tell a repetition.
    pub webhook_id: String,
    /// `x-event-type`.
    pub event: String,
    /// The body, sent exactly as it is: JSON.
    pub body: Vec<u8>,
    /// What signs it. Sent nowhere.
    pub secret: String,
    /// Secrets that were valid before it and still are: `webhook-signature` has a signature by each of them as well.
    pub old_secrets: Vec<String>,
    /// `webhook-timestamp`: when this attempt is made, in seconds since 1970.
    pub timestamp_secs: i64,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the secret nor the URL, whose path and query are often secrets themselves.
        f.debug_struct("Attempt")
            .field("webhook_id", &self.webhook_id)
            .field("event", &self.event)
            .field("timestamp_secs", &self.timestamp_secs)
            .finish_non_exhaustive()
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// Milliseconds until the head of the answer was there, or until the attempt failed.
    pub latency_ms: u64,
    /// Why it failed; `None` where it was delivered.
    pub error: Option<AttemptError>,
    /// What the receiver asked for with `Retry-After` in an answer other than 2xx. Not clamped: the schedule does that.
    pub retry_after: Option<Duration>,
    /// The beginning of the answer's body, 1 KiB of it decoded as UTF-8; what is no text reads as U+FFFD, and what is
    /// not printable as `\x1b`. `None` where the body was empty.
    pub response_excerpt: Option<String>,
}

impl AttemptResult {
    /// Whether the receiver took it: a 2xx. It counts even if the body of the answer then broke off or never ended,
    /// because the receiver has already said that it took it, and a repetition would only annoy it.
    #[must_use]
    pub fn delivered(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// How long an attempt may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the name to the end of the TLS handshake. Default 5 s.
    pub connect: Duration,
    /// From the start to the last byte read of the answer. Default 15 s.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            whole: Duration::from_secs(15),
        }
    }
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
#[error(
    "the HTTP client for callbacks cannot be built: are root certificates installed? (the package ca-certificates, or a \
     PEM file named by SSL_CERT_FILE)"
)]
pub struct SenderError(#[source] reqwest::Error);

/// Makes attempts. Cheap to share by reference; holds no connection open.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    gate: Arc<Gate>,
    limits: Limits,
}

impl Sender {
    /// A sender with the default [`Limits`] and the name service of the machine.
    ///
    /// Certificates are verified against the roots of the operating system, or those in `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`, so that a company's own authority works as it does for other programs.
    ///
    /// # Errors
    /// [`SenderError`], in practice where the machine has no root certificates.
    pub fn new(gate: Gate) -> Result<Self, SenderError> {
        Self::with(gate, Limits::default(), SystemLookup)
    }

    /// A sender with other limits and another name service: for tests.
    ///
    /// # Errors
    /// As [`Sender::new`].
    #[expect(
        clippy::disallowed_methods,
        reason = "the one home of the HTTP client: its defaults are undone here"
    )]
    pub fn with(gate: Gate, limits: Limits, lookup: impl Lookup) -> Result<Self, SenderError> {
        // reqwest was built without a provider and panics where there is none. An error means that the process has
        // already chosen one, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gate = Arc::new(gate);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(retry::never())
            .referer(false)
            // Features that some other crate may turn on.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(limits.connect)
            .dns_resolver(GatedResolver::new(Arc::clone(&gate), lookup))
            .build()
            .map_err(SenderError)?;
        Ok(Self { client, gate, limits })
    }

    /// Makes one attempt and waits for its end, at most [`Limits::whole`].
    pub async fn post(&self, attempt: &Attempt) -> AttemptResult {
        let start = Instant::now();
        let deadline = tokio::time::Instant::from_std(start) + self.limits.whole;
        let mut result = AttemptResult {
            status: None,
            latency_ms: 0,
            error: None,
            retry_after: None,
            response_excerpt: None,
        };
        let answer = match tokio::time::timeout_at(deadline, self.request(attempt)).await {
            Ok(answer) => answer,
            Err(_) => Err(AttemptError::new(
                ErrorClass::Timeout,
                format!("no answer within {:?}", self.limits.whole),
            )),
        };
        result.latency_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                result.error = Some(error);
                return result;
            }
        };
        let status = response.status();
        result.status = Some(status.as_u16());
        if !status.is_success() {
            result.error = Some(failure::of_status(&response));
            result.retry_after = retry_after(response.headers(), attempt.timestamp_secs);
        }
        result.response_excerpt = read_excerpt(response, deadline).await;
        result
    }

    /// From the check of the URL to the head of the answer.
    async fn request(&self, attempt: &Attempt) -> Result<Response, AttemptError> {
        // The client does not ask its resolver about literal addresses: this is the only check that they meet.
        let url = self
            .gate
            .check_url(&attempt.url)
            .map_err(|error| failure::of_url(&error))?;
        let target = failure::authority(&url);
        let headers = headers(attempt)?;
        let response = self
            .client
            .post(url)
            .headers(headers)
            .body(attempt.body.clone())
            .send()
            .await
            .map_err(|error| failure::of_request(&error, &target))?;
        // The resolver let only allowed addresses through, so this never happens; if it does, nothing that the peer
        // said may be shown. An unknown peer is a refused one.
        match response.remote_addr() {
            Some(peer) if self.gate.allows(peer.ip()) => Ok(response),
            _ => Err(AttemptError::new(
                ErrorClass::RefusedAddress,
                format!("{target} answered from an address that callbacks may not go to"),
            )),
        }
    }
}

fn headers(attempt: &Attempt) -> Result<HeaderMap, AttemptError> {
    let sign = |secret: &str| sign::sign(secret, &attempt.webhook_id, attempt.timestamp_secs, &attempt.body);
    let Signatures {
        x_webhook_signature,
        mut webhook_signature,
    } = sign(&attempt.secret);
    for old in &attempt.old_secrets {
        webhook_signature.push(' ');
        webhook_signature.push_str(&sign(old).webhook_signature);
    }
    let timestamp = attempt.timestamp_secs.to_string();
    [
        (CONTENT_TYPE, "application/json"),
        (USER_AGENT, concat!("Impresario/", env!("CARGO_PKG_VERSION"))),
        (HeaderName::from_static("x-event-type"), &attempt.event),
        (
            HeaderName::from_static("x-webhook-signature"),
            &x_webhook_signature,
        ),
        (HeaderName::from_static("webhook-id"), &attempt.webhook_id),
        (HeaderName::from_static("webhook-timestamp"), &timestamp),
        (HeaderName::from_static("webhook-signature"), &webhook_signature),
    ]
    .into_iter()
    .map(|(name, value)| match HeaderValue::from_str(value) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(AttemptError::new(
            ErrorClass::Protocol,
            format!("the value of `{name}` cannot stand in a header"),
        )),
    })
    .collect()
}

/// Seconds, or a date that is compared with `now_secs`; `None` where there is none or it makes no sense. Absurdly
/// large numbers are cut to some hundred years, so that adding them to an instant is harmless.
fn retry_after(headers: &HeaderMap, now_secs: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().unwrap_or(u32::MAX)
    } else {
        // HTTP's dates are those of mail, with the zone always written GMT. A date in the past means: now.
        let date = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()?;
        let wait = date.as_second().saturating_sub(now_secs).max(0);
        u32::try_from(wait).unwrap_or(u32::MAX)
    };
    Some(Duration::from_secs(seconds.into()))
}

/// Reads until the body ends, breaks off, is long enough, or the deadline passes: whatever came by then is kept.
async fn read_excerpt(mut response: Response, deadline: tokio::time::Instant) -> Option<String> {
    let mut kept = Vec::new();
    let mut seen = 0;
    while seen < MAX_ANSWER_BYTES {
        let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(deadline, response.chunk()).await else {
            break;
        };
        seen += chunk.len();
        let room = EXCERPT_BYTES - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    (!kept.is_empty()).then(|| printable(&kept))
}

/// Decodes what a stranger sent. What a terminal or a page would obey instead of showing it is escaped: control characters,
/// and those that turn the direction of text or end a line unseen; PostgreSQL refuses text with a NUL besides.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    // A character that the cut went through is left out.
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && bytes.len() == EXCERPT_BYTES => {
            text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text)
        }
        _ => &text,
    };
    let mut shown = String::with_capacity(whole.len());
    for c in whole.chars() {
        match c {
            c if !is_obeyed(c) => shown.push(c),
            c if c.is_ascii() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

fn is_obeyed(c: char) -> bool {
    match c {
        '\n' | '\r' | '\t' => false,
        '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tls_tests;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct ThisMachine;

    impl Lookup for ThisMachine {
        fn lookup(&self, _: String) -> crate::delivery::resolver::Addresses {
            Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })
        }
    }

    #[tokio::test]
    async fn a_peer_that_slipped_past_the_resolver_is_refused_and_not_shown() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // An answer before there is a question would be a protocol error. This one fits into one segment.
            assert!(std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap() > 0);
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret")
                .unwrap();
        });
        let open = Gate::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let mut sender = Sender::with(open, Limits::default(), ThisMachine).unwrap();
        sender.gate = Arc::default();
        let result = sender
            .post(&Attempt {
                url: format!("http://hooks.test:{port}/"),
                webhook_id: "msg_1".to_owned(),
                event: "job.completed".to_owned(),
                body: Vec::new(),
                secret: String::new(),
                old_secrets: Vec::new(),
                timestamp_secs: 1,
            })
            .await;
        assert_eq!(
            result.error.map(|error| error.class),
            Some(ErrorClass::RefusedAddress)
        );
        assert_eq!((result.status, result.response_excerpt), (None, None));
    }

    fn asked(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        // Noon on 29 February 2028.
        retry_after(&headers, 1_835_438_400).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_in_seconds_as_a_date_and_as_nonsense() {
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked(" 0 "), Some(0));
        assert_eq!(asked("99999999999999999999999"), Some(u32::MAX.into()));
        assert_eq!(asked("Tue, 29 Feb 2028 12:01:30 GMT"), Some(90));
        assert_eq!(asked("Tue, 29 Feb 2028 11:59:59 GMT"), Some(0));
        assert_eq!(asked("Fri, 01 Jan 9999 00:00:00 GMT"), Some(u32::MAX.into()));
        for nonsense in [
            "",
            "-1",
            "1.5",
            "1e3",
            "+5",
            "soon",
            "120, 240",
            "Tue, 30 Feb 2028 12:00:00 GMT",
        ] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), 0), None);
    }

    #[test]
    fn what_a_stranger_sent_is_made_printable() {
        assert_eq!(printable(b"ok\r\n\tdone"), "ok\r\n\tdone");
        assert_eq!(printable(b"a\0b\x1b[31m\x7f"), r"a\x00b\x1b[31m\x7f");
        assert_eq!(
            printable("<b>\u{202e}ü\u{2028}".as_bytes()),
            r"<b>\u{202e}ü\u{2028}"
        );
        assert_eq!(printable(&[b'a', 0xff, b'b']), "a\u{fffd}b");
        let cut = [vec![b'a'; EXCERPT_BYTES - 1], vec![0xc3]].concat();
        assert_eq!(printable(&cut), "a".repeat(EXCERPT_BYTES - 1));
    }

    #[test]
    fn an_attempt_shows_neither_its_secret_nor_its_url() {
        let attempt = Attempt {
            url: "https://example.com/token-in-the-path".to_owned(),
            webhook_id: "msg_1".to_owned(),
            event: "job.completed".to_owned(),
            body: b"{}".to_vec(),
            secret: "hunter2".to_owned(),
            old_secrets: vec!["hunter1".to_owned()],
            timestamp_secs: 1,
        };
        let shown = format!("{attempt:?}");
        assert!(
            shown.contains("msg_1") && !shown.contains("hunter") && !shown.contains("token"),
            "{shown}"
        );
        let forged = Attempt {
            event: "a\r\nx-injected: 1".to_owned(),
            ..attempt
        };
        assert_eq!(headers(&forged).unwrap_err().class, ErrorClass::Protocol);
    }

    proptest! {
        #[test]
        fn any_retry_after_is_read_without_a_panic(value in "[ -~]{0,40}", now: i64) {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(&value).unwrap())]);
            let _ = retry_after(&headers, now);
        }

        #[test]
        fn any_answer_is_shown_without_what_would_be_obeyed(bytes in prop::collection::vec(any::<u8>(), 0..EXCERPT_BYTES)) {
            let text = printable(&bytes);
            prop_assert!(text.len() <= bytes.len() * 8);
            prop_assert!(!text.chars().any(is_obeyed));
        }
    }
}
