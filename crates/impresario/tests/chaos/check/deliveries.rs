//! Each job that ended is told to its receiver, at least once, and never in two ways.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::Found;
use crate::{
    audit::Entry,
    evidence::{Delivery, Evidence, Job},
};

pub(super) fn check(evidence: &Evidence, found: &mut Found) {
    for wrong in &evidence.heard.wrong {
        found.add("wrong callback", wrong);
    }
    let jobs: HashMap<&str, &Job> = evidence.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
    let mut of_jobs: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &evidence.deliveries {
        arrived(evidence, delivery, found);
        if let Some(job) = delivery
            .job_id
            .as_deref()
            .filter(|_| delivery.event.starts_with("job."))
        {
            of_jobs.entry(job).or_default().push(delivery);
            if !jobs.contains_key(job) {
                found.add("callback of no job", &delivery.id);
            }
        }
    }
    for job in &evidence.jobs {
        let owed = ["completed", "failed"].contains(&job.status.as_str());
        let receiver = evidence.receiver(job).filter(|_| owed);
        let told = of_jobs.get(job.id.as_str()).map_or(&[][..], Vec::as_slice);
        let urls: Vec<&str> = told.iter().map(|one| one.url.as_str()).collect();
        if urls != receiver.into_iter().collect::<Vec<_>>() {
            let line = format!(
                "job {} is {}: {urls:?} instead of {receiver:?}",
                job.id, job.status
            );
            found.add(
                if urls.len() > 1 {
                    "told in two ways"
                } else {
                    "wrong receivers"
                },
                line,
            );
        }
        for one in told {
            let body: Value = serde_json::from_str(&one.body).unwrap_or_default();
            let fits = body["job_id"] == job.id && body["status"] == job.status;
            if !fits || one.event != format!("job.{}", job.status) {
                found.add(
                    "told something else",
                    format!("job {} is {}: {}", job.id, job.status, one.body),
                );
            }
        }
    }
    for id in evidence.heard.by_id.keys() {
        if !evidence.deliveries.iter().any(|delivery| delivery.id == *id) {
            found.add("callback from nowhere", id);
        }
    }
    for (id, entries) in evidence.writes("deliveries") {
        transitions(id, &entries, found);
    }
    let told: usize = evidence.heard.by_id.values().map(|told| told.times).sum();
    found.note("callbacks", evidence.heard.by_id.len());
    found.note("times they were sent", told);
}

fn arrived(evidence: &Evidence, delivery: &Delivery, found: &mut Found) {
    let line = || {
        format!(
            "{} of job {:?} is {}",
            delivery.id, delivery.job_id, delivery.status
        )
    };
    if delivery.status != "delivered" {
        found.add("callback not delivered", line());
    }
    if delivery.lease_token.is_some() {
        found.add("lease left", format!("delivery {}", line()));
    }
    let told = evidence.heard.by_id.get(&delivery.id);
    if delivery.status == "delivered" && told.is_none_or(|told| told.taken == 0) {
        found.add("callback that nobody heard", line());
    }
    if told.is_some_and(|told| told.bodies.iter().any(|body| *body != delivery.body)) {
        found.add("callback with another body", line());
    }
}

/// Only its holder writes to a delivery, or anybody once the lease is over.
fn transitions(id: &str, entries: &[&Entry], found: &mut Found) {
    let mut holder: Option<&str> = None;
    for entry in entries {
        let (was, now) = (&entry.was, &entry.now);
        let line = || format!("delivery {id} [{}] by {}: {was} became {now}", entry.n, entry.who);
        if was["status"] == "delivered" {
            found.add("write after the end", line());
        }
        let over = was["lease_until"].as_i64().is_none_or(|until| until <= entry.at);
        let leaves = !was["lease_token"].is_null() && was["lease_token"] != now["lease_token"];
        if leaves && holder.is_some_and(|holder| holder != entry.who) && !over {
            found.add(
                "lease taken while it ran",
                format!("{}, held by {holder:?}, at {}", line(), entry.at),
            );
        }
        if was["lease_token"] != now["lease_token"] {
            holder = now["lease_token"].as_str().map(|_| entry.who.as_str());
        }
    }
}
