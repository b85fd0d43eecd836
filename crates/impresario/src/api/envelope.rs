//! The wrapper around every input and every answer: `{"json": …}`.
//!
//! What comes in: a request whose headers have arrived. What goes out: the object under `json`, or the error that says
//! why there is none; and the other way round, an answer's value in its wrapper. The body is read here, within a size
//! and a time, so a handler that asks for its key first never reads a stranger's body.

use std::{fmt, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use impresario_api::{Envelope, Issue};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ApiError, Fields, json, values};

const MIB: usize = 1024 * 1024;
/// The largest body that is read where it arrives: a few milliseconds' work.
const READ_AT_ONCE: usize = MIB;
/// How much of a body that is too large is read and thrown away, and for how long. A client that is still sending when
/// the connection closes would see a broken pipe instead of the answer.
const DISCARDED: usize = 32 * MIB;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// How large a route's body may be, and how long it may take to arrive. As an extension of one route it replaces the
/// default: `post(create).layer(Extension(BodyLimit::of(settings.max_bundle_bytes)))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit {
    /// The largest body taken.
    pub bytes: usize,
    /// From the end of the headers to the end of the body.
    pub time: Duration,
}

impl Default for BodyLimit {
    /// 1 MiB in 30 seconds.
    fn default() -> Self {
        Self {
            bytes: MIB,
            time: Duration::from_secs(30),
        }
    }
}

impl BodyLimit {
    /// So many bytes, with time to send them at 256 KiB a second on top of the default.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        let extra = u64::try_from(bytes / (MIB / 4)).unwrap_or(u64::MAX);
        Self {
            bytes,
            time: Self::default().time.saturating_add(Duration::from_secs(extra)),
        }
    }
}

/// The input object of a request: what stands under `json`, empty where there is none.
#[derive(Clone, PartialEq)]
pub struct Input(pub Map<String, Value>);

/// The input object of the few routes that have no envelope (`/api/auth/…`): the body itself.
#[derive(Clone, PartialEq)]
pub struct PlainInput(pub Map<String, Value>);

impl fmt::Debug for Input {
    /// With the names alone: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Input").field(&self.0.keys()).finish()
    }
}

impl fmt::Debug for PlainInput {
    /// With the names alone: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainInput").field(&self.0.keys()).finish()
    }
}

impl<S: Send + Sync> FromRequest<S> for Input {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_value(read_body(request).await?, unwrap_envelope)
            .await
            .map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for PlainInput {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        match read_value(read_body(request).await?, parse).await? {
            Value::Null => Ok(Self(Map::new())),
            Value::Object(object) => Ok(Self(object)),
            other => Err(not_an_object("the body", &other)),
        }
    }
}

/// The usual way: a handler takes `mut input: Fields` as its last argument.
impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Input::from_request(request, state)
            .await
            .map(|Input(object)| Self::new(object))
    }
}

/// 200 with `{"json": value}`.
pub fn ok(value: impl Serialize) -> Response {
    match serde_json::to_vec(&Envelope { json: value }) {
        // The official client reads fields of the answer without a look at it: null would crash it.
        Ok(bytes) if bytes == b"{\"json\":null}" => {
            ApiError::internal(anyhow::anyhow!("a handler answered null")).into_response()
        }
        Ok(bytes) => json_response(StatusCode::OK, bytes),
        Err(e) => ApiError::internal(e).into_response(),
    }
}

/// `value` without the envelope, for the routes that have none.
pub fn plain(status: StatusCode, value: impl Serialize) -> Response {
    match serde_json::to_vec(&value) {
        Ok(bytes) => json_response(status, bytes),
        Err(e) => ApiError::internal(e).into_response(),
    }
}

/// An answer of JSON text.
pub(super) fn json_response(status: StatusCode, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The whole body, within the route's limit. A body of blanks counts as none; any other must be `application/json`.
async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let limit = request
        .extensions()
        .get::<BodyLimit>()
        .copied()
        .unwrap_or_default();
    let (parts, body) = request.into_parts();
    let read = collect(body, limit.bytes, &parts.headers);
    let bytes = tokio::time::timeout(limit.time, read).await.map_err(|_| {
        ApiError::timeout(format!(
            "the body did not arrive within {} seconds",
            limit.time.as_secs()
        ))
    })??;
    if !bytes.trim_ascii().is_empty() {
        check_type(&parts.headers)?;
    }
    Ok(bytes)
}

async fn collect(mut body: Body, limit: usize, headers: &HeaderMap) -> Result<Bytes, ApiError> {
    let too_large = || {
        let takes = if limit.is_multiple_of(MIB) {
            format!("{} MiB", limit / MIB)
        } else {
            format!("{limit} bytes")
        };
        ApiError::payload_too_large(format!("the body is larger than the {takes} this route takes"))
    };
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        // A client that waits for "100 Continue" has sent nothing yet, and reading would ask it to.
        if !headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::bad_request(format!("the body ended early: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            drop(bytes);
            discard(body).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Reads a body that nobody wants, a while.
async fn discard(mut body: Body) {
    let read = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                return;
            };
            left = rest;
        }
    };
    // Out of time is as good as read: the answer goes out either way.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()))
    };
    if let Some(encoding) = text(header::CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        let got = values::quoted(&encoding);
        return Err(ApiError::unsupported_media_type(format!(
            "content-encoding {got} is not taken; send plain JSON"
        )));
    }
    let Some(given) = text(header::CONTENT_TYPE) else {
        return Err(ApiError::unsupported_media_type(
            "the body has no content-type; it must be application/json",
        ));
    };
    let mut parts = given.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
            let charset = charset.trim().trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    });
    if json && utf8 {
        return Ok(());
    }
    let got = values::quoted(&given);
    Err(ApiError::unsupported_media_type(format!(
        "content-type must be application/json in UTF-8, got {got}"
    )))
}

