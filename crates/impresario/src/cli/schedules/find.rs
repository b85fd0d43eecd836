//! Which schedule is meant: in comes a name or an id, out goes the schedule.

use impresario_api::{GetSchedule, ListSchedules, Schedule, ScheduleList, client::Client};
use uuid::Uuid;

use super::super::remote::{self, PageFlags, Paging, Stop};
use crate::spelling::nearest;

pub(super) const PAGING: Paging = Paging::of("schedules", 200);
/// How many names are looked through for one that was meant.
const LOOKED_THROUGH: u32 = 1000;

/// The id of the schedule that is called so. A UUID is an id, and is not looked up.
///
/// # Errors
/// Where no schedule has the name, with one that was perhaps meant.
pub(in super::super) async fn id(client: &Client, text: &str) -> anyhow::Result<String> {
    match text.parse::<Uuid>() {
        Ok(id) => Ok(id.as_hyphenated().to_string()),
        Err(_) => Ok(named(client, text).await?.id),
    }
}

/// The schedule of this name or id.
///
/// # Errors
/// Where there is none.
pub(super) async fn schedule(client: &Client, text: &str) -> anyhow::Result<Schedule> {
    match text.parse::<Uuid>() {
        Ok(id) => {
            let call = GetSchedule { id: id.to_string() };
            Ok(remote::ask(client, &call).await?.schedule)
        }
        Err(_) => named(client, text).await,
    }
}

async fn named(client: &Client, name: &str) -> anyhow::Result<Schedule> {
    let call = ListSchedules {
        name: Some(name.to_owned()),
        ..ListSchedules::default()
    };
    match remote::ask(client, &call).await?.schedules.pop() {
        Some(found) => Ok(found),
        None => Err(Stop::NoSuch(unknown(client, name).await?).into()),
    }
}

async fn unknown(client: &Client, name: &str) -> anyhow::Result<String> {
    let some = PageFlags {
        limit: Some(LOOKED_THROUGH),
        all: false,
    };
    let all = remote::rows(client, &ListSchedules::default(), PAGING, some).await?;
    let all: ScheduleList = remote::typed(all)?;
    let names: Vec<&str> = all
        .schedules
        .iter()
        .filter_map(|one| one.name.as_deref())
        .collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "`impresario schedules list` shows those that there are".to_owned(),
    };
    Ok(format!("there is no schedule named {name:?}; {hint}"))
}
