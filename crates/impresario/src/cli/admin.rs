//! `tenant …` and `api-key …`: they work on the data directory itself, also while a server runs on it.

use anyhow::{Context, bail};
use clap::Subcommand;
use secrecy::ExposeSecret;

use super::say;
use crate::{
    clock::{Clock, SystemClock},
    config::{Flags, Settings},
    domain::{KeyId, TenantId, rfc3339},
    ids::Ids,
    keys,
    store::{
        Access, Store,
        ops::tenants::{self, NewApiKey, Tenant},
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
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Make a key; prints it, this once: only its hash is kept
    Create {
        /// The tenant's name or id
        #[arg(long)]
        tenant: String,
        /// What the key is for, e.g. laptop
        #[arg(long)]
        label: String,
    },
}

/// Opens the store; only the first tenant's making may make it.
pub(super) async fn open(flags: &Flags, may_make: bool) -> anyhow::Result<Store> {
    let settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    if settings.database.is_none() && !may_make && !settings.database_path().exists() {
        bail!(
            "there is no database in {}: is --data-dir right? `impresario serve` and `impresario tenant create` make one",
            settings.data_dir.display()
        );
    }
    Ok(Store::of(settings.database.as_ref(), &settings.data_dir, Access::Tool).await?)
}

fn name_of(what: &str, text: &str) -> anyhow::Result<String> {
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

/// Makes a key for a tenant and returns it in the clear.
///
/// # Errors
/// Where the store refuses.
pub(crate) async fn create_key(
    store: &Store,
    ids: &Ids,
    tenant: TenantId,
    label: &str,
) -> anyhow::Result<String> {
    let (label, now) = (name_of("label", label)?, SystemClock.now());
    let key = keys::generate(ids);
    let row = NewApiKey {
        id: KeyId(ids.uuid(now)),
        tenant,
        public_id: key.public_id,
        hash: key.hash,
        label,
        start: key.start,
    };
    store
        .write("create_key", move |tx| tenants::add_key(tx, row.clone(), now))
        .await?;
    Ok(key.token.expose_secret().to_owned())
}

pub(super) async fn tenant(flags: &Flags, command: TenantCommand) -> anyhow::Result<()> {
    let store = open(flags, matches!(command, TenantCommand::Create { .. })).await?;
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
    }
    Ok(())
}

pub(super) async fn api_key(flags: &Flags, command: ApiKeyCommand) -> anyhow::Result<()> {
    let ApiKeyCommand::Create { tenant, label } = command;
    let store = open(flags, false).await?;
    let wanted = tenant.clone();
    let found = store
        .read("find_tenant", move |tx| tenants::find(tx, &wanted))
        .await?;
    let found = found.with_context(|| {
        format!("tenant: there is none named {tenant:?}; make it with `impresario tenant create`")
    })?;
    say(&create_key(&store, &Ids::from_os(), found.id, &label).await?)?;
    Ok(())
}
