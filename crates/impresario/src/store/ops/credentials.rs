//! Credentials: named secrets that workflows declare and get at run time.

use jiff::Timestamp;

use super::{
    secrets::{self, SealedSecret},
    tenants,
};
use crate::domain::{CredentialId, ExportedWorkflow, JobId, SecretId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Lower case, unique within the tenant.
    pub name: String,
    /// Its value's row.
    pub secret: SecretId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its value or name last changed.
    pub updated_at: Timestamp,
}

fn read(row: &Row<'_>) -> Result<Credential> {
    Ok(Credential {
        id: row.get("id")?,
        name: row.get("name")?,
        secret: row.get("secret_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds a credential; `false`, and nothing written, where the name is taken.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (id, name): (CredentialId, &str),
    secret: SealedSecret,
    now: Timestamp,
) -> Result<bool> {
    tenants::lock(tx, tenant)?;
    if by_name(tx, tenant, name)?.is_some() {
        return Ok(false);
    }
    let secret_id = secret.id;
    secrets::insert(tx, tenant, secret, now)?;
    tx.execute_one(
        "INSERT INTO credentials (id, tenant_id, name, secret_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)",
        params![id, tenant, name, secret_id, now],
    )?;
    Ok(true)
}

/// All credentials of a tenant, by name.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 ORDER BY name";
    tx.query(sql, params![tenant], read)
}

/// A credential by its name.
///
/// # Errors
/// What the engine refuses.
pub fn by_name(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 AND name = $2";
    tx.query_opt(sql, params![tenant, name], read)
}

/// A credential by its id.
///
/// # Errors
/// What the engine refuses.
pub fn by_id(tx: &mut Tx<'_>, tenant: TenantId, id: CredentialId) -> Result<Option<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 AND id = $2";
    tx.query_opt(sql, params![tenant, id], read)
}

/// Stores a value under a name, whether or not there is one: the credential's id, and whether there was.
///
/// # Errors
/// What the engine refuses.
pub fn upsert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (id, name): (CredentialId, &str),
    secret: SealedSecret,
    now: Timestamp,
) -> Result<(CredentialId, bool)> {
    tenants::lock(tx, tenant)?;
    match by_name(tx, tenant, name)? {
        Some(known) => {
            write(tx, tenant, &known, (None, Some(secret)), now)?;
            Ok((known.id, true))
        }
        None => create(tx, tenant, (id, name), secret, now).map(|_| (id, false)),
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Done,
    /// There is no such credential.
    Unknown,
    /// It would break something; a sentence says what.
    Refused(String),
}

/// Gives a credential a new value, a new name, or both.
///
/// # Errors
/// What the engine refuses.
pub fn update(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: CredentialId,
    (name, secret): (Option<String>, Option<SealedSecret>),
    now: Timestamp,
) -> Result<Change> {
    tenants::lock(tx, tenant)?;
    let Some(known) = by_id(tx, tenant, id)? else {
        return Ok(Change::Unknown);
    };
    if let Some(name) = &name
        && by_name(tx, tenant, name)?.is_some_and(|other| other.id != id)
    {
        return Ok(Change::Refused(format!(
            "name: there is a credential \"{name}\" already"
        )));
    }
    let name = name.filter(|name| *name != known.name);
    if name.is_some()
        && let Some(job) = job_that_needs(tx, tenant, &known)?
    {
        return Ok(Change::Refused(format!(
            "name: the job {job} needs this credential and is not finished; it would not find it under another name"
        )));
    }
    if name.is_none() && secret.is_none() {
        return Ok(Change::Done);
    }
    write(tx, tenant, &known, (name, secret), now).map(|()| Change::Done)
}

/// A new value takes the old one's place: nothing but the credential refers to it, so it is not kept.
fn write(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    known: &Credential,
    (name, secret): (Option<String>, Option<SealedSecret>),
    now: Timestamp,
) -> Result<()> {
    let secret_id = secret.as_ref().map(|secret| secret.id);
    if let Some(secret) = secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    tx.execute_one(
        "UPDATE credentials SET name = COALESCE($3, name), secret_id = COALESCE($4, secret_id), updated_at = $5
         WHERE tenant_id = $1 AND id = $2",
        params![tenant, known.id, name, secret_id, now],
    )?;
    match secret_id {
        Some(_) => secrets::remove(tx, tenant, known.secret),
        None => Ok(()),
    }
}

/// Removes a credential and its value, unless a job that is waiting or running asks for it.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: CredentialId) -> Result<Change> {
    tenants::lock(tx, tenant)?;
    let Some(credential) = by_id(tx, tenant, id)? else {
        return Ok(Change::Unknown);
    };
    if let Some(job) = job_that_needs(tx, tenant, &credential)? {
        return Ok(Change::Refused(format!(
            "credential: the unfinished job {job} needs it"
        )));
    }
    tx.execute_one(
        "DELETE FROM credentials WHERE tenant_id = $1 AND id = $2",
        params![tenant, id],
    )?;
    secrets::remove(tx, tenant, credential.secret)?;
    Ok(Change::Done)
}

/// An unfinished job that asks for the credential by id, or whose workflow declares its name. The declarations are
/// looked at once for each deployment and workflow, however many jobs of it wait.
fn job_that_needs(tx: &mut Tx<'_>, tenant: TenantId, credential: &Credential) -> Result<Option<JobId>> {
    let sql = "SELECT id FROM jobs WHERE tenant_id = $1 AND credential_id = $2
                 AND status IN ('queued', 'starting_browser', 'running') LIMIT 1";
    let asks = tx.query_opt(sql, params![tenant, credential.id], |row| row.get("id"))?;
    if asks.is_some() {
        return Ok(asks);
    }
    let mut declared: Option<(String, Vec<ExportedWorkflow>)> = None;
    let mut last = (String::new(), String::new());
    while let Some((deployment, workflow, job)) = next_unfinished(tx, tenant, &last)? {
        let exported = match declared {
            Some((of, exported)) if of == deployment => exported,
            _ => exported_by(tx, &deployment)?,
        };
        let mut mine = exported.iter().filter(|exported| exported.name == workflow);
        if mine.any(|exported| declares(exported, &credential.name)) {
            return Ok(Some(job));
        }
        declared = Some((deployment.clone(), exported));
        last = (deployment, workflow);
    }
    Ok(None)
}

fn declares(workflow: &ExportedWorkflow, name: &str) -> bool {
    let names = &workflow.launch.credential_names;
    names.iter().any(|declared| declared.eq_ignore_ascii_case(name))
}

fn exported_by(tx: &mut Tx<'_>, deployment: &str) -> Result<Vec<ExportedWorkflow>> {
    let sql = "SELECT workflows FROM deployments WHERE id = $1";
    let exported = tx.query_opt(sql, params![deployment], |row| {
        row.get::<Option<Json<Vec<ExportedWorkflow>>>>("workflows")
    })?;
    Ok(exported.flatten().map(|json| json.0).unwrap_or_default())
}

/// The first (deployment, workflow) after `last` that has an unfinished job, and such a job.
fn next_unfinished(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (deployment, workflow): &(String, String),
) -> Result<Option<(String, String, JobId)>> {
    // Two statements and not one that compares pairs: SQLite would start at the pair itself and walk past all its jobs.
    for (after, from) in [
        ("deployment_id = $2 AND workflow > $3", workflow.as_str()),
        ("deployment_id > $2 AND workflow >= $3", ""),
    ] {
        let sql = format!(
            "SELECT deployment_id, workflow, id FROM jobs
             WHERE tenant_id = $1 AND status IN ('queued', 'starting_browser', 'running') AND {after}
             ORDER BY deployment_id, workflow, id LIMIT 1"
        );
        let next = tx.query_opt(&sql, params![tenant, deployment, from], |row| {
            Ok((row.get("deployment_id")?, row.get("workflow")?, row.get("id")?))
        })?;
        if next.is_some() {
            return Ok(next);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{DeploymentId, WorkflowLaunch},
        store::ops::fixture::{Db, at},
    };

    fn sealed(db: &Db) -> SealedSecret {
        SealedSecret {
            id: db.id(),
            sealed: vec![0],
        }
    }

    fn credential(db: &Db, tenant: TenantId, name: &str) -> CredentialId {
        let (id, secret) = (db.id(), sealed(db));
        assert!(db.run(|tx| create(tx, tenant, (id, name), secret, at(0))));
        id
    }

    /// A deployment whose workflow `w` declares the credential `portal`, and another's that does not.
    fn deployed() -> (Db, TenantId, [DeploymentId; 2]) {
        deployed_on(Db::new())
    }

    fn deployed_on(db: Db) -> (Db, TenantId, [DeploymentId; 2]) {
        let tenant = db.tenant();
        let [declaring, other] = ["w", "another"].map(|name| {
            let launch = WorkflowLaunch {
                credential_names: vec!["Portal".to_owned()],
                ..WorkflowLaunch::default()
            };
            let name = name.to_owned();
            db.deployment(tenant, &[ExportedWorkflow { name, launch }])
        });
        (db, tenant, [declaring, other])
    }

    #[test]
    fn a_credential_that_an_unfinished_job_needs_stays() {
        let (db, tenant, [declaring, other]) = deployed();
        let id = credential(&db, tenant, "portal");
        db.job((tenant, declaring), "completed", 0);
        db.job((tenant, other), "queued", 0);
        let job = db.job((tenant, declaring), "running", 0);
        let refused = db.run(|tx| delete(tx, tenant, id));
        let Change::Refused(why) = refused else {
            panic!("{refused:?}")
        };
        assert!(why.contains(&job.to_string()), "{why}");
        db.sql("UPDATE jobs SET status = 'failed' WHERE id = $1", params![job]);
        assert_eq!(db.run(|tx| delete(tx, tenant, id)), Change::Done);
        assert_eq!(db.run(|tx| delete(tx, tenant, id)), Change::Unknown);
    }

    #[test]
    fn so_does_one_that_a_job_asks_for_by_id() {
        let (db, tenant, [_, other]) = deployed();
        let id = credential(&db, tenant, "something");
        let job = db.job((tenant, other), "queued", 0);
        let launch = format!("{{\"timeout_seconds\":60,\"credential_id\":\"{id}\"}}");
        db.sql("UPDATE jobs SET launch = $2 WHERE id = $1", params![job, launch]);
        assert!(matches!(db.run(|tx| delete(tx, tenant, id)), Change::Refused(_)));
        db.sql("UPDATE jobs SET status = 'cancelled' WHERE id = $1", params![job]);
        assert_eq!(db.run(|tx| delete(tx, tenant, id)), Change::Done);
    }

    #[test]
    fn each_workflow_of_a_deployment_is_looked_at() {
        let (db, tenant, [declaring, _]) = deployed();
        let id = credential(&db, tenant, "portal");
        for name in ["a", "b", "x"] {
            let job = db.job((tenant, declaring), "queued", 0);
            db.sql("UPDATE jobs SET workflow = $2 WHERE id = $1", params![job, name]);
        }
        let job = db.job((tenant, declaring), "queued", 0);
        let refused = db.run(|tx| delete(tx, tenant, id));
        assert!(
            matches!(&refused, Change::Refused(why) if why.contains(&job.to_string())),
            "{refused:?}"
        );
    }

    #[test]
    fn the_value_of_a_credential_goes_with_it() {
        let db = Db::new();
        let tenant = db.tenant();
        let values = || {
            db.run(|tx| {
                let sql = "SELECT s.id FROM secrets s LEFT JOIN credentials c ON c.secret_id = s.id";
                tx.query(sql, &[], |row| row.get::<SecretId>("id"))
            })
        };
        let id = credential(&db, tenant, "portal");
        for change in 0..3 {
            let secret = sealed(&db);
            let new = secret.id;
            db.run(|tx| match change {
                0 => upsert(tx, tenant, (id, "portal"), secret, at(1)).map(|_| ()),
                1 => update(tx, tenant, id, (Some("new".to_owned()), Some(secret)), at(1)).map(|_| ()),
                _ => upsert(tx, tenant, (id, "new"), secret, at(1)).map(|_| ()),
            });
            assert_eq!(values(), [new]);
            assert_eq!(db.run(|tx| by_id(tx, tenant, id)).unwrap().secret, new);
        }
        let kept = values();
        db.run(|tx| update(tx, tenant, id, (Some("name".to_owned()), None), at(2)));
        assert_eq!(values(), kept, "a new name alone keeps the value");
        assert_eq!(db.run(|tx| delete(tx, tenant, id)), Change::Done);
        assert!(values().is_empty());
    }

    #[test]
    fn a_delete_costs_the_same_however_many_jobs_wait() {
        let work = |jobs: u32| {
            let (db, tenant, [declaring, other]) = deployed_on(Db::embedded());
            let id = credential(&db, tenant, "unrelated");
            for number in 0..jobs {
                let deployment = if number % 2 == 0 { declaring } else { other };
                let job = db.job((tenant, deployment), "queued", 0);
                // The database looks for what refers to the value before it lets that go.
                let secret = sealed(&db);
                let secret_id = secret.id;
                db.run(|tx| secrets::insert(tx, tenant, secret, at(0)));
                db.sql(
                    "UPDATE jobs SET callback_secret_id = $2 WHERE id = $1",
                    params![job, secret_id],
                );
                db.sql(
                    "INSERT INTO deliveries (id, tenant_id, job_id, url, secret_id, event, body, status, created_at)
                     VALUES ($1, $2, $3, '', $4, '', '', 'delivered', 0)",
                    params![db.id::<JobId>(), tenant, job, secret_id],
                );
            }
            let (done, work) = db.work(|tx| delete(tx, tenant, id));
            assert_eq!(done, Change::Done);
            work
        };
        let (few, many) = (work(10), work(2_000));
        assert!(many < few * 2, "{few}, {many}");
    }
}
