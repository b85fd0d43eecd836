//! The commands that speak to a server: in come flags and the environment, out goes a client with its key; and in comes
//! what went wrong, out go sentences and an exit code.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use impresario_api::{
    Call, ErrorBody, ErrorCode, Issue,
    client::{CallError, Client},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::output::{Format, OutputFlags, print, print_json, printable, remark};
use crate::config;

const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// What the exit codes mean, as `impresario --help` ends with it.
pub(super) const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  it failed: no server there, a key that it does not take, a fault of the server's\n  \
    2  wrong usage; of `schedules plan`: there are differences\n  \
    3  there is no such thing\n  \
    4  the server refused it: wrong input, not in this state, not allowed, too often\n  \
    5  the job that was watched failed\n  \
    6  the job that was watched was cancelled";

const FAILED: u8 = 1;
/// Typed wrongly: clap's own.
pub(super) const USAGE: u8 = 2;
const NO_SUCH: u8 = 3;
const REFUSED: u8 = 4;

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerFlags {
    /// Where the server is, also as IMPRESARIO_URL or LIBRETTO_API_URL [default: http://127.0.0.1:8080]; the key is taken
    /// from LIBRETTO_API_KEY
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// An error of the command line itself that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// What was typed cannot be meant; code 2.
    #[error("{0}")]
    Usage(String),
    /// A name that nothing has; code 3.
    #[error("{0}")]
    NoSuch(String),
}

/// A client of the server that the flags or the environment name.
///
/// # Errors
/// Where there is no key, or the URL or the key cannot be one.
pub(super) fn client(flags: &ServerFlags) -> anyhow::Result<Client> {
    let variables = ["IMPRESARIO_URL", "LIBRETTO_API_URL"];
    let url = flags
        .url
        .clone()
        .or_else(|| variables.into_iter().find_map(config::variable));
    let key = config::variable("LIBRETTO_API_KEY").context(
        "LIBRETTO_API_KEY is not set: it takes the tenant's API key, which `impresario api-key create` makes",
    )?;
    Ok(Client::new(
        url.as_deref().unwrap_or(DEFAULT_URL),
        &key.trim().to_owned().into(),
    )?)
}

/// Makes a call.
///
/// # Errors
/// What the server or the network said, with a hint where the key is what is wrong.
pub(super) async fn ask<C: Call>(client: &Client, call: &C) -> anyhow::Result<C::Answer> {
    client.call(call).await.map_err(hinted)
}

/// Makes a call: the answer as it came, with the fields that this version does not know.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_raw<C: Call>(client: &Client, call: &C) -> anyhow::Result<Value> {
    ask_any(client, C::ROUTE, &serde_json::to_value(call)?).await
}

/// Posts any input to a route.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_any(client: &Client, route: &str, input: &Value) -> anyhow::Result<Value> {
    client.send(route, input).await.map_err(hinted)
}

/// Makes a call and prints its answer: as it came for `--json`, else what `text` makes of it.
///
/// # Errors
/// As [`ask`], and where nobody reads stdout any more.
pub(super) async fn show<C: Call>(
    client: &Client,
    call: &C,
    output: OutputFlags,
    text: impl FnOnce(C::Answer) -> String,
) -> anyhow::Result<()> {
    show_value(ask_raw(client, call).await?, output, text)
}

/// Prints an answer: as it came for `--json`, else what `text` makes of it.
///
/// # Errors
/// Where it is no such answer, and where nobody reads stdout any more.
pub(super) fn show_value<A: DeserializeOwned>(
    answer: Value,
    output: OutputFlags,
    text: impl FnOnce(A) -> String,
) -> anyhow::Result<()> {
    match output.format() {
        Format::Json => print_json(&answer)?,
        Format::Table => print(&text(typed(answer)?))?,
    }
    Ok(())
}

/// Prints what was done: as it came for `--json`, else the server's sentence as a remark.
///
/// # Errors
/// Where nobody reads stdout any more.
pub(super) fn done(answer: &Value, output: OutputFlags) -> anyhow::Result<()> {
    if output.json {
        print_json(answer)?;
    } else if let Some(message) = answer["message"].as_str() {
        remark(&printable(message));
    }
    Ok(())
}

