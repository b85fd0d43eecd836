//! Builds: whose is next, and who has which. One node builds a deployment at a time, under a lease.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;

use super::{DEPLOYMENT, read};
use crate::domain::{Deployment, DeploymentId, ExportedWorkflow, WorkflowId};
use crate::store::{
    error::Result,
    ops::{
        Lease,
        fair::{self, Queue},
        lease,
        schedules::{self, Verdict},
    },
    tx::{Tx, params},
    value::Json,
};

/// The deployments whose builds start next, at most `places`, beside those that are `active` here and those that any
/// node has under a lease: each place goes to the tenant with the fewest of these, and to what it deployed first.
///
/// # Errors
/// What the engine refuses.
pub fn building(tx: &mut Tx<'_>, active: &[DeploymentId], places: usize) -> Result<Vec<Deployment>> {
    let sql = "SELECT tenant_id, id FROM deployments WHERE lease_token IS NOT NULL";
    let leased = tx.query(sql, &[], |row| {
        Ok((row.get::<String>("tenant_id")?, row.get::<DeploymentId>("id")?))
    })?;
    let mut held: HashMap<String, usize> = HashMap::new();
    for (tenant, _) in leased {
        *held.entry(tenant).or_default() += 1;
    }
    let sql = format!(
        "{} SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL",
        fair::waiting("deployments", "status = 'building' AND lease_token IS NULL")
    );
    let tenants = tx.query(&sql, &[], |row| row.get::<String>("tenant_id"))?;
    let sql = "SELECT number, id FROM deployments
               WHERE status = 'building' AND lease_token IS NULL AND tenant_id = $1
               ORDER BY number LIMIT $2";
    let queue = |tenant: String| {
        // All that begin here and have no lease yet may stand before the first that waits.
        let most = active.len() + places;
        let all = tx.query(sql, params![&tenant, most], |row| {
            Ok((row.get::<i64>("number")?, row.get::<DeploymentId>("id")?))
        })?;
        let waiting: VecDeque<_> = all
            .iter()
            .filter(|(_, id)| !active.contains(id))
            .copied()
            .collect();
        Ok(Queue {
            held: held.get(&tenant).copied().unwrap_or_default() + all.len() - waiting.len(),
            waiting,
        })
    };
    let queues = tenants.into_iter().map(queue).collect::<Result<Vec<_>>>()?;
    let sql = format!("SELECT {DEPLOYMENT} FROM deployments d WHERE d.id = $1");
    let mut next = Vec::new();
    for (_, id) in fair::deal(queues, places, |(number, _)| *number) {
        next.extend(tx.query_opt(&sql, params![id], read)?);
    }
    Ok(next)
}

/// Takes a build for whoever holds the lease, and counts it: how many have begun by now. `None` where it is built
/// already, or somebody else has it.
///
/// # Errors
/// What the engine refuses.
pub fn begin_build(tx: &mut Tx<'_>, id: DeploymentId, lease: Lease<'_>) -> Result<Option<u32>> {
    let until = lease.until(tx)?;
    let sql = "UPDATE deployments SET build_attempts = build_attempts + 1, lease_token = $2, lease_until = $3
               WHERE id = $1 AND status = 'building' AND lease_token IS NULL";
    if tx.execute(sql, params![id, lease.token, until])? == 0 {
        return Ok(None);
    }
    tx.query_opt(
        "SELECT build_attempts FROM deployments WHERE id = $1",
        params![id],
        |row| row.get("build_attempts"),
    )
}

/// Extends the lease of a build to `length` from now; `false` where it is not the holder's any more.
///
/// # Errors
/// What the engine refuses.
pub fn extend_build(tx: &mut Tx<'_>, (id, token): (DeploymentId, &str), length: Duration) -> Result<bool> {
    let until = lease::until(tx, length)?;
    let sql = "UPDATE deployments SET lease_until = $3 WHERE id = $1 AND lease_token = $2";
    Ok(tx.execute(sql, params![id, token, until])? == 1)
}

/// Gives a build up that has not ended: whoever looks next begins it again.
///
/// # Errors
/// What the engine refuses.
pub fn release_build(tx: &mut Tx<'_>, id: DeploymentId, token: &str) -> Result<()> {
    let sql =
        "UPDATE deployments SET lease_token = NULL, lease_until = NULL WHERE id = $1 AND lease_token = $2";
    tx.execute(sql, params![id, token]).map(|_| ())
}

