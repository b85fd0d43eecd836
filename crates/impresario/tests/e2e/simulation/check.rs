//! What the server shows against what the model says, and what is said where they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{model::Row, ms, text, world::World};

impl World {
    /// The whole ledger of a schedule, oldest first.
    pub(super) fn ledger(&self, index: usize) -> Vec<Value> {
        let id = &self.schedules[index].id;
        let (mut rows, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = self.client.ok(
                "schedules/history",
                json!({"id": id, "limit": 200, "cursor": cursor}),
            );
            rows.extend(page["fires"].as_array().unwrap().iter().cloned());
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                rows.reverse();
                return rows;
            }
        }
    }

    /// Takes down the share of the next fire, which must be within its limits and the same at each look.
    pub(super) fn learn(&mut self, index: usize, view: &Value) {
        if let (Some(at), Some(due)) = (ms(&view["next_fire_at"]), ms(&view["next_due_at"])) {
            self.told(index, at, due);
        }
    }

    pub(super) fn told(&mut self, index: usize, at: i64, due: i64) {
        let model = &mut self.schedules[index].model;
        let latest = model.latest_due(at);
        let before = model.told.due.insert(at, due);
        let jitter = model.rule.jitter;
        if due < at || due > latest || before.is_some_and(|before| before != due) {
            let before = before.map(text);
            let (at, due, latest) = (text(at), text(due), text(latest));
            self.fail(
                index,
                &format!("{at} is due at {due}: it may be until {latest}, and was told as {before:?}"),
            );
        }
        if jitter > 0 && before.is_none() {
            self.shares.entry((at, latest - at)).or_default().push(due - at);
            self.count("shares seen", 1);
        }
    }

    /// Asks the ledger for the shares that no look has shown, because several instants went by at once.
    pub(super) fn know_shares(&mut self, index: usize) {
        let model = &self.schedules[index].model;
        let unknown =
            |at: Option<i64>| at.is_some_and(|at| at <= self.now && !model.told.due.contains_key(&at));
        let first = model.owed(self.now);
        let second = first.and_then(|at| model.first_after(at));
        if model.rule.jitter == 0 || !(!model.waiting.is_empty() || unknown(first) || unknown(second)) {
            return;
        }
        let rows = self.ledger(index);
        let told = &mut self.schedules[index].model.told;
        told.missed = rows
            .iter()
            .filter_map(|row| Some((ms(&row["fire_at"])?, ms(&row["missed_until"])?)))
            .collect();
        // A row of missed instants tells no share.
        let new: Vec<(i64, i64)> = rows
            .iter()
            .filter(|row| row["outcome"] != "missed")
            .filter_map(|row| Some((ms(&row["fire_at"])?, ms(&row["due_at"])?)))
            .filter(|(at, _)| first.is_some_and(|first| *at >= first))
            .collect();
        for (at, due) in new {
            self.told(index, at, due);
        }
    }

    /// The first thing that the server shows of a schedule and the model does not say.
    pub(super) fn differs(&self, index: usize, view: &Value) -> Option<String> {
        let model = &self.schedules[index].model;
        let next = model.next(self.now);
        let mut expected = json!({
            "enabled": model.rule.enabled,
            "state": model.state(self.now),
            "next_fire_at": next.map(text),
            "catching_up": model.waits(),
            "last_fire_at": model.last_fire.map(text),
            "consecutive_failures": model.failures,
        });
        if model.rule.jitter == 0 {
            expected["next_due_at"] = json!(next.map(text));
        }
        if view["disabled_reason"].is_string() != model.by_limit {
            return Some(format!("disabled_reason: {}", view["disabled_reason"]));
        }
        let differs = |(key, wanted): (&String, &Value)| {
            (view[key] != *wanted).then(|| format!("{key}: expected {wanted}, found {}", view[key]))
        };
        expected.as_object().unwrap().iter().find_map(differs)
    }

    pub(super) fn compare_all(&mut self) {
        for index in 0..self.schedules.len() {
            self.compare(index);
            self.compare_jobs(index);
        }
        let crowds = self.shares.values().filter(|shares| shares.len() > 4);
        for shares in crowds {
            let distinct: BTreeSet<_> = shares.iter().collect();
            assert!(
                distinct.len() > shares.len() / 2,
                "shares do not differ: {shares:?}"
            );
        }
    }

    /// Compares the whole ledger of a schedule with the model's, row by row.
    pub(super) fn compare(&mut self, index: usize) {
        let rows = self.ledger(index);
        let found: Vec<Row> = rows.iter().map(Row::read).collect();
        let model = &self.schedules[index].model;
        let expected: Vec<&Row> = model.ledger.values().collect();
        if found.iter().collect::<Vec<_>>() != expected {
            self.fail(index, "the ledgers differ");
        }
        let settled = model
            .settled
            .iter()
            .copied()
            .filter(|at| !model.waiting.iter().flatten().any(|waits| waits == at));
        if let Err(wrong) = covered(settled, &found) {
            self.fail(index, &wrong);
        }
        for row in &rows {
            if ms(&row["fired_at"]) < ms(&row["due_at"]) || ms(&row["due_at"]) < ms(&row["fire_at"]) {
                self.fail(index, &format!("out of order: {row}"));
            }
        }
        let (fires, missed) = (found.iter().filter(|row| row.job).count(), found.iter());
        let missed: u64 = missed
            .filter(|row| row.outcome == "missed")
            .map(|row| row.missed)
            .sum();
        self.count("rows compared", found.len());
        self.count("fires compared", fires);
        self.count("missed instants compared", usize::try_from(missed).unwrap());
        for row in found {
            let key = format!("{} {}", row.outcome, row.reason.as_deref().unwrap_or("-"));
            *self.kinds.entry(key).or_default() += 1;
        }
        for row in rows.iter().filter(|row| row["job_id"].is_string()) {
            let at = ms(&row["fire_at"]).unwrap();
            let known = self.schedules[index].job_ids.insert(at, row["job_id"].clone());
            assert!(
                known.is_none_or(|known| known == row["job_id"]),
                "another job: {row}"
            );
        }
    }

    /// The jobs of a schedule are those of its fires, not those that were triggered, and stand as the test left them.
    pub(super) fn compare_jobs(&mut self, index: usize) {
        let one = &self.schedules[index];
        let (mut found, mut cursor) = (BTreeMap::new(), Value::Null);
        loop {
            let input = json!({"schedule_id": one.id, "limit": 100, "cursor": cursor});
            let page = self.client.ok("jobs/list", input);
            for job in page["jobs"].as_array().unwrap() {
                found.insert(job["job_id"].to_string(), job["status"].clone());
            }
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        let mut expected = BTreeMap::new();
        for job in &one.model.jobs {
            let status = if job.ended { "cancelled" } else { "queued" };
            expected.insert(one.job_ids[&job.at].to_string(), json!(status));
        }
        if found != expected {
            self.fail(index, &format!("jobs: expected {expected:?}, found {found:?}"));
        }
    }

    /// Ends the test: what was asked for, what happened, and both ledgers side by side.
    pub(super) fn fail(&self, index: usize, why: &str) -> ! {
        let one = &self.schedules[index];
        let mut events: Vec<_> = one
            .log
            .iter()
            .chain(&self.log)
            .filter(|(at, _)| *at >= one.log[0].0)
            .collect();
        events.sort_by_key(|(at, _)| *at);
        let skipped = events.len().saturating_sub(80);
        let events: Vec<String> = events[skipped..]
            .iter()
            .map(|(at, what)| format!("{} {what}", text(*at)))
            .collect();
        let (mut found, mut written) = (BTreeMap::new(), BTreeMap::new());
        // The schedule may have been deleted.
        let there = self.client.call("schedules/get", &json!({"id": one.id})).status == 200;
        let rows = if there { self.ledger(index) } else { Vec::new() };
        for row in rows {
            let read = Row::read(&row);
            found.insert(read.at, read.line());
            written.insert(
                read.at,
                format!(" written {}", row["fired_at"].as_str().unwrap_or("never")),
            );
        }
        let expected: BTreeMap<i64, String> = one
            .model
            .ledger
            .iter()
            .map(|(at, row)| (*at, row.line()))
            .collect();
        let at: BTreeSet<i64> = found.keys().chain(expected.keys()).copied().collect();
        let side = |at: &i64| {
            let (wanted, there) = (
                expected.get(at).map_or("", |line| line),
                found.get(at).map_or("", |line| line),
            );
            let mark = if wanted == there { ' ' } else { '!' };
            format!(
                "{mark} {wanted:<80} | {there}{}",
                written.get(at).map_or("", |when| when)
            )
        };
        let lines: Vec<String> = at.iter().map(side).collect();
        let last = lines.len().saturating_sub(60).min(
            lines
                .iter()
                .position(|line| line.starts_with('!'))
                .unwrap_or(usize::MAX),
        );
        panic!(
            "seed {:#x}, schedule {index} at {}: {why}\ncreated: {}\nnow: {}\nwaiting: {:?}\ndue: {:?}\nevents:\n{}\n\
             ledger: expected | found\n{}",
            self.seed,
            text(self.now),
            one.log[0].1,
            one.model.rule.input(),
            one.model
                .waiting
                .iter()
                .flatten()
                .map(|at| text(*at))
                .collect::<Vec<_>>(),
            one.model
                .told
                .due
                .range(self.now - 86_400_000..)
                .map(|(at, due)| [text(*at), text(*due)])
                .collect::<Vec<_>>(),
            events.join("\n"),
            lines[last..].join("\n"),
        );
    }
}

/// Whether each of `instants` is in exactly one row, and no row stands for another.
pub(super) fn covered(instants: impl Iterator<Item = i64>, rows: &[Row]) -> Result<(), String> {
    let mut open: BTreeSet<i64> = instants.collect();
    let (ranges, single): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.outcome == "missed");
    for row in single {
        if !open.remove(&row.at) {
            return Err(format!(
                "nothing was scheduled then, or it is there twice: {}",
                row.line()
            ));
        }
    }
    for row in ranges {
        let inside: Vec<i64> = open.range(row.at..=row.until.unwrap()).copied().collect();
        if inside.len() as u64 != row.missed
            || inside.first() != Some(&row.at)
            || inside.last() != row.until.as_ref()
        {
            return Err(format!("{} instants are open for {}", inside.len(), row.line()));
        }
        inside.iter().for_each(|at| {
            open.remove(at);
        });
    }
    open.first()
        .map_or(Ok(()), |at| Err(format!("{} is in no row", text(*at))))
}
