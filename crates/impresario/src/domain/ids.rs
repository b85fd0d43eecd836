//! A type for each kind of id, so that a job's id cannot be handed in where a schedule's is asked for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

id! {
    /// A tenant.
    TenantId,
    /// An API key (not the key itself).
    KeyId,
    /// A sealed secret.
    SecretId,
    /// A deployment.
    DeploymentId,
    /// A workflow's name within a tenant.
    WorkflowId,
    /// A schedule.
    ScheduleId,
    /// A job.
    JobId,
    /// A stored webhook.
    EndpointId,
    /// A delivery: one event on its way to one receiver.
    DeliveryId,
    /// A stored credential.
    CredentialId,
    /// A browser profile.
    ProfileId,
}
