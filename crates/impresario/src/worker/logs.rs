//! A run's log lines on their way to the store: written in batches, so that a chatty workflow costs few commits.

use crate::{
    app::App,
    domain::Job,
    runner::LogRecord,
    store::ops::logs::{self, NewLogLine},
};

/// A batch is written when it has this many lines, or when [`FLUSH_AFTER`](super::run::FLUSH_AFTER) has passed.
const BATCH: usize = 200;

/// Lines that are not written yet.
#[derive(Debug, Default)]
pub(super) struct LogBuffer {
    lines: Vec<NewLogLine>,
}

impl LogBuffer {
    /// Adds a line and writes the batch if it is full.
    pub(super) async fn push(&mut self, app: &App, (job, token): (&Job, &str), record: LogRecord) {
        self.lines.push(NewLogLine {
            level: record.level.as_str(),
            message: record.message,
            at: record.at,
        });
        if self.lines.len() >= BATCH {
            self.flush(app, (job, token)).await;
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Writes what there is. Lines that the store refuses are lost, and that is said in the server's own log: a run
    /// is not failed for its log.
    pub(super) async fn flush(&mut self, app: &App, (job, token): (&Job, &str)) {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return;
        }
        let (tenant, id, count, token) = (job.tenant, job.id, lines.len(), token.to_owned());
        let written = app
            .store
            .write_now("append_logs", move |tx| {
                logs::append(tx, tenant, (id, &token), lines.clone())
            })
            .await;
        match written {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(job = %id, lines = count, "the job is not held any more; what it still says is dropped");
            }
            Err(error) => {
                tracing::error!(job = %id, lines = count, %error, cause = ?error, "log lines of a run could not be stored");
            }
        }
    }
}
