//! What becomes of each instant of a schedule, written from docs/schedules.md alone.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use serde_json::{Value, json};

use super::{cron, ms, text};

pub(super) const SECOND: i64 = 1_000;
/// What is acted on within this time was not missed.
const GRACE: i64 = 60 * SECOND;
/// The most instants that `fire_all` makes up for.
const MOST_WAITING: usize = 1_000;

/// What an owner says of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) workflow: &'static str,
    pub(super) cron: &'static str,
    pub(super) zone: &'static str,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    pub(super) jitter: i64,
    pub(super) misfire: &'static str,
    pub(super) window: i64,
    pub(super) overlap: &'static str,
    pub(super) limit: Option<u64>,
    pub(super) enabled: bool,
}

impl Rule {
    pub(super) fn input(&self) -> Value {
        json!({
            "workflow": self.workflow, "cron_expr": self.cron, "timezone": self.zone,
            "start_at": self.start.map(text), "end_at": self.end.map(text),
            "jitter_seconds": self.jitter / SECOND, "misfire_policy": self.misfire,
            "catchup_window_seconds": self.window / SECOND, "overlap_policy": self.overlap,
            "max_consecutive_failures": self.limit, "enabled": self.enabled,
        })
    }

    pub(super) fn within(&self, at: i64) -> bool {
        self.start.is_none_or(|start| at >= start) && self.end.is_none_or(|end| at < end)
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) at: i64,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) missed: u64,
    pub(super) until: Option<i64>,
    pub(super) job: bool,
}

impl Row {
    pub(super) fn read(row: &Value) -> Self {
        let string = |key: &str| row[key].as_str().map(str::to_owned);
        Self {
            at: ms(&row["fire_at"]).unwrap(),
            outcome: string("outcome").unwrap(),
            reason: string("reason"),
            missed: row["missed"].as_u64().unwrap(),
            until: ms(&row["missed_until"]),
            job: row["job_id"].is_string(),
        }
    }

    /// On one line.
    pub(super) fn line(&self) -> String {
        let until = self
            .until
            .map_or_else(String::new, |until| format!(" until {}", text(until)));
        let (reason, job) = (
            self.reason.as_deref().unwrap_or("-"),
            if self.job { " job" } else { "" },
        );
        format!(
            "{} {} {reason} {}{until}{job}",
            text(self.at),
            self.outcome,
            self.missed
        )
    }
}

/// A job of a fire.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) at: i64,
    pub(super) ended: bool,
    /// Whether it waits for those before it.
    held: bool,
    /// Whether it makes up for a missed instant.
    catch_up: bool,
}

/// What only the server knows of the spread.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// When instants are due.
    pub(super) due: BTreeMap<i64, i64>,
    /// The ranges that the ledger has as missed: consulted only for an instant whose share nobody was told.
    pub(super) missed: Vec<(i64, i64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) rule: Rule,
    /// Every instant of the pattern in the whole simulation.
    instants: Rc<[i64]>,
    span: (i64, i64),
    /// What has come up to here is settled.
    after: i64,
    pub(super) by_limit: bool,
    /// What is to be made up for, oldest first, by the pass that found it missed.
    pub(super) waiting: Vec<VecDeque<i64>>,
    pub(super) jobs: Vec<Job>,
    pub(super) ledger: BTreeMap<i64, Row>,
    pub(super) failures: u64,
    counted: u64,
    pub(super) last_fire: Option<i64>,
    pub(super) told: Told,
    /// An owed instant whose new share was over when its owner changed it: it fires, however late that is.
    at_once: Option<i64>,
    /// Every instant that must be in the ledger, or wait.
    pub(super) settled: Vec<i64>,
}

impl Model {
    pub(super) fn new(rule: Rule, now: i64, span: (i64, i64)) -> Self {
        let instants = cron::instants(rule.cron, rule.zone, span.0, span.1).into();
        Self {
            rule,
            instants,
            span,
            after: now,
            by_limit: false,
            waiting: Vec::new(),
            jobs: Vec::new(),
            ledger: BTreeMap::new(),
            failures: 0,
            counted: 0,
            last_fire: None,
            told: Told::default(),
            at_once: None,
            settled: Vec::new(),
        }
    }

    /// The first instant within the bounds that is later than `after`.
    pub(super) fn first_after(&self, after: i64) -> Option<i64> {
        let from = self.instants.partition_point(|at| *at <= after);
        self.instants[from..]
            .iter()
            .copied()
            .find(|at| self.rule.within(*at))
    }

    /// The instant that `next_fire_at` shows.
    pub(super) fn next(&self, now: i64) -> Option<i64> {
        self.first_after(if self.rule.enabled { self.after } else { now })
    }

