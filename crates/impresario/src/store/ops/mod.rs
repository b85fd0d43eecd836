//! The operations, in a file per family of tables. Each runs inside one transaction and says what became of it;
//! "not found" and "name taken" are answers, not errors.

pub mod api_keys;
pub mod credentials;
pub mod deliveries;
pub mod deployments;
mod events;
mod fair;
pub mod fires;
#[cfg(test)]
mod fixture;
pub mod gauges;
pub mod jobs;
mod lease;
mod lock;
pub mod logs;
pub mod moving;
mod outcomes;
pub mod profiles;
mod query;
pub mod quotas;
pub mod restored;
pub mod schedules;
pub mod secrets;
pub mod settings;
pub mod tenants;
pub mod webhooks;

use jiff::Timestamp;
use uuid::Uuid;

pub use self::lease::Lease;
use crate::{clock::Clock, ids::Ids};

/// When an operation happens, and where the ids of what it makes come from.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The time.
    pub now: Timestamp,
    ids: &'a Ids,
}

impl<'a> Moment<'a> {
    /// The present. Asked for inside a transaction, so that whatever came while it waited for its turn has come.
    #[must_use]
    pub fn of(clock: &dyn Clock, ids: &'a Ids) -> Self {
        Self::at(clock.now(), ids)
    }

    /// A moment that is known already.
    #[must_use]
    pub fn at(now: Timestamp, ids: &'a Ids) -> Self {
        Self { now, ids }
    }

    /// A new id of any kind.
    pub(super) fn id<T: From<Uuid>>(&self) -> T {
        self.ids.uuid(self.now).into()
    }
}