/// An answer of the type that this version knows.
///
/// # Errors
/// Where it lacks something.
pub(super) fn typed<A: DeserializeOwned>(answer: Value) -> anyhow::Result<A> {
    serde_json::from_value(answer)
        .context("the server's answer is not what this version expects; --json shows it as it is")
}

fn hinted(error: CallError) -> anyhow::Error {
    let refused = matches!(&error, CallError::Refused { body, .. } if body.code == ErrorCode::Unauthorized);
    let error = anyhow::Error::new(error);
    if refused {
        error.context("the server does not take the key in LIBRETTO_API_KEY")
    } else {
        error
    }
}

/// How long to wait before the same may go through, where it is a trouble that passes by itself.
pub(super) fn passing(error: &anyhow::Error) -> Option<Duration> {
    error.chain().find_map(|cause| match cause.downcast_ref()? {
        CallError::NoAnswer { .. } => Some(Duration::ZERO),
        CallError::Refused {
            body, retry_after, ..
        } if matches!(
            body.code,
            ErrorCode::TooManyRequests | ErrorCode::ServiceUnavailable
        ) =>
        {
            Some(Duration::from_secs(retry_after.unwrap_or(0)))
        }
        _ => None,
    })
}

/// How many rows of a list are wanted.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct PageFlags {
    /// How many [default: as many as one page of the server has]
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: Option<u32>,
    /// All of them
    #[arg(long)]
    pub(super) all: bool,
}

/// How a route gives a list page by page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paging {
    /// What the list is called in the answer.
    pub(super) list: &'static str,
    /// How many one page has at most.
    pub(super) most: u32,
    /// What the place is called in the input and in the answer.
    pub(super) place: (&'static str, &'static str),
}

impl Paging {
    /// A list with `cursor` and `next_cursor`.
    pub(super) const fn of(list: &'static str, most: u32) -> Self {
        Self {
            list,
            most,
            place: ("cursor", "next_cursor"),
        }
    }
}

/// Asks for as many pages as the flags want: one answer of the route's shape, with all their rows.
///
/// # Errors
/// As [`ask`].
pub(super) async fn rows<C: Call>(
    client: &Client,
    call: &C,
    paging: Paging,
    flags: PageFlags,
) -> anyhow::Result<Value> {
    let mut input = serde_json::to_value(call)?;
    let (place, next) = paging.place;
    let mut rows = Vec::new();
    loop {
        if flags.all {
            input["limit"] = paging.most.into();
        } else if let Some(limit) = flags.limit {
            let missing = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            input["limit"] = missing.min(paging.most).into();
        }
        let mut answer = ask_any(client, C::ROUTE, &input).await?;
        let Some(Value::Array(page)) = answer.get_mut(paging.list) else {
            anyhow::bail!(
                "the server's answer to {} has no list {:?}",
                C::ROUTE,
                paging.list
            );
        };
        rows.append(page);
        let enough = flags
            .limit
            .map_or(!flags.all, |limit| rows.len() >= limit as usize);
        if enough || answer[next].is_null() {
            answer[paging.list] = rows.into();
            return Ok(answer);
        }
        if input[place] == answer[next] {
            anyhow::bail!(
                "the server's answer to {} leads to the same page again and again",
                C::ROUTE
            );
        }
        input[place] = answer[next].take();
    }
}

/// As [`rows`], for somebody who looks at them: says where there are more.
///
/// # Errors
/// As [`ask`].
pub(super) async fn pages<C: Call>(
    client: &Client,
    call: &C,
    paging: Paging,
    flags: PageFlags,
) -> anyhow::Result<Value> {
    let answer = rows(client, call, paging, flags).await?;
    if !answer[paging.place.1].is_null() {
        remark("there are more; --all shows all of them");
    }
    Ok(answer)
}

/// The exit code of an error; see [`EXIT_CODES`].
pub(super) fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(error))
}

