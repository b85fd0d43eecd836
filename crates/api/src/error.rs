//! The one shape of every error answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of error the API answers with; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// 400: the input is not what the route takes; `data.issues` says where.
    BadRequest,
    /// 401: no key, or one that is malformed, unknown, expired or revoked.
    Unauthorized,
    /// 403: the key may not do this, or a quota is used up.
    Forbidden,
    /// 404: no such route, or no such object for this tenant.
    NotFound,
    /// 405: the route exists, but not for this HTTP method.
    MethodNotSupported,
    /// 408: the request did not arrive in time.
    Timeout,
    /// 409: the object is in a state that does not allow this.
    Conflict,
    /// 413: the body is larger than the route takes.
    PayloadTooLarge,
    /// 415: the body is not `application/json`.
    UnsupportedMediaType,
    /// 429: too many requests, or too many jobs in the queue; the header `Retry-After` says when to come back.
    TooManyRequests,
    /// 500: a fault of the server's own; it is in the server's log under the request id.
    InternalServerError,
    /// 503: the server cannot serve this now.
    ServiceUnavailable,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotSupported => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// One step on the way to the field an issue speaks of: a key of an object or an index of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathSegment {
    /// An index of a list, from 0.
    Index(usize),
    /// A key of an object.
    Key(String),
}

/// One thing that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Issue {
    /// The machine-readable kind, e.g. `invalid_type`, `too_big`, `unrecognized_keys`.
    #[schemars(example = &"invalid_type")]
    pub code: String,
    /// A sentence that names the value and what is allowed.
    #[schemars(example = &"cron_expr: hour \"25\" is out of range (0-23)")]
    pub message: String,
    /// Where: the keys and indexes from the input's root.
    #[schemars(example = ["cron_expr"])]
    pub path: Vec<PathSegment>,
}

/// What an error carries besides its message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// All that is wrong with the input, at once.
    pub issues: Vec<Issue>,
}

/// The body of every error answer (inside the envelope).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Always `false`: kept for clients that read it.
    #[schemars(extend("const" = false))]
    pub defined: bool,
    /// The kind of error.
    pub code: ErrorCode,
    /// The HTTP status, again.
    #[schemars(range(min = 400, max = 599), example = 400)]
    pub status: u16,
    /// A sentence a person can act on.
    #[schemars(example = &"cron_expr: hour \"25\" is out of range (0-23)")]
    pub message: String,
    /// Details, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}
