//! Stored webhooks and the deliveries to them.

use jiff::Timestamp;
use uuid::Uuid;

/// A stored webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEndpoint {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// Where callbacks are posted.
    pub url: String,
    /// Signs them; sealed for this row.
    pub signing_secret: Vec<u8>,
    /// For people.
    pub description: Option<String>,
    /// Whether it receives anything.
    pub active: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// How long to wait after each failed attempt, in seconds: ten attempts, the first seven of them within a day, as the
/// Standard Webhooks recommendations space them.
pub const RETRY_AFTER_SECONDS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 86_400, 86_400, 86_400];

/// How long to wait after attempt number `attempt` (from 1) failed; `None` where that was the last.
#[must_use]
pub fn retry_after(attempt: u32) -> Option<std::time::Duration> {
    let index = usize::try_from(attempt).ok()?.checked_sub(1)?;
    RETRY_AFTER_SECONDS.get(index).map(|seconds| std::time::Duration::from_secs(*seconds))
}