fn number(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return match stop {
                Stop::Usage(_) => USAGE,
                Stop::NoSuch(_) => NO_SUCH,
            };
        }
        let Some(CallError::Refused { body, .. }) = cause.downcast_ref() else {
            continue;
        };
        return match body.code {
            ErrorCode::NotFound => NO_SUCH,
            ErrorCode::BadRequest
            | ErrorCode::Conflict
            | ErrorCode::Forbidden
            | ErrorCode::PayloadTooLarge
            | ErrorCode::TooManyRequests => REFUSED,
            _ => FAILED,
        };
    }
    FAILED
}

/// An error for people: what the server refused in its own sentences, one a line where there are several; the rest with
/// its causes on one line. Nothing of it moves the cursor.
pub(super) fn sentences(error: &anyhow::Error) -> String {
    let mut before = Vec::new();
    for cause in error.chain() {
        if let Some(CallError::Refused {
            body, retry_after, ..
        }) = cause.downcast_ref()
        {
            before.push(refusal(body, *retry_after));
            return before.join(": ");
        }
        before.push(lines(&cause.to_string()));
    }
    before.join(": ")
}

fn refusal(body: &ErrorBody, retry_after: Option<u64>) -> String {
    let issues: &[Issue] = body.data.as_ref().map_or(&[], |data| &data.issues);
    let mut text = match issues {
        [] | [_] => printable(&body.message),
        issues => {
            let mut text = format!("{} things are wrong with this:", issues.len());
            for issue in issues {
                text += &format!("\n  {}", printable(&issue.message));
            }
            text
        }
    };
    if let Some(seconds) = retry_after {
        text += &format!(" (try again in {seconds} s)");
    }
    text
}

/// Our own errors may have several lines.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use impresario_api::ErrorData;

    use super::*;

    fn refused(code: ErrorCode, issues: &[&str]) -> anyhow::Error {
        let issues = issues.iter().map(|message| Issue {
            code: "custom".to_owned(),
            message: (*message).to_owned(),
            path: Vec::new(),
        });
        hinted(CallError::Refused {
            route: "a/b".to_owned(),
            body: Box::new(ErrorBody {
                defined: false,
                code,
                status: code.status(),
                message: "the \u{1b}[2Jreason".to_owned(),
                data: Some(ErrorData {
                    issues: issues.collect(),
                }),
            }),
            retry_after: (code == ErrorCode::TooManyRequests).then_some(7),
        })
    }

    #[test]
    fn each_kind_of_failure_has_its_code() {
        for (error, expected) in [
            (refused(ErrorCode::NotFound, &[]), 3),
            (refused(ErrorCode::BadRequest, &[]), 4),
            (refused(ErrorCode::Conflict, &[]), 4),
            (refused(ErrorCode::Forbidden, &[]), 4),
            (refused(ErrorCode::TooManyRequests, &[]), 4),
            (refused(ErrorCode::PayloadTooLarge, &[]), 4),
            (refused(ErrorCode::Unauthorized, &[]), 1),
            (refused(ErrorCode::InternalServerError, &[]), 1),
            (refused(ErrorCode::ServiceUnavailable, &[]), 1),
            (refused(ErrorCode::NotFound, &[]).context("more"), 3),
            (Stop::NoSuch("x".to_owned()).into(), 3),
            (Stop::Usage("x".to_owned()).into(), 2),
            (anyhow::anyhow!("x"), 1),
        ] {
            assert_eq!(number(&error), expected, "{error:#}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        for (error, expected) in [
            (refused(ErrorCode::BadRequest, &["one"]), "the \\u{1b}[2Jreason"),
            (
                refused(ErrorCode::BadRequest, &["one", "two\r"]),
                "2 things are wrong with this:\n  one\n  two\\u{d}",
            ),
            (
                refused(ErrorCode::TooManyRequests, &[]),
                "the \\u{1b}[2Jreason (try again in 7 s)",
            ),
            (
                refused(ErrorCode::Unauthorized, &[]),
                "the server does not take the key in LIBRETTO_API_KEY: the \\u{1b}[2Jreason",
            ),
            (anyhow::anyhow!("why\r\nso").context("what"), "what: why\nso"),
        ] {
            assert_eq!(sentences(&error), expected);
        }
    }
}
