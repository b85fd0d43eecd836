//! Each due instant of each schedule is in exactly one row of the ledger, or waits; and no row is of anything else.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde_json::Value;

use super::Found;
use crate::{
    audit::Entry,
    clocks::text,
    cron,
    evidence::{Evidence, Fire},
    plan::{MINUTE, SECOND},
    work::What,
};

/// A time in which a schedule stood as its owner had put it.
#[derive(Debug, Clone)]
struct Era {
    n: i64,
    cron: String,
    zone: String,
    start: Option<i64>,
    end: Option<i64>,
    enabled: bool,
    jitter: i64,
    /// Nothing before this is owed.
    since: i64,
    /// When it began, by the clock of the node that wrote it.
    begun: i64,
}

impl Era {
    /// `None` for a row that is being made.
    fn of(entry: &Entry) -> Option<Self> {
        let (now, was) = (&entry.now, &entry.was);
        let text = |name: &str| now[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| now[name].as_i64();
        let (enabled, was_enabled) = (is_true(&now["enabled"]), is_true(&was["enabled"]));
        // A schedule that disables itself has not been changed by its owner.
        let by_itself = was_enabled && !enabled && was["updated_at"] == now["updated_at"];
        let begun = number("disabled_at")
            .filter(|_| by_itself)
            .or(number("updated_at"))?;
        let era = Self {
            n: entry.n,
            cron: text("cron_expr"),
            zone: text("timezone"),
            start: number("start_at"),
            end: number("end_at"),
            enabled,
            jitter: number("jitter_seconds").unwrap_or(0) * SECOND,
            since: number("pattern_since")?,
            begun,
        };
        (!era.cron.is_empty()).then_some(era)
    }
}

/// The instants of patterns, each worked out once.
struct Patterns {
    known: HashMap<(String, String), Rc<[i64]>>,
    span: (i64, i64),
}

impl Patterns {
    /// Those within the bounds, from after `after` to `until`.
    fn of(&mut self, era: &Era, after: i64, until: i64) -> Vec<i64> {
        let (from, to) = self.span;
        let key = (era.cron.clone(), era.zone.clone());
        let all = self
            .known
            .entry(key)
            .or_insert_with(|| cron::instants(&era.cron, &era.zone, from, to).into());
        let within = |at: &&i64| {
            **at > after
                && **at <= until
                && era.start.is_none_or(|start| **at >= start)
                && era.end.is_none_or(|end| **at < end)
        };
        all.iter().filter(within).copied().collect()
    }

    fn has(&mut self, era: &Era, at: i64) -> bool {
        !self.of(era, at - 1, at).is_empty()
    }
}

/// One schedule's part of the evidence.
struct One<'a> {
    id: &'a str,
    eras: Vec<Era>,
    /// When it was deleted, as far as that is certain: no node's clock showed less.
    deleted: Option<i64>,
    rows: Vec<&'a Fire>,
    /// What was written to its ledger.
    writes: &'a [&'a Entry],
}

pub(super) fn check(evidence: &Evidence, found: &mut Found) {
    let (of_schedules, of_fires) = (evidence.writes("schedules"), evidence.writes("fires"));
    let mut rows: BTreeMap<&str, Vec<&Fire>> = BTreeMap::new();
    for row in &evidence.fires {
        rows.entry(&row.schedule_id).or_default().push(row);
    }
    let mut patterns = Patterns {
        known: HashMap::new(),
        // What was asked for begins after the clocks did.
        span: (
            evidence.shown.earliest_of_all() - 60 * MINUTE,
            evidence.end + 60 * MINUTE,
        ),
    };
    for id in rows.keys().filter(|id| !of_schedules.contains_key(*id)) {
        found.add("row of no schedule", *id);
    }
    let mut due = 0;
    for (id, entries) in &of_schedules {
        let one = One {
            id,
            eras: entries.iter().filter_map(|entry| Era::of(entry)).collect(),
            deleted: deleted(evidence, id, entries),
            rows: rows.remove(id).unwrap_or_default(),
            writes: of_fires.get(id).map_or(&[], Vec::as_slice),
        };
        one.rows_are_of_instants(evidence, &mut patterns, found);
        one.rows_are_apart(evidence, &mut patterns, found);
        due += one.instants_have_rows(evidence, &mut patterns, found);
    }
    found.note("instants recomputed", due);
}

