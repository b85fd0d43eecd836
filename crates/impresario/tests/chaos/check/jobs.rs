//! Each fire has one job and each job one end; no code starts twice; nobody writes to what is not theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Found, ledger::is_true};
use crate::{
    audit::Entry,
    evidence::{Evidence, Job},
    work::What,
};

const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];
/// Those a job has while somebody holds it.
const HELD: [&str; 2] = ["starting_browser", "running"];

pub(super) fn check(evidence: &Evidence, found: &mut Found) {
    let by_id: HashMap<&str, &Job> = evidence.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
    fires_and_jobs(evidence, &by_id, found);
    ends(evidence, found);
    runs(evidence, &by_id, found);
    causes(evidence, found);
    let writes = evidence.writes("jobs");
    for (id, entries) in &writes {
        transitions(id, entries, found);
    }
    logs(evidence, &by_id, &writes, found);
    overlaps(evidence, found);
}

fn fires_and_jobs(evidence: &Evidence, by_id: &HashMap<&str, &Job>, found: &mut Found) {
    let mut of_fires = BTreeSet::new();
    for row in &evidence.fires {
        let at = (row.schedule_id.as_str(), row.fire_at);
        match (row.outcome.as_str(), &row.job_id) {
            ("fired", Some(job)) => {
                of_fires.insert(job.as_str());
                let fits = by_id
                    .get(job.as_str())
                    .is_some_and(|job| (job.schedule_id.as_deref(), job.fire_at) == (Some(at.0), Some(at.1)));
                if !fits {
                    found.add("fire without its job", format!("{at:?} says {job}"));
                }
            }
            ("fired", None) => found.add("fire without its job", format!("{at:?}")),
            (_, Some(job)) => found.add("row that has a job", format!("{at:?} {} {job}", row.outcome)),
            _ => {}
        }
    }
    let mut at = BTreeMap::new();
    for job in &evidence.jobs {
        let (Some(schedule), Some(fire_at)) = (&job.schedule_id, job.fire_at) else {
            continue;
        };
        if !of_fires.contains(job.id.as_str()) {
            found.add(
                "job without its fire",
                format!("{} of {schedule} at {fire_at}", job.id),
            );
        }
        if let Some(other) = at.insert((schedule, fire_at), &job.id) {
            found.add(
                "two jobs of one fire",
                format!("{other} and {} of {schedule} at {fire_at}", job.id),
            );
        }
    }
}

fn ends(evidence: &Evidence, found: &mut Found) {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &evidence.jobs {
        if !FINAL.contains(&job.status.as_str()) {
            found.add("job without an end", format!("{} is {}", job.id, job.status));
        }
        if job.lease_token.is_some() {
            found.add("lease left", format!("job {} is {}", job.id, job.status));
        }
        if job.status == "failed" {
            let class = job.failure_class.as_deref().unwrap_or("none");
            *classes.entry(class).or_default() += 1;
            // What fails here fails on purpose, or because its node was lost.
            if !["workflow", "worker_lost"].contains(&class) {
                let error = job.error.as_deref().unwrap_or_default();
                found.add(
                    "failed for no fault of its own",
                    format!("job {}: {class}: {error}", job.id),
                );
            }
        }
    }
    for lease in &evidence.other_leases {
        found.add("lease left", lease);
    }
    for status in FINAL {
        let count = evidence.jobs.iter().filter(|job| job.status == status).count();
        found.note(status, count);
    }
    found.note(
        "lost with their worker",
        classes.get("worker_lost").copied().unwrap_or(0),
    );
}

