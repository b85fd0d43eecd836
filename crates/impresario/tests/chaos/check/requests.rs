//! What was acknowledged holds, once; what was refused had a reason; what was lost happened once or not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Found, ledger::is_true};
use crate::{
    audit::Entry,
    evidence::Evidence,
    work::{Did, Op, What},
};

pub(super) fn check(evidence: &Evidence, found: &mut Found) {
    for op in &evidence.ops {
        if let Did::Refused(status, message) = &op.did
            && !may_be_refused(evidence, op, *status)
        {
            found.add(
                "refused without a reason",
                format!("{:?}: {status} {message}", op.what),
            );
        }
    }
    marked(evidence, found);
    updates(evidence, found);
    creations(evidence, found);
    for deployment in &evidence.unbuilt {
        found.add("deployment without an end", deployment);
    }
    let lost = evidence
        .ops
        .iter()
        .filter(|op| matches!(op.did, Did::Unknown))
        .count();
    found.note("requests", evidence.ops.len());
    found.note("of unknown outcome", lost);
}

fn may_be_refused(evidence: &Evidence, op: &Op, status: u16) -> bool {
    let deleted = |id: &String| {
        evidence.ops.iter().any(|other| {
            matches!(&other.what, What::Delete { schedule } if schedule == id)
                && !std::ptr::eq(other, op)
                && other.begun <= op.ended
        })
    };
    match (&op.what, status) {
        // It had ended.
        (What::Cancel { .. }, 409) => true,
        (What::Update { schedule, .. } | What::Trigger { schedule, .. }, 404) => deleted(schedule),
        _ => false,
    }
}

/// A request for a job makes one, however often it is asked for with the same nonce.
fn marked(evidence: &Evidence, found: &mut Found) {
    let mut made: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in evidence.jobs.iter().filter(|job| job.fire_at.is_none()) {
        match job.param("mark") {
            Some(mark) => made.entry(mark).or_default().push(&job.id),
            None => found.add("job that nobody asked for", &job.id),
        }
    }
    let mut told: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
    let mut asked: BTreeMap<&String, (bool, bool)> = BTreeMap::new();
    for op in &evidence.ops {
        let (What::Job { mark, .. } | What::Trigger { mark, .. }) = &op.what else {
            continue;
        };
        let (may, nonce) = asked.entry(mark).or_default();
        *may |= op.did.may_have_happened();
        *nonce |= matches!(op.what, What::Job { nonce: true, .. });
        if let Did::Done(answer) = &op.did {
            told.entry(mark)
                .or_default()
                .insert(answer["job_id"].as_str().unwrap_or_default());
        }
    }
    for (mark, (may, nonce)) in asked {
        let jobs = made.get(mark).map_or(&[][..], Vec::as_slice);
        if jobs.len() > 1 {
            found.add(
                "one request, two jobs",
                format!("{mark} (nonce: {nonce}): {jobs:?}"),
            );
        }
        if !may && !jobs.is_empty() {
            found.add("refused and done", format!("{mark}: {jobs:?}"));
        }
        let told = told.get(mark).cloned().unwrap_or_default();
        if told.iter().any(|job| !jobs.contains(job)) {
            found.add(
                "acknowledged and lost",
                format!("{mark}: {told:?} was told, there is {jobs:?}"),
            );
        }
    }
}

/// The changes of owners: a new `updated_at`, or a first pattern.
fn changes<'a>(entries: &[&'a Entry]) -> Vec<&'a Entry> {
    let made = |entry: &Entry| entry.was["cron_expr"] == "";
    let changed = |entry: &Entry| {
        entry.what == "UPDATE" && !made(entry) && entry.was["updated_at"] != entry.now["updated_at"]
    };
    entries.iter().copied().filter(|entry| changed(entry)).collect()
}

fn holds(entry: &Entry, input: &Value) -> bool {
    // A row that is being made has nothing yet.
    if entry.now["cron_expr"] == "" {
        return false;
    }
    let kept = |name: &str| !entry.now[name].is_null();
    let fields = input.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| kept(name))
        .all(|(name, wanted)| match name.as_str() {
            "enabled" => is_true(&entry.now[name]) == (*wanted == Value::Bool(true)),
            _ => entry.now[name] == *wanted,
        })
}

fn updates(evidence: &Evidence, found: &mut Found) {
    let of_schedules = evidence.writes("schedules");
    let mut asked: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in &evidence.ops {
        if let What::Update { schedule, .. } = &op.what {
            asked.entry(schedule).or_default().push(op);
        }
    }
    for (schedule, ops) in asked {
        let changes = of_schedules
            .get(schedule)
            .map_or(Vec::new(), |entries| changes(entries));
        let may = ops.iter().filter(|op| op.did.may_have_happened()).count();
        if changes.len() > may {
            found.add(
                "one request, two changes",
                format!(
                    "schedule {schedule} was changed {} times by {may} requests",
                    changes.len()
                ),
            );
        }
        for op in ops {
            let (What::Update { input, .. }, Did::Done(_)) = (&op.what, &op.did) else {
                continue;
            };
            // Two changes in one millisecond of a clock that stands have one `updated_at`, so what is looked for is what
            // held within the time of the request.
            let entries = of_schedules.get(schedule).map_or(&[][..], Vec::as_slice);
            let before = entries.iter().rev().find(|entry| entry.committed < op.begun);
            let within = entries
                .iter()
                .filter(|entry| entry.committed + 1 >= op.begun && entry.at <= op.ended);
            if !within
                .chain(before)
                .any(|entry| entry.what != "DELETE" && holds(entry, input))
            {
                found.add("acknowledged and lost", format!("schedule {schedule}: {input}"));
            }
        }
    }
}

fn creations(evidence: &Evidence, found: &mut Found) {
    let of_schedules = evidence.writes("schedules");
    let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, entries) in &of_schedules {
        if let Some(name) = entries.iter().find_map(|entry| entry.now["name"].as_str()) {
            by_name.entry(name).or_default().insert(id);
        }
    }
    for op in &evidence.ops {
        match (&op.what, &op.did) {
            (What::Create(spec), did) => {
                let made = by_name.get(spec.name.as_str()).map_or(0, BTreeSet::len);
                let fits = match did {
                    Did::Done(_) => made == 1,
                    Did::Unknown => made <= 1,
                    Did::Refused(..) | Did::NotSent => made == 0,
                };
                if !fits {
                    found.add(
                        "one request, not one schedule",
                        format!("{}: {made}, {did:?}", spec.name),
                    );
                }
            }
            (What::Delete { schedule }, Did::Done(_)) => {
                let entries = of_schedules.get(schedule.as_str());
                let gone = entries.is_some_and(|entries| entries.iter().any(|entry| entry.what == "DELETE"));
                if !gone {
                    found.add(
                        "acknowledged and lost",
                        format!("the delete of schedule {schedule}"),
                    );
                }
            }
            _ => {}
        }
    }
}
