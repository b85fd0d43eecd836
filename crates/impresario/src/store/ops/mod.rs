//! The operations, in a file per family of tables. Each runs inside one transaction and says what became of it;
//! "not found" and "name taken" are answers, not errors.

pub mod credentials;
pub mod deliveries;
pub mod deployments;
mod fair;
pub mod fires;
#[cfg(test)]
mod fixture;
pub mod jobs;
pub mod logs;
mod query;
pub mod schedules;
pub mod secrets;
pub mod settings;
pub mod tenants;
pub mod webhooks;
