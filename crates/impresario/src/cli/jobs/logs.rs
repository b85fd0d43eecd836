//! `jobs logs`: in comes a job, out go its lines, on request as they come.

use clap::ValueEnum;
use impresario_api::{GetJob, ListLogs, LogLine, client::Client};
use serde_json::{Value, json};

use super::{
    super::{
        output::{Cell, OutputFlags, Screen, print_json, printable_lines},
        remote, say,
        when::Reader,
    },
    watch::{Ears, follow},
};
use crate::clock::{Clock as _, SystemClock};

/// How many lines one page has: the most that the server gives.
const PAGE: u32 = 1000;

/// The levels of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

pub(super) async fn logs(
    client: &Client,
    job: &str,
    level: Option<Level>,
    to_the_end: bool,
    output: OutputFlags,
) -> anyhow::Result<()> {
    // Of a job that is not there the list would be empty.
    remote::ask(client, &GetJob { id: job.to_owned() }).await?;
    let mut tail = Tail::of(job, level);
    let reader = Reader::here(SystemClock.now());
    let screen = Screen::of_stdout();
    if to_the_end {
        follow(
            client,
            &mut tail,
            None,
            &mut Reading {
                reader,
                screen,
                output,
            },
        )
        .await?;
    } else if output.json {
        let mut lines = Vec::new();
        tail.drain(client, &mut |line| {
            lines.push(line);
            Ok(())
        })
        .await?;
        print_json(&json!({"logs": lines, "nextPageToken": null}))?;
    } else {
        tail.drain(client, &mut |line| {
            Ok(say(&shown(&remote::typed(line)?, &reader, screen))?)
        })
        .await?;
    }
    Ok(())
}

/// A line for people: when, how much it matters, what it says.
pub(super) fn shown(line: &LogLine, reader: &Reader, screen: Screen) -> String {
    let level = Cell::status(&line.level).shown_for(screen);
    let fill = 5_usize.saturating_sub(line.level.len());
    format!(
        "{}  {level}{:fill$}  {}",
        reader.clock(&line.timestamp),
        "",
        printable_lines(&line.message).replace('\n', "\n                     ")
    )
}

/// Somebody who reads the lines and nothing else.
struct Reading {
    reader: Reader,
    screen: Screen,
    output: OutputFlags,
}

impl Ears for Reading {
    fn line(&mut self, line: Value) -> anyhow::Result<()> {
        if self.output.json {
            Ok(say(&line.to_string())?)
        } else {
            Ok(say(&shown(&remote::typed(line)?, &self.reader, self.screen))?)
        }
    }
}

/// A place in the log of a job.
///
/// The last page has no token of what comes after it, so that page is asked for again, and what was seen of it is left out:
/// lines are only ever added at the end.
pub(super) struct Tail {
    pub(super) job: String,
    level: Option<Level>,
    page: Option<String>,
    seen: usize,
}

impl Tail {
    /// The beginning of a job's log.
    pub(super) fn of(job: &str, level: Option<Level>) -> Self {
        Self {
            job: job.to_owned(),
            level,
            page: None,
            seen: 0,
        }
    }

    /// Hands over all lines that are there and were not handed over before. After an error it goes on where it stopped.
    pub(super) async fn drain(
        &mut self,
        client: &Client,
        take: &mut (dyn FnMut(Value) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<()> {
        loop {
            let call = ListLogs {
                job_id: Some(self.job.clone()),
                level: self.level.map(|level| level.as_str().to_owned()),
                page_token: self.page.clone(),
                limit: Some(PAGE),
                workflow: None,
            };
            let mut answer = remote::ask_raw(client, &call).await?;
            let Value::Array(lines) = answer["logs"].take() else {
                anyhow::bail!("the server's answer to logs/list has no list \"logs\"");
            };
            for line in lines.into_iter().skip(self.seen) {
                self.seen += 1;
                take(line)?;
            }
            match answer["nextPageToken"].as_str() {
                Some(token) => (self.page, self.seen) = (Some(token.to_owned()), 0),
                None => return Ok(()),
            }
        }
    }
}
