//! What a holder has for a while: a token that each of its writes must show, and where several nodes share the database, an
//! end that it puts off as long as it lives.

use std::time::Duration;

use crate::store::{error::Result, tx::Tx};

/// What something is claimed under.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// Unique to the claim: what was claimed is written to by nobody who cannot show it.
    pub token: &'a str,
    /// How long the claim lasts unless it is extended. It counts only where leases have an end: see
    /// [`Dialect::lease_clock`](crate::store::Dialect::lease_clock).
    pub length: Duration,
}

impl Lease<'_> {
    /// When it ends if it begins now, in milliseconds on the clock of leases; nothing where leases have no end.
    pub(super) fn until(self, tx: &mut Tx<'_>) -> Result<Option<i64>> {
        until(tx, self.length)
    }
}

/// As [`Lease::until`], for a lease that is extended.
pub(super) fn until(tx: &mut Tx<'_>, length: Duration) -> Result<Option<i64>> {
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    Ok(tx.lease_clock()?.map(|now| now.saturating_add(length)))
}

/// The condition that a lease has run out, at the instant that the parameter of this name has. Also one that lies further
/// ahead than any can be made for: the clock was set back since, and its holder has not extended it by the new time. The
/// longest lease is ten minutes.
pub(super) fn has_run_out(now: &str) -> String {
    format!("lease_until IS NOT NULL AND (lease_until <= {now} OR lease_until - 1200000 > {now})")
}
