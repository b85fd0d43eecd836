//! Who hears of what happens: the stored webhooks that have subscribed to it.

use super::{
    Moment,
    deliveries::{self, About},
};
use crate::domain::{Receiver, Schedule, ScheduleEvent, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

/// The active stored webhooks of a tenant that hear of `event`. One that cannot be read hears nothing, and costs nobody
/// else the news, nor a job its end.
pub(super) fn subscribers(tx: &mut Tx<'_>, tenant: TenantId, event: &str) -> Result<Vec<Receiver>> {
    let sql = "SELECT id, url, secret_id, events FROM webhook_endpoints
               WHERE tenant_id = $1 AND active = 1 ORDER BY created_at, id";
    let all = tx.query(sql, params![tenant], |row| Ok(subscriber(row)))?;
    let mut hearing = Vec::new();
    for one in all {
        match one {
            Ok((events, receiver)) if events.iter().any(|subscribed| subscribed == event) => {
                hearing.push(receiver);
            }
            Ok(_) => {}
            Err(error) if error.is_of_the_row() => {
                tracing::error!(%tenant, %event, %error, "a webhook endpoint cannot be read: it hears nothing");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(hearing)
}

/// What it hears of, and where it is.
fn subscriber(row: &Row<'_>) -> Result<(Vec<String>, Receiver)> {
    let receiver = Receiver {
        endpoint: Some(row.get("id")?),
        url: row.get("url")?,
        secret: row.get("secret_id")?,
    };
    Ok((row.get::<Json<_>>("events")?.0, receiver))
}

/// Tells of something that happened to a schedule. It goes to stored webhooks that have asked for it, whether or not
/// the schedule's jobs have a receiver of their own: that one was made for results.
pub(super) fn tell(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    event: &ScheduleEvent,
    moment: &Moment<'_>,
) -> Result<()> {
    if schedule.draft.skip_callbacks {
        return Ok(());
    }
    let about = About {
        tenant: schedule.tenant,
        job: None,
        schedule: Some(schedule.id),
    };
    let body = event.body(schedule, moment.now);
    for receiver in subscribers(tx, schedule.tenant, event.name())? {
        deliveries::enqueue(tx, about, receiver, (event.name(), &body), moment)?;
    }
    Ok(())
}
