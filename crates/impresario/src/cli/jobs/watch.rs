//! `jobs watch`: in comes a job, out go its status and its lines as they come, and at last how it ended.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use impresario_api::{GetJob, Job, client::Client};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        input::Seconds,
        output::{OutputFlags, Screen, print_json, printable, printable_lines, remark},
        remote,
        when::Reader,
    },
    logs::{Tail, shown},
};
use crate::clock::{Clock as _, SystemClock};

/// How soon it looks again: so soon after news, and less and less often while there are none.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(2);
/// How long a server that answered once may be away before the watch is given up.
const AWAY: Duration = Duration::from_secs(60);

const JOB_FAILED: u8 = 5;
const JOB_CANCELLED: u8 = 6;

/// What hears of a job's progress.
pub(super) trait Ears: Send {
    /// A line of its log, as the server has it.
    ///
    /// # Errors
    /// Where nobody reads it any more.
    fn line(&mut self, line: Value) -> anyhow::Result<()>;
    /// It stands somewhere else than before.
    fn status(&mut self, _status: &str) {}
    /// The server cannot be asked at the moment.
    fn away(&mut self, _why: &str) {}
}

/// Watches a job to its end and prints its result.
///
/// # Errors
/// Where there is no such job, the server stays away, or `limit` has passed.
pub(in super::super) async fn watch(
    client: &Client,
    id: &str,
    limit: Option<Seconds>,
    output: OutputFlags,
) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::start();
    let answer = follow(client, &mut Tail::of(id, None), limit, &mut progress).await;
    progress.bar.finish_and_clear();
    let answer = answer?;
    let job: Job = remote::typed(answer.clone())?;
    if output.json {
        print_json(&answer)?;
    }
    let code = match job.status.as_str() {
        "completed" => {
            if !output.json {
                print_json(&job.result)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        "cancelled" => JOB_CANCELLED,
        _ => JOB_FAILED,
    };
    let class = job
        .failure_class
        .map(|class| format!(" ({class})"))
        .unwrap_or_default();
    let error = job.error.map(|error| format!(": {error}")).unwrap_or_default();
    let ended = if code == JOB_CANCELLED {
        "was cancelled"
    } else {
        "failed"
    };
    remark(&printable_lines(&format!("the job {id} {ended}{class}{error}")));
    if let Some(stack) = &job.mapped_stack {
        let _closed = writeln!(std::io::stderr(), "{}", printable_lines(stack));
    }
    Ok(ExitCode::from(code))
}

/// Hears of a job until it has ended: the job as the server shows it.
///
/// # Errors
/// Where there is no such job, the server stays away, nobody listens any more, or `limit` has passed.
pub(super) async fn follow(
    client: &Client,
    tail: &mut Tail,
    limit: Option<Seconds>,
    ears: &mut dyn Ears,
) -> anyhow::Result<Value> {
    let end = limit.map(|limit| Instant::now() + Duration::from_secs(limit.0.into()));
    let mut stands = String::new();
    let mut pause = SOONEST;
    // When it last answered; not until it has once, so that a wrong URL shows at once.
    let mut heard: Option<Instant> = None;
    loop {
        match look(client, tail, &mut stands, ears).await {
            Ok(Look::Ended(job)) => return Ok(job),
            Ok(Look::Goes { news }) => {
                heard = Some(Instant::now());
                pause = if news {
                    SOONEST
                } else {
                    (pause * 3 / 2).min(LATEST)
                };
            }
            Err(error) => match remote::passing(&error) {
                Some(wait) if heard.is_some_and(|heard| heard.elapsed() < AWAY) => {
                    ears.away(&remote::sentences(&error));
                    pause = wait.clamp(SOONEST, AWAY).max(pause);
                }
                _ => return Err(error),
            },
        }
        if let Some(end) = end {
            if Instant::now() >= end {
                bail!(
                    "the job {} is still {stands}, and goes on: it was watched no longer than --timeout",
                    tail.job
                );
            }
            pause = pause.min(end - Instant::now());
        }
        sleep(pause).await;
    }
}

enum Look {
    Goes { news: bool },
    Ended(Value),
}

async fn look(
    client: &Client,
    tail: &mut Tail,
    stands: &mut String,
    ears: &mut dyn Ears,
) -> anyhow::Result<Look> {
    let job = remote::ask_raw(client, &GetJob { id: tail.job.clone() }).await?;
    // After the job: what it wrote before it ended is in the list by then.
    let mut news = false;
    tail.drain(client, &mut |line| {
        news = true;
        ears.line(line)
    })
    .await?;
    let status = job["status"].as_str().unwrap_or_default();
    if status != stands {
        ears.status(status);
        *stands = status.to_owned();
        news = true;
    }
    Ok(match status {
        "completed" | "failed" | "cancelled" => Look::Ended(job),
        _ => Look::Goes { news },
    })
}

/// Progress for people, on stderr; with a line that moves where that is a terminal.
struct Progress {
    bar: ProgressBar,
    reader: Reader,
    away: bool,
}

impl Progress {
    fn start() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            reader: Reader::here(SystemClock.now()),
            away: false,
        }
    }

    fn say(&self, line: &str) {
        // Whoever closed stderr does not want to know.
        let _closed = self.bar.suspend(|| writeln!(std::io::stderr(), "{line}"));
    }
}

impl Ears for Progress {
    fn line(&mut self, line: Value) -> anyhow::Result<()> {
        let line = shown(&remote::typed(line)?, &self.reader, Screen::plain());
        self.say(&line);
        Ok(())
    }

    fn status(&mut self, status: &str) {
        self.away = false;
        let status = printable(status);
        self.bar.set_message(status.clone());
        let now = SystemClock.now().to_string();
        self.say(&format!("{}  {status}", self.reader.clock(&now)));
    }

    fn away(&mut self, why: &str) {
        if !self.away {
            self.say(&format!("impresario: {why}; it is asked again"));
        }
        self.away = true;
    }
}