/// What the code itself wrote when it ran.
fn runs(evidence: &Evidence, by_id: &HashMap<&str, &Job>, found: &mut Found) {
    let mut begun: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for run in &evidence.runs {
        match run.what.as_str() {
            "begin" => begun.entry(&run.job).or_default().push(&run.run),
            _ => {
                ended.insert(&run.run);
            }
        }
    }
    for (job, runs) in &begun {
        if runs.len() > 1 {
            found.add("code started twice", format!("job {job}: {runs:?}"));
        }
        if !by_id.contains_key(job) {
            found.add("run of no job", *job);
        }
    }
    let mut lost_before = 0;
    for job in &evidence.jobs {
        let run = begun.get(job.id.as_str()).and_then(|runs| runs.first()).copied();
        let result = job.result.as_deref().unwrap_or_default();
        match (job.status.as_str(), job.failure_class.as_deref()) {
            ("completed", _) => {
                let fits = run.is_some_and(|run| result.contains(run) && ended.contains(run));
                if !fits {
                    found.add(
                        "wrong end",
                        format!("job {} completed with {result}, its run is {run:?}", job.id),
                    );
                }
            }
            ("failed", Some("workflow")) => {
                let error = job.error.as_deref().unwrap_or_default();
                if !run.is_some_and(|run| error.contains(run)) {
                    found.add(
                        "wrong end",
                        format!("job {} failed with {error}, its run is {run:?}", job.id),
                    );
                }
            }
            _ if !result.is_empty() => {
                found.add(
                    "wrong end",
                    format!("job {} is {} with {result}", job.id, job.status),
                );
            }
            ("failed", Some("worker_lost")) if run.is_none() => lost_before += 1,
            _ => {}
        }
    }
    // Its start was stored and its code was not let go yet: nobody can tell afterwards.
    found.note(
        "lost between the store of their start and their first line",
        lost_before,
    );
}

/// Nobody's job ends as cancelled unless somebody wanted it.
fn causes(evidence: &Evidence, found: &mut Found) {
    let asked: BTreeSet<&str> = evidence
        .ops
        .iter()
        .filter_map(|op| match &op.what {
            What::Cancel { job } if op.did.may_have_happened() => Some(job.as_str()),
            _ => None,
        })
        .collect();
    for job in evidence.jobs.iter().filter(|job| job.status == "cancelled") {
        let spec = job.schedule_id.as_ref().and_then(|id| evidence.specs.get(id));
        let replaced = spec.is_some_and(|spec| spec.overlap == "cancel_running");
        if !asked.contains(job.id.as_str()) && !replaced {
            found.add("cancelled by nobody", format!("job {}", job.id));
        }
    }
}

/// Each step of a job is one that its holder may take, or somebody else once the lease is over.
fn transitions(id: &str, entries: &[&Entry], found: &mut Found) {
    let mut holder: Option<&str> = None;
    for entry in entries {
        let (was, now) = (&entry.was, &entry.now);
        let status = |of: &serde_json::Value| of["status"].as_str().unwrap_or_default().to_owned();
        let (from, to) = (status(was), status(now));
        let line = || format!("job {id} [{}] by {}: {was} became {now}", entry.n, entry.who);
        if entry.what == "DELETE" {
            found.add("job deleted", line());
            continue;
        }
        if FINAL.contains(&from.as_str()) {
            found.add("write after the end", line());
            continue;
        }
        let allowed = match (from.as_str(), to.as_str()) {
            ("", "queued") | ("queued", "starting_browser" | "cancelled") => true,
            ("starting_browser", "running" | "queued") => true,
            ("running", "queued") => holder == Some(&entry.who),
            (held, to) if HELD.contains(&held) => FINAL.contains(&to) || to == held,
            (from, to) => from == to,
        };
        if !allowed {
            found.add("wrong step", line());
        }
        let leaves =
            HELD.contains(&from.as_str()) && (from != to || was["lease_token"] != now["lease_token"]);
        let over = was["lease_until"].as_i64().is_none_or(|until| until <= entry.at);
        if leaves && holder.is_some_and(|holder| holder != entry.who) && !over {
            let holder = holder.unwrap_or_default();
            found.add(
                "lease taken while it ran",
                format!("{}, held by {holder}, at {}", line(), entry.at),
            );
        }
        if to == "starting_browser" && from == "queued" {
            holder = Some(&entry.who);
            let now_token = now["lease_token"].as_str();
            if now_token.is_none() {
                found.add("held without a lease", line());
            }
        }
        if !HELD.contains(&to.as_str()) {
            holder = None;
        }
    }
}

