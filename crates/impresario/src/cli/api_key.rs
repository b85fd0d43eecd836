//! `api-key …`: a tenant's keys, on the data directory or the database itself, also while a server runs on it.

use anyhow::bail;
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    admin::{self, name_of},
    output::{Cell, Table, print},
    say,
};
use crate::{
    api::key_view,
    config::Flags,
    domain::{KeyId, TenantId, rfc3339},
    ids::Ids,
    keys,
    store::{
        Store,
        ops::api_keys::{self, KeyName, ListedApiKey, MOST_LIVE, NewApiKey, RevokeOutcome},
    },
};

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
        /// After how long it opens nothing any more, e.g. 90d, 12h or 30m [default: never]
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires_in: Option<SignedDuration>,
    },
    /// List a tenant's keys, newest first: how each begins, what it is for, when it was last used, whether it is good
    List {
        /// The tenant's name or id
        #[arg(long)]
        tenant: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key back: no request with it gets through any more, also where a server runs
    Revoke {
        /// The tenant's name or id
        #[arg(long)]
        tenant: String,
        /// Its id, or how it begins, e.g. imp_8T4nQ2xw: `api-key list` shows both
        key: String,
    },
}

/// The longest a key may be good for that is not good for ever, in seconds: ten years.
const LONGEST_LIFE: i64 = 315_360_000;

/// Reads `90d`.
fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let allowed = "must be a whole number with s, m, h or d behind it, from 1s to 3650d, such as 90d or 12h";
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(allowed.to_owned()),
    };
    text.get(..text.len() - 1)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<i64>().ok()?.checked_mul(unit))
        .filter(|seconds| (1..=LONGEST_LIFE).contains(seconds))
        .map(SignedDuration::from_secs)
        .ok_or_else(|| allowed.to_owned())
}

/// Makes a key for a tenant and returns it in the clear.
///
/// # Errors
/// Where the tenant has as many as there may be, or the store refuses.
pub(crate) async fn create(
    store: &Store,
    ids: &Ids,
    tenant: TenantId,
    (label, lifetime): (&str, Option<SignedDuration>),
    now: Timestamp,
) -> anyhow::Result<String> {
    let label = name_of("label", label)?;
    let expires_at = match lifetime {
        Some(lifetime) => Some(now.checked_add(lifetime)?),
        None => None,
    };
    let key = keys::generate(ids);
    let row = NewApiKey {
        id: KeyId(ids.uuid(now)),
        tenant,
        public_id: key.public_id,
        hash: key.hash,
        label,
        start: key.start,
        expires_at,
    };
    if !store
        .write("create_key", move |tx| api_keys::add(tx, row.clone(), now))
        .await?
    {
        bail!(
            "api-key: the tenant has {MOST_LIVE} live keys, the most there may be; revoke one that nobody needs first \
             (`impresario api-key list` shows when each was last used)"
        );
    }
    Ok(key.token.expose_secret().to_owned())
}

pub(super) async fn api_key(flags: &Flags, command: ApiKeyCommand) -> anyhow::Result<()> {
    let (ApiKeyCommand::Create { tenant, .. }
    | ApiKeyCommand::List { tenant, .. }
    | ApiKeyCommand::Revoke { tenant, .. }) = &command;
    let (settings, store) = admin::open(flags, false).await?;
    let tenant = admin::find(&store, tenant).await?;
    let now = admin::now(&settings, &store).await?;
    match command {
        ApiKeyCommand::Create {
            label, expires_in, ..
        } => {
            let key = create(&store, &Ids::from_os(), tenant.id, (&label, expires_in), now).await?;
            say(&key)?;
        }
        ApiKeyCommand::List { json, .. } => {
            let id = tenant.id;
            let keys = store
                .read("list_keys", move |tx| api_keys::list(tx, id, now))
                .await?;
            match json {
                true => say(&serde_json::to_string_pretty(
                    &keys.into_iter().map(shown).collect::<Vec<_>>(),
                )?)?,
                false => print(&table(&keys).for_stdout())?,
            }
        }
        ApiKeyCommand::Revoke { key, .. } => revoke(&store, &tenant, &key, now).await?,
    }
    Ok(())
}

/// As much of a key as lists show: its prefix and its public digits, all of ASCII.
const SHOWN_KEY: usize = 12;

async fn revoke(
    store: &Store,
    tenant: &crate::store::ops::tenants::Tenant,
    key: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    // Whoever gives the whole key means it, and need not see it again.
    let key: &str = match crate::keys::parse(key) {
        Some(_) => &key[..SHOWN_KEY],
        None => key,
    };
    let name = key
        .parse()
        .map_or_else(|_| KeyName::Start(key.to_owned()), KeyName::Id);
    let id = tenant.id;
    let outcome = store
        .write("revoke_key", move |tx| api_keys::revoke(tx, id, &name, now))
        .await?;
    match outcome {
        RevokeOutcome::Revoked(id) => Ok(say(&id.to_string())?),
        RevokeOutcome::Already => bail!("api-key: {key:?} of {} was revoked before", tenant.name),
        RevokeOutcome::Unknown => bail!(
            "api-key: {} has no key {key:?}; give its id, or how it begins (imp_ and 8 characters): `impresario api-key list \
             --tenant {}` shows that, and with --json the ids",
            tenant.name,
            tenant.name
        ),
    }
}

/// As the API shows it, and why it opens nothing where it does not.
fn shown(key: ListedApiKey) -> Value {
    let state = key.state.as_str();
    let mut shown = json!(key_view(key));
    if let Some(object) = shown.as_object_mut() {
        object.insert("state".to_owned(), json!(state));
    }
    shown
}

fn table(keys: &[ListedApiKey]) -> Table {
    let instant = |at: Option<Timestamp>| Cell::new(at.map_or_else(|| "never".to_owned(), rfc3339));
    let mut table = Table::new(&["START", "LABEL", "CREATED", "LAST USED", "EXPIRES", "STATE"]);
    for key in keys {
        table.row([
            Cell::new(&key.start),
            Cell::new(&key.label),
            Cell::new(rfc3339(key.created_at)),
            instant(key.last_used_at),
            instant(key.expires_at),
            Cell::new(key.state.as_str()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_with_a_unit() {
        for (text, seconds) in [
            ("1s", 1),
            ("30m", 1800),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("3650d", LONGEST_LIFE),
        ] {
            assert_eq!(lifetime(text).map(|life| life.as_secs()), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "+1d",
            "1.5h",
            "3651d",
            "1w",
            "90 d",
            "9999999999999999d",
            "1é",
        ] {
            assert!(lifetime(text).unwrap_err().contains("such as 90d"), "{text}");
        }
    }
}
