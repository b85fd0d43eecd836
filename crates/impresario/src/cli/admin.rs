//! `tenant …`: works on the data directory or the database itself, also while a server runs on it; and what `api-key …` has in
//! common with it.

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Timestamp;

use super::say;
use crate::{
    clock::{self, Clock, SystemClock},
    config::{Flags, Settings},
    domain::{TenantId, rfc3339},
    ids::Ids,
    store::{
        Access, Store,
        ops::{
            quotas::{self, QuotaChange, Quotas, Usage},
            tenants::{self, Tenant},
        },
    },
};

/// The longest name of a tenant and the longest label of a key, in characters.
const LONGEST_NAME: usize = 100;

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Make a tenant; prints its id
    Create {
        /// A name nobody has yet, e.g. acme
        name: String,
    },
    /// List the tenants: name, id, when it was made
    List,
    /// Show what a tenant may have and what it has, or change what it may have; without a quota there is no limit
    Quota {
        /// The tenant's name or id
        tenant: String,
        /// How many schedules it may have, or none for no limit
        #[arg(long, value_name = "N|none", value_parser = quota)]
        schedules: Option<Quota>,
        /// How many of its jobs may wait in the queue, or none for no limit
        #[arg(long, value_name = "N|none", value_parser = quota)]
        queued_jobs: Option<Quota>,
        /// How large its bundles may be together, in bytes, or none for no limit
        #[arg(long, value_name = "N|none", value_parser = quota)]
        bundle_bytes: Option<Quota>,
    },
}

/// A quota as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota(Option<u64>);

/// The highest quota: 2^53 - 1, which every reader of JSON knows exactly.
const HIGHEST_QUOTA: u64 = 9_007_199_254_740_991;

fn quota(text: &str) -> Result<Quota, String> {
    if text == "none" {
        return Ok(Quota(None));
    }
    text.parse()
        .ok()
        .filter(|number| *number <= HIGHEST_QUOTA)
        .map(|number| Quota(Some(number)))
        .ok_or_else(|| format!("must be a whole number from 0 to {HIGHEST_QUOTA}, or none"))
}

/// Opens the store; only the first tenant's making may make it.
pub(super) async fn open(flags: &Flags, may_make: bool) -> anyhow::Result<(Settings, Store)> {
    let settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    if settings.database.is_none() && !may_make && !settings.database_path().exists() {
        bail!(
            "there is no database in {}: is --data-dir right? `impresario serve` and `impresario tenant create` make one",
            settings.data_dir.display()
        );
    }
    let store = Store::of(settings.database.as_ref(), &settings.data_dir, Access::Tool).await?;
    Ok((settings, store))
}

/// The time as the servers on this database have it: what is to end at an instant ends by their clock.
pub(super) async fn now(settings: &Settings, store: &Store) -> anyhow::Result<Timestamp> {
    if let Some(path) = &settings.clock_file {
        let clock = clock::follow_file(path.clone());
        return Ok(clock
            .with_context(|| format!("clock_file: {}", path.display()))?
            .now());
    }
    match store.shared_time().await? {
        Some((_, now, _)) => Ok(Timestamp::from_millisecond(now)?),
        None => Ok(SystemClock.now()),
    }
}

/// The tenant that is meant.
pub(super) async fn find(store: &Store, tenant: &str) -> anyhow::Result<Tenant> {
    let wanted = tenant.to_owned();
    let found = store
        .read("find_tenant", move |tx| tenants::find(tx, &wanted))
        .await?;
    found.with_context(|| {
        format!("tenant: there is none named {tenant:?}; make it with `impresario tenant create`")
    })
}

pub(super) fn name_of(what: &str, text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > LONGEST_NAME || text.chars().any(char::is_control) {
        bail!("{what}: {text:?} must have 1 to {LONGEST_NAME} characters and none that control a terminal");
    }
    Ok(text.to_owned())
}

/// Makes a tenant.
///
/// # Errors
/// Where the name is taken, or the store refuses.
pub(crate) async fn create_tenant(store: &Store, ids: &Ids, name: &str) -> anyhow::Result<Tenant> {
    let now = SystemClock.now();
    let tenant = Tenant {
        id: TenantId(ids.uuid(now)),
        name: name_of("tenant", name)?,
        created_at: now,
    };
    let created = tenant.clone();
    if !store
        .write("create_tenant", move |tx| tenants::create(tx, created.clone()))
        .await?
    {
        bail!("tenant: there is one named {name:?} already");
    }
    Ok(tenant)
}

pub(super) async fn tenant(flags: &Flags, command: TenantCommand) -> anyhow::Result<()> {
    let (_, store) = open(flags, matches!(command, TenantCommand::Create { .. })).await?;
    match command {
        TenantCommand::Create { name } => {
            let tenant = create_tenant(&store, &Ids::from_os(), &name).await?;
            say(&tenant.id.to_string())?;
        }
        TenantCommand::List => {
            let tenants = store.read("list_tenants", tenants::list).await?;
            let widest = tenants
                .iter()
                .map(|tenant| tenant.name.chars().count())
                .max()
                .unwrap_or(0);
            for tenant in tenants {
                say(&format!(
                    "{:widest$}  {}  {}",
                    tenant.name,
                    tenant.id,
                    rfc3339(tenant.created_at)
                ))?;
            }
        }
        TenantCommand::Quota {
            tenant,
            schedules,
            queued_jobs,
            bundle_bytes,
        } => {
            let id = find(&store, &tenant).await?.id;
            let given = |quota: Option<Quota>| quota.map(|Quota(most)| most);
            let change = QuotaChange {
                schedules: given(schedules),
                queued_jobs: given(queued_jobs),
                bundle_bytes: given(bundle_bytes),
            };
            if change != QuotaChange::default() {
                store
                    .write("set_quotas", move |tx| quotas::set(tx, id, change))
                    .await?;
            }
            let (quotas, usage) = store.read("quotas", move |tx| quotas::get(tx, id)).await?;
            say(&quota_table(quotas, usage))?;
        }
    }
    Ok(())
}

fn quota_table(quotas: Quotas, usage: Usage) -> String {
    let rows = [
        ("schedules", usage.schedules, quotas.schedules),
        ("queued jobs", usage.queued_jobs, quotas.queued_jobs),
        ("bundle bytes", usage.bundle_bytes, quotas.bundle_bytes),
    ];
    let lines = rows.map(|(what, used, most)| {
        let most = most.map_or_else(|| ", no limit".to_owned(), |most| format!(" of {most}"));
        format!("{what:12}  {used}{most}")
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_or_none() {
        assert_eq!(quota("none"), Ok(Quota(None)));
        assert_eq!(quota("0"), Ok(Quota(Some(0))));
        assert_eq!(quota("9007199254740991"), Ok(Quota(Some(HIGHEST_QUOTA))));
        for text in ["", "-1", "None", "1.5", "9007199254740992", "10MB"] {
            assert!(quota(text).unwrap_err().contains("or none"), "{text}");
        }
    }

    #[test]
    fn quotas_are_shown_with_what_is_used() {
        let quotas = Quotas {
            schedules: Some(10),
            ..Quotas::default()
        };
        let usage = Usage {
            schedules: 3,
            queued_jobs: 0,
            bundle_bytes: 4096,
        };
        let expected = "schedules     3 of 10\nqueued jobs   0, no limit\nbundle bytes  4096, no limit";
        assert_eq!(quota_table(quotas, usage), expected);
    }
}