/// Frees the builds that an earlier server of this data directory had begun. Only called where no other node can be on
/// the database.
///
/// # Errors
/// What the engine refuses.
pub fn recover(tx: &mut Tx<'_>) -> Result<u64> {
    let sql = "UPDATE deployments SET lease_token = NULL, lease_until = NULL WHERE lease_token IS NOT NULL";
    tx.execute(sql, &[])
}

/// The builds whose leases have run out by `now`, in milliseconds on the clock of leases.
///
/// # Errors
/// What the engine refuses.
pub fn expired(tx: &mut Tx<'_>, now: i64) -> Result<Vec<DeploymentId>> {
    let gone = lease::has_run_out("$1");
    let sql = format!("SELECT id FROM deployments WHERE lease_token IS NOT NULL AND {gone}");
    tx.query(&sql, params![now], |row| row.get("id"))
}

/// Frees one of them; `false` where it is not left after all.
///
/// # Errors
/// What the engine refuses.
pub fn reap(tx: &mut Tx<'_>, id: DeploymentId, now: i64) -> Result<bool> {
    let gone = lease::has_run_out("$2");
    let sql =
        format!("UPDATE deployments SET lease_token = NULL, lease_until = NULL WHERE id = $1 AND {gone}");
    Ok(tx.execute(&sql, params![id, now])? == 1)
}

/// Notes that a build went well and moves the names it exports to this deployment, unless a newer one has them. `new_id`
/// gives an id to a name that was not deployed before. Along with a name go the `verdicts` on its schedules' params:
/// whoever sees the new version sees whom it does not suit. `false`, and nothing changed, where the build is not the
/// holder's any more.
///
/// # Errors
/// What the engine refuses.
pub fn built(
    tx: &mut Tx<'_>,
    (deployment, token): (&Deployment, &str),
    (workflows, verdicts): (&[ExportedWorkflow], &[Verdict]),
    (new_id, now): (impl Fn() -> WorkflowId, Timestamp),
) -> Result<bool> {
    let names: Vec<&str> = workflows.iter().map(|workflow| workflow.name.as_str()).collect();
    let held = tx.execute(
        "UPDATE deployments SET status = 'ready', build_error = NULL, workflows = $3, workflow_names = $4, built_at = $5,
           lease_token = NULL, lease_until = NULL
         WHERE id = $1 AND lease_token = $2 AND status = 'building'",
        params![deployment.id, token, Json(workflows), Json(&names), now],
    )?;
    if held == 0 {
        return Ok(false);
    }
    // In one order, so that two builds of a tenant never wait for each other in a circle.
    let mut in_order = names;
    in_order.sort_unstable();
    for name in in_order {
        tx.execute(
            "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
             SELECT $1, d.tenant_id, $2, d.id, d.number, $3, $3 FROM deployments d WHERE d.id = $4
             ON CONFLICT (tenant_id, name) DO UPDATE SET deployment_id = excluded.deployment_id,
               deployment_number = excluded.deployment_number, updated_at = excluded.updated_at
             WHERE excluded.deployment_number >= workflows.deployment_number",
            params![new_id(), name, now, deployment.id],
        )?;
    }
    for workflow in workflows
        .iter()
        .filter(|workflow| workflow.launch.input_schema.is_none())
    {
        schedules::note_all_fit(tx, deployment.id, (deployment.tenant, &workflow.name))?;
    }
    schedules::note_params(tx, deployment.id, verdicts)?;
    Ok(true)
}

/// Notes that a build failed, and why; `false`, and nothing changed, where it is not the holder's any more.
///
/// # Errors
/// What the engine refuses.
pub fn build_failed(tx: &mut Tx<'_>, (id, token): (DeploymentId, &str), error: &str) -> Result<bool> {
    let sql =
        "UPDATE deployments SET status = 'failed', build_error = $3, lease_token = NULL, lease_until = NULL
               WHERE id = $1 AND lease_token = $2 AND status = 'building'";
    Ok(tx.execute(sql, params![id, token, error])? == 1)
}
