//! Credentials: named secrets that workflows declare and get at run time.

use jiff::Timestamp;

use super::secrets::{self, SealedSecret};
use crate::domain::{CredentialId, ExportedWorkflow, JobId, Launch, SecretId, TenantId};
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
    match by_name(tx, tenant, name)? {
        Some(known) => {
            write(tx, tenant, known.id, (None, Some(secret)), now)?;
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
    if by_id(tx, tenant, id)?.is_none() {
        return Ok(Change::Unknown);
    }
    if let Some(name) = &name
        && by_name(tx, tenant, name)?.is_some_and(|other| other.id != id)
    {
        return Ok(Change::Refused(format!(
            "name: there is a credential \"{name}\" already"
        )));
    }
    write(tx, tenant, id, (name, secret), now).map(|()| Change::Done)
}

fn write(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: CredentialId,
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
        params![tenant, id, name, secret_id, now],
    )
}

/// Removes a credential, unless a job that is waiting or running asks for it.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: CredentialId) -> Result<Change> {
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
    Ok(Change::Done)
}

fn job_that_needs(tx: &mut Tx<'_>, tenant: TenantId, credential: &Credential) -> Result<Option<JobId>> {
    let unfinished = tx.query(
        "SELECT j.id, j.workflow, j.launch, d.workflows FROM jobs j JOIN deployments d ON d.id = j.deployment_id
         WHERE j.tenant_id = $1 AND j.status IN ('queued', 'starting_browser', 'running')",
        params![tenant],
        |row| {
            let exported: Option<Json<Vec<ExportedWorkflow>>> = row.get("workflows")?;
            let (workflow, launch): (String, Json<Launch>) = (row.get("workflow")?, row.get("launch")?);
            let declared = exported.is_some_and(|exported| {
                let mine = exported.0.into_iter().filter(|exported| exported.name == workflow);
                mine.flat_map(|exported| exported.launch.credential_names)
                    .any(|name| name.eq_ignore_ascii_case(&credential.name))
            });
            let needed = declared || launch.0.credential_id == Some(credential.id);
            Ok(if needed { Some(row.get::<JobId>("id")?) } else { None })
        },
    )?;
    Ok(unfinished.into_iter().flatten().next())
}