    /// The latest that an instant may be due: before the next one and before the end.
    pub(super) fn latest_due(&self, at: i64) -> i64 {
        let from = self.instants.partition_point(|other| *other <= at);
        let next = self.instants.get(from).copied();
        let bounds = [
            Some(at + self.rule.jitter),
            next.map(|next| next - 1),
            self.rule.end.map(|end| end - 1),
        ];
        bounds.into_iter().flatten().min().unwrap().max(at)
    }

    fn due(&self, at: i64) -> Option<i64> {
        if self.rule.jitter == 0 {
            Some(at)
        } else {
            self.told.due.get(&at).copied()
        }
    }

    /// The nominal instant that has come while its due instant has not.
    pub(super) fn owed(&self, now: i64) -> Option<i64> {
        self.rule
            .enabled
            .then(|| self.first_after(self.after))
            .flatten()
            .filter(|at| *at <= now)
    }

    /// Whether an instant is acted on later than `limit` after it was due.
    fn later_than(&self, at: i64, now: i64, limit: i64) -> bool {
        if self.at_once == Some(at) || now - at <= limit {
            return false;
        }
        match self.due(at) {
            Some(due) => now - due > limit,
            None if now - self.latest_due(at) > limit => true,
            // Had it fired in time, its row would tell.
            None if limit == GRACE => true,
            None => self
                .told
                .missed
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&at)),
        }
    }

    /// Whether the instant has come to be acted on; one of an unknown share has if the server is past it.
    fn ready(&self, at: i64, now: i64, shown: Option<i64>) -> bool {
        at <= now
            && self
                .due(at)
                .map_or(shown.is_none_or(|shown| shown > at), |due| due <= now)
    }

    /// Acts on everything that is due. `shown` is the server's next instant, of use where a share is unknown.
    pub(super) fn pass(&mut self, now: i64, deployed: bool, shown: Option<i64>) {
        let mut ready = Vec::new();
        if self.rule.enabled {
            let mut next = self.first_after(self.after);
            while let Some(at) = next.filter(|at| self.ready(*at, now, shown)) {
                ready.push(at);
                next = self.first_after(at);
            }
        }
        // Where even two instants are within the time of grace, the newest is the one that comes.
        let in_time = ready.last().is_some_and(|at| !self.later_than(*at, now, GRACE));
        let split = ready.len() - usize::from(in_time);
        let (missed, in_time) = ready.split_at(split);
        self.settled.extend(missed);
        if let Some(last) = missed.last() {
            self.after = *last;
        }
        let mut carried = 0;
        match self.rule.misfire {
            "skip" => self.give_up(missed, "down"),
            "fire_once" => match (missed.split_last(), in_time.is_empty()) {
                (Some((newest, _)), true) if self.later_than(*newest, now, self.rule.window.max(GRACE)) => {
                    self.give_up(missed, "outside_catchup");
                }
                (Some((newest, older)), true) => {
                    self.give_up(older, "down");
                    self.fire(*newest, deployed, false, older.len());
                }
                (Some(_), false) => {
                    self.give_up(missed, "down");
                    carried = missed.len();
                }
                (None, _) => {}
            },
            _ => {
                let limit = self.rule.window.max(GRACE);
                let gone = missed
                    .iter()
                    .take_while(|at| self.later_than(**at, now, limit))
                    .count();
                self.give_up(&missed[..gone], "outside_catchup");
                let room = MOST_WAITING - self.waits();
                let over = missed.len().saturating_sub(room).max(gone);
                self.give_up(&missed[gone..over], "over_limit");
                if over < missed.len() {
                    self.waiting.push(missed[over..].iter().copied().collect());
                }
            }
        }
        for at in in_time {
            if !self.rule.enabled {
                break;
            }
            self.settled.push(*at);
            self.after = *at;
            self.fire(*at, deployed, false, carried);
            carried = 0;
        }
        self.catch_up(now, deployed);
    }

    /// Makes up for what waits, as far as its turn has come.
    pub(super) fn catch_up(&mut self, now: i64, deployed: bool) {
        while let Some(range) = self.waiting.first() {
            // Its turn first: what waits is judged when it would start.
            let waits_for = |job: &Job| !job.ended && (job.catch_up || self.rule.overlap != "allow");
            if self.jobs.iter().any(waits_for) {
                return;
            }
            let limit = self.rule.window.max(GRACE);
            let late = |at: &&i64| self.later_than(**at, now, limit);
            let gone = range.iter().take_while(late).count();
            let gone: Vec<i64> = self.waiting[0].drain(..gone).collect();
            self.give_up(&gone, "outside_catchup");
            let first = self.waiting[0].pop_front();
            if self.waiting[0].is_empty() {
                self.waiting.remove(0);
            }
            if let Some(first) = first {
                self.fire(first, deployed, true, 0);
            }
        }
    }

    pub(super) fn waits(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn fire(&mut self, at: i64, deployed: bool, catch_up: bool, missed: usize) {
        let mut row = Row {
            at,
            outcome: "fired".to_owned(),
            reason: None,
            missed: missed as u64,
            until: None,
            job: deployed,
        };
        let mut held = false;
        if deployed && !catch_up && self.jobs.iter().any(|job| !job.ended) {
            let one_waits = self.jobs.iter().any(|job| !job.ended && job.held);
            let only_made_up = self
                .jobs
                .iter()
                .all(|job| job.ended || (job.catch_up && !job.held));
            match self.rule.overlap {
                "skip" | "buffer_one" | "cancel_running" if only_made_up => {
                    row.reason = Some("buffered".to_owned());
                    held = true;
                }
                "skip" => return self.skipped(row),
                "buffer_one" if one_waits => return self.skipped(row),
                "buffer_one" => {
                    row.reason = Some("buffered".to_owned());
                    held = true;
                }
                "cancel_running" => {
                    row.reason = Some("replaced".to_owned());
                    for job in self.jobs.iter_mut().filter(|job| !job.catch_up) {
                        job.ended = true;
                    }
                    held = self.jobs.iter().any(|job| !job.ended);
                }
                _ => {}
            }
        }
        self.last_fire = self.last_fire.max(Some(at));
        if deployed {
            self.jobs.push(Job {
                at,
                ended: false,
                held,
                catch_up,
            });
        } else {
            row.outcome = "rejected".to_owned();
            row.reason = Some("no_workflow".to_owned());
            self.failures += 1;
            self.counted += 1;
            if self.rule.limit.is_some_and(|limit| self.counted >= limit) {
                self.rule.enabled = false;
                self.by_limit = true;
                self.retire_waiting();
            }
        }
        self.write(row);
    }

    fn skipped(&mut self, mut row: Row) {
        row.outcome = "skipped_overlap".to_owned();
        row.reason = Some("overlap".to_owned());
        row.job = false;
        self.write(row);
    }

    fn give_up(&mut self, range: &[i64], reason: &str) {
        if let (Some(first), Some(last)) = (range.first(), range.last()) {
            self.write(Row {
                at: *first,
                outcome: "missed".to_owned(),
                reason: Some(reason.to_owned()),
                missed: range.len() as u64,
                until: Some(*last),
                job: false,
            });
        }
    }

    fn write(&mut self, row: Row) {
        let twice = self.ledger.insert(row.at, row);
        assert!(twice.is_none(), "the model itself doubles {twice:?}");
    }

    /// A job has been cancelled.
    pub(super) fn ended(&mut self, at: i64) {
        let job = self.jobs.iter_mut().find(|job| job.at == at).unwrap();
        job.ended = true;
        if !self.jobs.iter().any(|job| !job.ended && !job.held) {
            self.jobs.iter_mut().for_each(|job| job.held = false);
        }
    }

    fn retire_waiting(&mut self) {
        for range in std::mem::take(&mut self.waiting) {
            self.give_up(&Vec::from(range), "retired");
        }
    }

    /// What its owner changes. What was due has been acted on before.
    pub(super) fn change(&mut self, to: Rule, now: i64) {
        let owed = self.owed(now);
        let from = std::mem::replace(&mut self.rule, to);
        let pattern = (from.cron, from.zone) != (self.rule.cron, self.rule.zone);
        let bounds = (from.start, from.end) != (self.rule.start, self.rule.end);
        let paused = from.enabled && !self.rule.enabled;
        if pattern || bounds || paused || from.misfire != self.rule.misfire {
            self.retire_waiting();
        }
        let kept = owed.filter(|at| !pattern && !paused && self.rule.within(*at));
        if let Some(at) = owed.filter(|_| kept.is_none()) {
            self.settled.push(at);
            self.give_up(&[at], "retired");
        }
        if !from.enabled && self.rule.enabled {
            if self.by_limit {
                let within = |at: &&i64| **at > self.after && **at <= now && from.within(**at);
                let between: Vec<i64> = self.instants.iter().filter(within).copied().collect();
                self.settled.extend(&between);
                self.give_up(&between, "paused_by_limit");
            }
            self.by_limit = false;
            self.counted = 0;
        }
        if pattern {
            self.instants = cron::instants(self.rule.cron, self.rule.zone, self.span.0, self.span.1).into();
        }
        // What bounds that are gone had kept from firing before the owed instant is not owed with it.
        self.after = kept.map_or(now, |at| self.after.max(at - 1));
        if pattern || bounds || from.jitter != self.rule.jitter {
            self.told.due.clear();
        }
    }

    /// The share of an owed instant was found to be over when its owner changed it.
    pub(super) fn fires_at_once(&mut self, at: i64) {
        self.at_once = Some(at);
    }

    pub(super) fn unfinished(&self) -> Vec<i64> {
        self.jobs
            .iter()
            .filter(|job| !job.ended)
            .map(|job| job.at)
            .collect()
    }

    pub(super) fn state(&self, now: i64) -> &'static str {
        match self.next(now) {
            None if self.waiting.is_empty() => "finished",
            _ if self.rule.enabled => "active",
            _ => "disabled",
        }
    }
}
