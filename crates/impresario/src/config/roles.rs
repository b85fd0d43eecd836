//! What a node does for the others that share its database.

use std::fmt;

/// A part of the work that a node may leave to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Answers the HTTP API.
    Api,
    /// Fires schedules.
    Scheduler,
    /// Builds deployments and runs jobs.
    Worker,
    /// Sends callbacks.
    Delivery,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Api, Self::Scheduler, Self::Worker, Self::Delivery];

    /// As the setting has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::Delivery => "delivery",
        }
    }
}

/// The roles of a node: one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.to_vec())
    }
}

impl Roles {
    /// Reads names with commas between them, in any order.
    ///
    /// # Errors
    /// What is allowed, as the end of a sentence that begins with the setting's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = || {
            let names = Role::ALL.map(Role::as_str).join(", ");
            format!("must be one or more of {names}, with commas between them")
        };
        let mut roles = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let role = Role::ALL.into_iter().find(|role| role.as_str() == name);
            roles.push(role.ok_or_else(allowed)?);
        }
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() {
            return Err(allowed());
        }
        Ok(Self(roles))
    }

    /// Whether the node has this one.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether it has all of them.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|role| role.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_in_any_order_and_said_in_one() {
        for (text, said) in [
            ("worker", "worker"),
            ("delivery, api ,worker", "api,worker,delivery"),
            ("api,api,", "api"),
            ("worker,delivery,scheduler,api", "api,scheduler,worker,delivery"),
        ] {
            assert_eq!(Roles::parse(text).unwrap().to_string(), said);
        }
        assert!(Roles::default().are_all() && !Roles::parse("api").unwrap().are_all());
        for wrong in ["", " , ", "API", "builder", "api;worker"] {
            let error = Roles::parse(wrong).unwrap_err();
            assert!(
                error.contains("api, scheduler, worker, delivery"),
                "{wrong}: {error}"
            );
        }
    }
}
