//! The checker: judges the evidence of a run, with an evaluator of its own for what was due.
//!
//! It asks nobody what should have happened: what was due follows from the patterns that were asked for, and who may
//! write what from the leases. Where two answers are right, because an answer was lost or clocks differ, it takes
//! either, and nothing else.

mod deliveries;
mod jobs;
mod ledger;
mod requests;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::evidence::Evidence;

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its name, the same in every run.
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.rule, self.what)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) violations: Vec<Violation>,
    /// What is worth a line in the report.
    pub(crate) notes: Vec<(&'static str, usize)>,
}

impl Found {
    fn add(&mut self, rule: &'static str, what: impl Into<String>) {
        self.violations.push(Violation {
            rule,
            what: what.into(),
        });
    }

    fn note(&mut self, what: &'static str, count: usize) {
        self.notes.push((what, count));
    }
}

pub(crate) fn check(evidence: &Evidence) -> Found {
    let mut found = Found::default();
    ledger::check(evidence, &mut found);
    jobs::check(evidence, &mut found);
    deliveries::check(evidence, &mut found);
    requests::check(evidence, &mut found);
    found
}
