//! `logs/list`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;

use super::{ApiError, Fields, Flaw, auth::Tenant, ok, page, run_input};
use crate::{
    app::App,
    domain::{JobId, rfc3339},
    store::ops::logs::{self, LogFilter},
};

const LEVELS: [(&str, &str); 3] = [("info", "info"), ("warn", "warn"), ("error", "error")];

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let token = input.patch_parsed("pageToken", 1..=40, |text| {
        text.parse::<i64>()
            .map_err(|_| Flaw::new("invalid_value", "is not a nextPageToken of this list"))
    });
    let filter = LogFilter {
        job: input.optional_uuid("jobId").map(JobId),
        workflow: input.optional_string("workflow", run_input::WORKFLOW_NAME),
        level: input.optional_choice("level", &LEVELS).map(str::to_owned),
        after: token.into_option().unwrap_or(0),
    };
    let limit = page::limit(&mut input, "limit", 100, 1000);
    input.finish()?;
    let mut found = app
        .store
        .read("list_logs", move |tx| {
            logs::list(tx, tenant.0, filter.clone(), limit + 1)
        })
        .await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_page_token = found.last().filter(|_| more).map(|line| line.number.to_string());
    let logs = found
        .into_iter()
        .map(|line| wire::LogLine {
            job_id: line.job.to_string(),
            workflow: line.workflow,
            level: line.level,
            message: line.message,
            timestamp: rfc3339(line.at),
        })
        .collect();
    Ok(ok(wire::LogList {
        logs,
        next_page_token,
    }))
}