fn deleted(evidence: &Evidence, id: &str, entries: &[&Entry]) -> Option<i64> {
    entries.iter().find(|entry| entry.what == "DELETE")?;
    let asked = evidence.ops.iter().find_map(|op| match &op.what {
        What::Delete { schedule } if schedule == id => Some(op.begun),
        _ => None,
    });
    // A node that was stopped goes by the clock of before, for a moment.
    let stale = evidence.speed * 10 * SECOND;
    Some(asked.map_or(i64::MIN, |real| evidence.shown.earliest(real) - stale))
}

impl One<'_> {
    /// How the schedule stood when something was written.
    fn era_at(&self, n: i64) -> Option<&Era> {
        self.eras.iter().rev().find(|era| era.n < n)
    }

    /// The last write that made a row what it is.
    fn write_of(&self, row: &Fire) -> Option<&Entry> {
        let made = |entry: &&&Entry| {
            let inserts = entry.what == "INSERT" || row.outcome == "missed";
            inserts && entry.now["fire_at"] == row.fire_at
        };
        self.writes.iter().rev().find(made).copied()
    }

    fn rows_are_of_instants(&self, evidence: &Evidence, patterns: &mut Patterns, found: &mut Found) {
        for row in &self.rows {
            let line = || format!("schedule {}: {}", self.id, line(row));
            let Some(write) = self.write_of(row) else {
                found.add("row that nobody wrote", line());
                continue;
            };
            let Some(era) = self.era_at(write.n) else {
                found.add(
                    "row of no instant",
                    format!("{} (before the schedule was there)", line()),
                );
                continue;
            };
            let latest = evidence.shown.latest(write.at);
            if row.until() > latest {
                found.add("early", format!("{}: no clock was past {}", line(), text(latest)));
            }
            if row.outcome == "missed" {
                let inside = patterns.of(era, row.fire_at - 1, row.until());
                let ends = (inside.first(), inside.last());
                let count = i64::try_from(inside.len()).unwrap();
                if ends != (Some(&row.fire_at), Some(&row.until())) || count != row.missed {
                    let (cron, zone) = (&era.cron, &era.zone);
                    found.add(
                        "wrong range",
                        format!("{}: {count} instants of {cron} {zone}", line()),
                    );
                }
                continue;
            }
            if !patterns.has(era, row.fire_at) || row.fire_at <= era.since {
                let (cron, zone, since) = (&era.cron, &era.zone, text(era.since));
                found.add(
                    "row of no instant",
                    format!("{}: {cron} {zone} since {since}", line()),
                );
            }
            if !era.enabled {
                found.add("fired while disabled", line());
            }
            let due = row.due_at.unwrap_or(row.fire_at);
            if due < row.fire_at || due > row.fire_at + era.jitter || row.recorded_at < due {
                found.add("early", format!("{}: due at {}", line(), text(due)));
            }
        }
        let gone = self.writes.iter().filter(|entry| entry.what != "INSERT");
        for entry in gone {
            let (was, now) = (&entry.was, &entry.now);
            let settled = was["outcome"] != "missed" && !was["job_id"].is_null();
            if settled && (now["fire_at"] != was["fire_at"] || now["job_id"] != was["job_id"]) {
                found.add(
                    "row taken back",
                    format!("schedule {}: {was} became {now}", self.id),
                );
            }
        }
        let after = self
            .writes
            .iter()
            .find(|entry| self.is_deleted_before(evidence, entry));
        if let Some(entry) = after {
            found.add(
                "fired after the delete",
                format!("schedule {}: {}", self.id, entry.now),
            );
        }
    }

    fn is_deleted_before(&self, evidence: &Evidence, entry: &Entry) -> bool {
        let delete = |one: &&Entry| one.table == "schedules" && one.what == "DELETE" && one.id == self.id;
        self.deleted.is_some()
            && evidence
                .audit
                .iter()
                .find(delete)
                .is_some_and(|delete| delete.n < entry.n)
    }

    /// No instant is in two rows, nor in one and among those that wait.
    fn rows_are_apart(&self, evidence: &Evidence, patterns: &mut Patterns, found: &mut Found) {
        for pair in self.rows.windows(2) {
            if pair[0].fire_at == pair[1].fire_at {
                let (one, other) = (line(pair[0]), line(pair[1]));
                found.add(
                    "instant in two rows",
                    format!("schedule {}: {one}; {other}", self.id),
                );
            }
        }
        let waits = evidence
            .catch_ups
            .iter()
            .filter(|range| range.schedule_id == self.id);
        let waiting: Vec<(i64, i64, String)> = waits
            .map(|range| {
                let (from, until) = (range.from_at, range.until_at);
                (
                    from,
                    until,
                    format!("waits from {} to {}", text(from), text(until)),
                )
            })
            .collect();
        let ranges = self.rows.iter().filter(|row| row.outcome == "missed");
        let ranges = ranges.map(|row| (row.fire_at, row.until(), line(row), self.write_of(row)));
        let ranges = ranges.chain(
            waiting
                .into_iter()
                .map(|(from, until, line)| (from, until, line, None)),
        );
        let ranges: Vec<_> = ranges.collect();
        for (index, (from, until, shown, write)) in ranges.iter().enumerate() {
            let era = write.map_or(self.eras.last(), |write| self.era_at(write.n));
            let Some(era) = era else { continue };
            let within = |at: i64| at > *from && at <= *until;
            for row in self.rows.iter().filter(|row| row.outcome != "missed") {
                let same = row.fire_at == *from && write.is_none();
                if (same || within(row.fire_at)) && patterns.has(era, row.fire_at) {
                    found.add(
                        "instant in two rows",
                        format!("schedule {}: {}; {shown}", self.id, line(row)),
                    );
                }
            }
            for (other_from, other_until, other, _) in &ranges[index + 1..] {
                let (low, high) = (from.max(other_from), until.min(other_until));
                if low <= high && !patterns.of(era, low - 1, *high).is_empty() {
                    found.add(
                        "instant in two rows",
                        format!("schedule {}: {shown}; {other}", self.id),
                    );
                }
            }
        }
        for range in evidence
            .catch_ups
            .iter()
            .filter(|range| range.schedule_id == self.id)
        {
            let Some(era) = self.eras.last() else { continue };
            let inside = patterns.of(era, range.from_at - 1, range.until_at).len();
            if i64::try_from(inside).unwrap() != range.instants {
                found.add(
                    "wrong range",
                    format!("schedule {}: {range:?} has {inside}", self.id),
                );
            }
        }
    }

    /// Each instant that was owed is accounted for. How many they are.
    fn instants_have_rows(&self, evidence: &Evidence, patterns: &mut Patterns, found: &mut Found) -> usize {
        let mut owed = Vec::new();
        for (index, era) in self.eras.iter().enumerate().filter(|(_, era)| era.enabled) {
            let next = self.eras.get(index + 1).map(|next| next.begun);
            // Of the last, what is spread beyond the end of the run may still be on its way.
            let until = next.or(self.deleted).unwrap_or(evidence.end - era.jitter);
            owed.extend(patterns.of(era, era.since, until));
        }
        owed.sort_unstable();
        owed.dedup();
        let waits = |at: i64| {
            let mut of_schedule = evidence
                .catch_ups
                .iter()
                .filter(|range| range.schedule_id == self.id);
            of_schedule.any(|range| (range.from_at..=range.until_at).contains(&at))
        };
        for at in &owed {
            let covered = self.rows.iter().any(|row| match row.outcome.as_str() {
                "missed" => (row.fire_at..=row.until()).contains(at),
                _ => row.fire_at == *at,
            });
            if !covered && !waits(*at) {
                found.add(
                    "instant without a row",
                    format!("schedule {}: {}\n{}", self.id, text(*at), self.story()),
                );
            }
        }
        owed.len()
    }

    /// What was asked of it and what was written, for whoever has to find out.
    fn story(&self) -> String {
        let eras = self.eras.iter().map(|era| {
            let Era {
                n,
                cron,
                zone,
                enabled,
                ..
            } = era;
            let (begun, since) = (text(era.begun), text(era.since));
            format!(
                "    [{n}] {begun}: {cron} {zone}, enabled: {enabled}, since {since}, jitter {}",
                era.jitter
            )
        });
        let rows = self.rows.iter().map(|row| {
            let n = self.write_of(row).map(|write| (write.n, write.who.clone()));
            format!("    {} {n:?}", line(row))
        });
        eras.chain(rows).collect::<Vec<_>>().join("\n")
    }
}

/// A row on one line.
fn line(row: &Fire) -> String {
    let until = row
        .missed_until
        .map_or_else(String::new, |until| format!(" until {}", text(until)));
    let reason = row.reason.as_deref().unwrap_or("-");
    let job = row.job_id.as_deref().unwrap_or("no job");
    let (at, written) = (text(row.fire_at), text(row.recorded_at));
    format!(
        "{at} {} {reason} {}{until} {job}, written at {written}",
        row.outcome, row.missed
    )
}

/// Whether a value of the record says so: SQLite has numbers for it.
pub(super) fn is_true(value: &Value) -> bool {
    value == &Value::Bool(true) || value == 1
}