fn logs(
    evidence: &Evidence,
    by_id: &HashMap<&str, &Job>,
    writes: &BTreeMap<&str, Vec<&Entry>>,
    found: &mut Found,
) {
    let mut seen = BTreeSet::new();
    for log in &evidence.logs {
        if !seen.insert((&log.job_id, &log.message)) {
            found.add("log line twice", format!("job {}: {}", log.job_id, log.message));
        }
        let its_own = |run: &&crate::evidence::Run| run.job == log.job_id && run.run == log.message;
        if !evidence.runs.iter().any(|run| its_own(&run)) {
            found.add(
                "log of another run",
                format!("job {}: {}", log.job_id, log.message),
            );
        }
        if !by_id.contains_key(log.job_id.as_str()) {
            found.add("log of no job", &log.job_id);
        }
    }
    for entry in evidence.audit.iter().filter(|entry| entry.table == "job_logs") {
        let steps = writes.get(entry.id.as_str()).map_or(&[][..], Vec::as_slice);
        let claim = steps
            .iter()
            .rev()
            .find(|step| step.n < entry.n && step.now["status"] == "starting_browser");
        let holder = claim.map(|claim| claim.who.as_str());
        let status = entry.job["status"].as_str().unwrap_or_default();
        if !HELD.contains(&status) || holder != Some(&entry.who) {
            found.add(
                "log of a stale holder",
                format!(
                    "job {} [{}] by {}: it was {status}, of {holder:?}",
                    entry.id, entry.n, entry.who
                ),
            );
        }
    }
}

/// Where runs must not overlap, at most one job of a schedule's fires is held at a time.
fn overlaps(evidence: &Evidence, found: &mut Found) {
    let mut held: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for entry in evidence.audit.iter().filter(|entry| entry.table == "jobs") {
        let Some(schedule) = entry.now["schedule_id"].as_str() else {
            continue;
        };
        let exclusive = evidence
            .specs
            .get(schedule)
            .is_some_and(|spec| spec.overlap != "allow");
        if !exclusive || entry.now["fire_at"].is_null() {
            continue;
        }
        let jobs = held.entry(schedule).or_default();
        let status = entry.now["status"].as_str().unwrap_or_default();
        if !HELD.contains(&status) {
            jobs.remove(entry.id.as_str());
        } else if jobs.insert(&entry.id) && jobs.len() > 1 {
            found.add(
                "runs overlap",
                format!("schedule {schedule} [{}]: {jobs:?}", entry.n),
            );
        }
    }
    skips(evidence, found);
}

/// An instant is only skipped for a job that was not finished when it came.
fn skips(evidence: &Evidence, found: &mut Found) {
    // When each job of a schedule was there, by when that could be seen: from the commit that made it to the one that
    // ended it.
    let mut spans: BTreeMap<&str, BTreeMap<&str, (i64, i64)>> = BTreeMap::new();
    for entry in evidence.audit.iter().filter(|entry| entry.table == "jobs") {
        let (Some(schedule), Some(status)) =
            (entry.now["schedule_id"].as_str(), entry.now["status"].as_str())
        else {
            continue;
        };
        let span = spans
            .entry(schedule)
            .or_default()
            .entry(&entry.id)
            .or_insert((entry.committed, i64::MAX));
        if FINAL.contains(&status) {
            span.1 = entry.committed;
        }
    }
    let writes = evidence.audit.iter().filter(|entry| entry.table == "fires");
    for entry in writes.filter(|entry| entry.now["outcome"] == "skipped_overlap") {
        let schedule = entry.id.as_str();
        let spec = evidence.specs.get(schedule);
        if spec.is_some_and(|spec| !["skip", "buffer_one"].contains(&spec.overlap)) {
            found.add(
                "skipped although it may overlap",
                format!("schedule {schedule}: {}", entry.now),
            );
        }
        // Milliseconds were cut off.
        let there = |(begun, ended): &(i64, i64)| *begun <= entry.at + 1 && *ended + 1 >= entry.at;
        // A transaction may have waited for rows after it had looked, for as long as a transaction may.
        let waited =
            |(begun, ended): &(i64, i64)| *begun <= entry.committed && *ended + 1 >= entry.at - LONGEST;
        let jobs = spans.get(schedule);
        let any = |of: &dyn Fn(&(i64, i64)) -> bool| jobs.is_some_and(|jobs| jobs.values().any(of));
        if !any(&there) && !any(&waited) {
            found.add(
                "skipped for nothing",
                format!("schedule {schedule} [{}]: {}", entry.n, entry.now),
            );
        }
    }
    let flags = evidence.audit.iter().filter(|entry| entry.table == "jobs");
    let bad = flags.filter(|entry| is_true(&entry.now["held"]) && entry.now["status"] == "running");
    for entry in bad {
        found.add("held back and running", format!("job {} [{}]", entry.id, entry.n));
    }
}

/// How long a fire may take from its look at the other jobs to its row.
const LONGEST: i64 = 2_000;
