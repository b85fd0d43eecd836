//! `migrate`: the schema of the database, made or brought to what this program knows.

use super::say;
use crate::{
    config::{Flags, Settings},
    store::{self, Access, Store},
};

/// Makes the tables, or changes them to what this program knows. The embedded database is migrated by whoever opens it, so
/// there it is only for those who want to see that nothing is in the way.
pub(super) async fn migrate(flags: &Flags) -> anyhow::Result<()> {
    let settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    let Some(target) = &settings.database else {
        Store::open(&settings.data_dir, Access::Tool)?;
        say(&format!("{} is up to date", settings.database_path().display()))?;
        return Ok(());
    };
    let done = store::migrate(target).await?;
    let (from, to) = (done.from, done.to);
    let shown = target.shown();
    say(&if from == to {
        format!("{shown} is at schema version {to} already")
    } else if from == 0 {
        format!("{shown} has its tables now, at schema version {to}")
    } else {
        format!("{shown} was at schema version {from} and is at {to} now")
    })?;
    Ok(())
}