/// Reads a body with `read`. A large one takes a while, for which the thread must not keep others waiting.
async fn read_value<T: Send + 'static>(
    bytes: Bytes,
    read: fn(&[u8]) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    if bytes.len() <= READ_AT_ONCE {
        return read(&bytes);
    }
    tokio::task::spawn_blocking(move || read(&bytes))
        .await
        .map_err(ApiError::internal)?
}

/// The value of a body; `null` where it is empty.
fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    json::parse(bytes).map_err(ApiError::bad_request)
}

/// What stands under `json`. `meta`, by which some clients describe types that JSON lacks, is passed over: no input of
/// this API has such a type.
fn unwrap_envelope(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let mut top = match parse(bytes)? {
        Value::Null => return Ok(Map::new()),
        Value::Object(top) => top,
        other => return Err(not_an_object("the body", &other)),
    };
    let inner = top.shift_remove("json");
    top.shift_remove("meta");
    if let Some(key) = top.keys().next() {
        let key = values::quoted(key);
        return Err(issue(
            "unrecognized_keys",
            format!(
                "unrecognized key {key} beside \"json\": the whole input goes inside, as {{\"json\": {{…}}}}"
            ),
        ));
    }
    match inner {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(other) => Err(not_an_object("the input under \"json\"", &other)),
    }
}

fn not_an_object(what: &str, value: &Value) -> ApiError {
    issue(
        "invalid_type",
        format!("{what} must be an object, got {}", values::shown(value)),
    )
}

fn issue(code: &str, message: String) -> ApiError {
    ApiError::invalid(vec![Issue {
        code: code.to_owned(),
        message,
        path: Vec::new(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_ways_to_say_nothing() {
        for text in [
            "",
            "  \r\n",
            "{}",
            r#"{"json":{}}"#,
            r#"{"json":null}"#,
            r#"{"json":null,"meta":[[0]]}"#,
            "null",
        ] {
            assert_eq!(unwrap_envelope(text.as_bytes()).unwrap(), Map::new(), "{text}");
        }
        let object = unwrap_envelope(br#"{"json":{"a":1},"meta":[]}"#).unwrap();
        assert_eq!(Value::Object(object), json!({"a": 1}));
    }

    #[test]
    fn what_is_no_envelope() {
        for (text, message) in [
            ("5", "the body must be an object, got 5"),
            ("[]", "the body must be an object, got a list"),
            (
                r#"{"json":5}"#,
                "the input under \"json\" must be an object, got 5",
            ),
            (
                r#"{"json":[]}"#,
                "the input under \"json\" must be an object, got a list",
            ),
            (
                r#"{"workflow":"x"}"#,
                "unrecognized key \"workflow\" beside \"json\"",
            ),
        ] {
            let error = unwrap_envelope(text.as_bytes()).unwrap_err();
            assert_eq!(error.issues().len(), 1);
            assert!(error.to_string().starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn content_types() {
        let check = |name: header::HeaderName, value: &'static str| {
            let mut headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
            headers.insert(name, HeaderValue::from_static(value));
            check_type(&headers).is_ok()
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(check(header::CONTENT_TYPE, good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "text/json",
            "application/jsonx",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!check(header::CONTENT_TYPE, bad), "{bad}");
        }
        assert!(check(header::CONTENT_ENCODING, "identity"));
        assert!(!check(header::CONTENT_ENCODING, "gzip"));
        assert!(check_type(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_large_body_is_read_on_another_thread() {
        let here = std::thread::current().id();
        let reader = |length: usize| {
            read_value(Bytes::from(vec![b' '; length]), |_| {
                Ok(std::thread::current().id())
            })
        };
        assert_eq!(reader(READ_AT_ONCE).await.unwrap(), here);
        assert_ne!(reader(READ_AT_ONCE + 1).await.unwrap(), here);
        // And what it says comes back.
        let text = format!(r#"{{"json":{{"source":"{}"}}}}"#, "x".repeat(2 * MIB));
        let object = read_value(text.into(), unwrap_envelope).await.unwrap();
        assert_eq!(object["source"].as_str().map(str::len), Some(2 * MIB));
        let error = read_value(vec![b'['; 2 * MIB].into(), parse).await.unwrap_err();
        assert!(error.to_string().contains("100 levels"), "{error}");
    }

    #[tokio::test]
    async fn null_is_never_answered() {
        assert_eq!(ok(()).status(), 500);
        assert_eq!(ok(json!({"a": 1})).status(), 200);
    }

    #[test]
    fn a_large_limit_leaves_time_to_send() {
        assert_eq!(BodyLimit::of(100 * MIB).time, Duration::from_secs(430));
    }
}
