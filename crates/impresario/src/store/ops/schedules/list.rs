//! Lists of schedules.

use super::{COLUMNS, read};
use crate::domain::{Schedule, TenantId};
use crate::store::{PageCursor, error::Result, ops::query::Query, tx::Tx};

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

fn query(tenant: TenantId, filter: ScheduleFilter) -> Query {
    // Those that do not fit are few, which the planner does not know. A name is rarer still.
    let index = match (filter.params_valid, &filter.name) {
        (Some(false), None) => "INDEXED BY schedules_unfit",
        _ => "",
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
            "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)",
            filter.tag.map(|tag| [tag.into()]),
        );
    if let Some(valid) = filter.params_valid {
        query = query.and(params_valid(valid), Some([]));
    }
    query.after("(created_at, id) < (?, ?)", filter.after)
}

/// The newest schedules of a tenant, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: ScheduleFilter, limit: u32) -> Result<Vec<Schedule>> {
    query(tenant, filter).run(tx, (ORDER, [limit.into()]), read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::Db;

    #[test]
    fn the_usual_filters_have_an_index_that_is_in_the_list_s_order() {
        let db = Db::new();
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
            let plan = db.run(|tx| query(db.id(), filter).plan(tx, (ORDER, [20_u32.into()])));
            assert!(
                plan.contains(&format!("SEARCH schedules USING INDEX {index}")),
                "{name}: {plan}"
            );
        }
    }
}
