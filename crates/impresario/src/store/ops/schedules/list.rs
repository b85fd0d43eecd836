//! Lists of schedules.

use jiff::Timestamp;

use super::{COLUMNS, read};
use crate::domain::{Schedule, ScheduleId, TenantId};
use crate::store::{Dialect, PageCursor, error::Result, ops::query::Query, tx::Tx};

/// What a list of schedules is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    /// Only enabled or only disabled ones.
    pub enabled: Option<bool>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only the one of this name.
    pub name: Option<String>,
    /// Only those that carry this tag.
    pub tag: Option<String>,
    /// Only those whose params fit their workflow, or only those whose params do not, as far as they were checked.
    pub params_valid: Option<bool>,
    /// Only what comes after this row.
    pub after: Option<PageCursor>,
}

const ORDER: &str = "ORDER BY created_at DESC, id DESC LIMIT ?";

fn query(dialect: Dialect, tenant: TenantId, filter: ScheduleFilter) -> Query {
    // Those that do not fit are few, which the planner does not know. A name is rarer still.
    let index = match (filter.params_valid, &filter.name) {
        (Some(false), None) => dialect.by_index("schedules_unfit"),
        _ => String::new(),
    };
    let sql = format!("SELECT {COLUMNS} FROM schedules {index} WHERE tenant_id = ?");
    let params_valid = |valid: bool| match valid {
        true => "params_error IS NULL",
        false => "params_error IS NOT NULL",
    };
    let mut query = Query::new(&sql, [tenant.into()])
        .and("enabled = ?", filter.enabled.map(|enabled| [enabled.into()]))
        .and("workflow = ?", filter.workflow.map(|name| [name.into()]))
        .and("name = ?", filter.name.map(|name| [name.into()]))
        .and(
            &format!(
                "EXISTS (SELECT 1 FROM {} WHERE item.value = ?)",
                dialect.texts_of("tags")
            ),
            filter.tag.map(|tag| [tag.into()]),
        );
    if let Some(valid) = filter.params_valid {
        query = query.and(params_valid(valid), Some([]));
    }
    query.after("(created_at, id) < (?, ?)", filter.after)
}

/// A row of a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its place in the list.
    pub created_at: Timestamp,
    /// Its place in the list.
    pub id: ScheduleId,
    /// The schedule; `None` where its row is damaged. One of them does not spoil the list of the others.
    pub schedule: Option<Box<Schedule>>,
}

/// The newest schedules of a tenant, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: ScheduleFilter, limit: u32) -> Result<Vec<Listed>> {
    query(tx.dialect(), tenant, filter).run(tx, (ORDER, [limit.into()]), |row| {
        let id: ScheduleId = row.get("id")?;
        let schedule = match read(row) {
            Ok(schedule) => Some(Box::new(schedule)),
            Err(error) => {
                tracing::error!(schedule = %id, %error, "a schedule is left out of a list: its row is damaged");
                None
            }
        };
        Ok(Listed {
            created_at: row.get("created_at")?,
            id,
            schedule,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::Db;

    #[test]
    fn the_usual_filters_have_an_index_that_is_in_the_list_s_order() {
        let db = Db::embedded();
        let plain = ScheduleFilter::default;
        for (filter, index) in [
            (plain(), "schedules_by_tenant (tenant_id=?)"),
            (
                ScheduleFilter {
                    workflow: Some("w".to_owned()),
                    ..plain()
                },
                "schedules_by_workflow (tenant_id=? AND workflow=?)",
            ),
            (
                ScheduleFilter {
                    name: Some("n".to_owned()),
                    ..plain()
                },
                "schedules_by_name (tenant_id=? AND name=?)",
            ),
            (
                ScheduleFilter {
                    params_valid: Some(false),
                    ..plain()
                },
                "schedules_unfit (tenant_id=?)",
            ),
        ] {
            let name = format!("{filter:?}");
            let plan = db.run(|tx| query(tx.dialect(), db.id(), filter).plan(tx, (ORDER, [20_u32.into()])));
            assert!(
                plan.contains(&format!("SEARCH schedules USING INDEX {index}")),
                "{name}: {plan}"
            );
        }
    }

    #[test]
    fn a_damaged_row_spoils_neither_the_list_nor_its_own_end() {
        let (db, ids) = (Db::new(), crate::ids::Ids::seeded(1));
        let tenant = db.tenant();
        let all: [ScheduleId; 3] = [db.id(), db.id(), db.id()];
        for id in all {
            let draft = crate::domain::ScheduleDraft::plain("w", "* * * * *");
            db.run(|tx| super::super::create(tx, (tenant, id), (draft, None), None, Timestamp::UNIX_EPOCH));
        }
        db.sql(
            "UPDATE schedules SET params = '{bad' WHERE id = $1",
            crate::store::tx::params![all[1]],
        );
        let listed = db.run(|tx| list(tx, tenant, ScheduleFilter::default(), 10));
        let shown: Vec<_> = listed
            .iter()
            .map(|one| (one.id, one.schedule.is_some()))
            .collect();
        assert_eq!(shown, [(all[2], true), (all[1], false), (all[0], true)]);
        let moment = crate::store::ops::Moment::at(Timestamp::UNIX_EPOCH, &ids);
        assert!(db.run(|tx| super::super::delete(tx, tenant, all[1], &moment)));
        assert_eq!(db.count("SELECT COUNT(*) FROM schedules"), 2);
    }
}
