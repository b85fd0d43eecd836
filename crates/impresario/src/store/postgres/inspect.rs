//! What is asked of a database once per start: whether it can be used at all, and what to do where it cannot.

use tokio_postgres::{Client, Row};

use super::{
    connect::{OLDEST, too_old},
    target::Target,
    trouble::{Attempt, identifier},
};
use crate::store::{Result, StoreError};

const ABOUT: &str = "SELECT current_setting('server_version'), \
            current_setting('server_version_num')::int, \
            current_setting('server_encoding'), \
            pg_is_in_recovery(), \
            current_setting('transaction_read_only')::bool, \
            current_schema()::text, \
            current_setting('search_path'), \
            current_user::text";

const MAY_CREATE: &str =
    "SELECT current_schema()::text, has_schema_privilege(current_schema(), 'CREATE'), current_user::text";

/// What may not be done with the tables of a list that are there.
const MISSING: &str = "SELECT c.relname::text, string_agg(privilege, ', ' ORDER BY privilege), \
            current_schema()::text, current_user::text \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege \
     WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') \
       AND c.relname = ANY($1) AND NOT has_table_privilege(c.oid, privilege) \
     GROUP BY c.relname ORDER BY c.relname";

/// Whether the database can be used: its version (15 or newer), its encoding (UTF8), that it takes writes, and that
/// the role has a schema to work in. What must be allowed there depends on what is done: [`may_migrate`], [`may_use`].
///
/// # Errors
/// [`StoreError::Open`] with a sentence that says what to do; [`StoreError::Unreachable`] where the connection is lost
/// or the server is a standby.
pub async fn inspect(client: &Client, target: &Target) -> Result<()> {
    let at = attempt(target)?;
    let row = one(client, &at, ABOUT).await?;
    let (version, number): (String, i32) = (get(&row, &at, 0)?, get(&row, &at, 1)?);
    if i64::from(number) < i64::from(OLDEST) * 10_000 {
        return Err(at.never(too_old(&version)).into());
    }
    let encoding: String = get(&row, &at, 2)?;
    if encoding != "UTF8" {
        let (user, database) = (&target.user, &target.database);
        return Err(at
            .never(format!(
                "its encoding is {encoding}, and it must be UTF8: make another one with `createdb --owner={user} \
                 --encoding=UTF8 --template=template0 {database}2`"
            ))
            .into());
    }
    if get(&row, &at, 3)? {
        return Err(at
            .passing("the server is a standby, which takes no writes: name the primary, or promote this one")
            .into());
    }
    if get(&row, &at, 4)? {
        return Err(at
            .never(
                "it takes no writes, because transaction_read_only is on: look for it in `options` and in the \
                 settings of the role",
            )
            .into());
    }
    if get::<Option<String>>(&row, &at, 5)?.is_none() {
        let (path, user): (String, String) = (get(&row, &at, 6)?, get(&row, &at, 7)?);
        let role = identifier(&user);
        return Err(at
            .never(format!(
                "the role {user:?} can use none of the schemas in its search_path ({path}): run `GRANT USAGE, CREATE ON \
                 SCHEMA public TO {role}` in it, or `CREATE SCHEMA AUTHORIZATION {role}`"
            ))
            .into());
    }
    Ok(())
}

/// Whether the role may make tables in the first schema of its search path that there is: for migrations.
///
/// # Errors
/// As [`inspect`], with the GRANT that is missing.
pub async fn may_migrate(client: &Client, target: &Target) -> Result<()> {
    let at = attempt(target)?;
    let row = one(client, &at, MAY_CREATE).await?;
    let schema: Option<String> = get(&row, &at, 0)?;
    if get::<Option<bool>>(&row, &at, 1)? == Some(true) {
        return Ok(());
    }
    let (schema, user): (_, String) = (schema.unwrap_or_else(|| "public".to_owned()), get(&row, &at, 2)?);
    Err(at
        .never(format!(
            "the role {user:?} may not make tables in the schema {schema:?}: run `GRANT USAGE, CREATE ON SCHEMA {} TO {}` \
             in it as the schema's owner",
            identifier(&schema),
            identifier(&user)
        ))
        .into())
}

/// Whether the role may read and write those of `tables` that are there. One that is missing is not its business.
///
/// # Errors
/// As [`inspect`], with the GRANT that is missing.
pub async fn may_use(client: &Client, target: &Target, tables: &[&str]) -> Result<()> {
    let at = attempt(target)?;
    let rows = client.query(MISSING, &[&tables]).await;
    let rows = rows.map_err(|error| StoreError::from(at.explain(&error)))?;
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let [table, privileges, schema, user]: [String; 4] = [
        get(first, &at, 0)?,
        get(first, &at, 1)?,
        get(first, &at, 2)?,
        get(first, &at, 3)?,
    ];
    let more = match rows.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(at
        .never(format!(
            "the role {user:?} lacks {privileges} on the table {table:?}{more}: run `GRANT SELECT, INSERT, UPDATE, DELETE \
             ON ALL TABLES IN SCHEMA {} TO {}` in it as the tables' owner",
            identifier(&schema),
            identifier(&user)
        ))
        .into())
}

/// Which of several hosts a client is connected to is not known any more: the first stands for all.
fn attempt(target: &Target) -> Result<Attempt<'_>> {
    let endpoint = target.endpoints.first();
    let endpoint = endpoint.ok_or_else(|| StoreError::Open("the database has no host".to_owned()))?;
    Ok(Attempt {
        target,
        endpoint,
        mode: target.tls.mode,
        passfile: None,
    })
}

async fn one(client: &Client, at: &Attempt<'_>, statement: &str) -> Result<Row> {
    let row = client.query_one(statement, &[]).await;
    row.map_err(|error| at.explain(&error).into())
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: &Attempt<'_>, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| at.explain(&error).into())
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
