//! For any sequence of edits, outages, clock steps, outcomes and backfills: each instant of an enabled time is in exactly one row of
//! the ledger, in one range of missed ones, or among those that wait to be made up for.
//!
//! The instants are recomputed here by counting minutes, without the cron engine.

mod pauses;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{DeploymentId, Ending, MisfirePolicy, Pattern, ScheduleDraft, TenantId, WorkflowId},
    ids::Ids,
    store::ops::{
        fixture::{Db, LEASE},
        jobs::{claim, finish},
        schedules::{Change, ChangeOutcome},
    },
};

const MINUTE: i64 = 60_000;
/// The 1st of January 2027.
const START: i64 = 1_798_761_600_000;

#[derive(Debug, Clone)]
enum Step {
    /// The clock goes on by so many milliseconds, and the scheduler comes round as often as it has to.
    Pass(i64),
    /// The clock goes on and nobody looks.
    Outage(i64),
    Edit(Edit),
    /// So many jobs start.
    Start(usize),
    /// So many jobs end: those that run, then those that wait.
    End(usize, Outcome),
    /// The workflow is deleted, or deployed again.
    Workflow(bool),
    /// Somebody asks for what came from so many milliseconds ago on, for so many milliseconds.
    Backfill(i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Completes,
    Fails,
    Lost,
}

#[derive(Debug, Clone)]
enum Edit {
    Every(i64),
    Bounds(Option<i64>, Option<i64>),
    Jitter(u32),
    Misfire(MisfirePolicy, u32),
    Overlap(OverlapPolicy),
    Limit(Option<u32>),
    Pause,
    Enable,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ms = |minutes: i64| 0..minutes * MINUTE;
    let misfires: Vec<_> = MisfirePolicy::WORDS.iter().map(|(_, policy)| *policy).collect();
    let overlaps: Vec<_> = OverlapPolicy::WORDS.iter().map(|(_, policy)| *policy).collect();
    let bound = || prop::option::of(0..60 * 24 * MINUTE);
    let edit = prop_oneof![
        prop::sample::select(vec![10, 15, 30, 60]).prop_map(Edit::Every),
        (bound(), bound()).prop_map(|(start, end)| Edit::Bounds(start, end)),
        (0_u32..=3_600).prop_map(Edit::Jitter),
        (prop::sample::select(misfires), 0_u32..20_000)
            .prop_map(|(policy, window)| Edit::Misfire(policy, window)),
        prop::sample::select(overlaps).prop_map(Edit::Overlap),
        prop::option::of(1_u32..4).prop_map(Edit::Limit),
        Just(Edit::Pause),
        Just(Edit::Enable),
    ];
    let outcome = prop::sample::select(vec![Outcome::Completes, Outcome::Fails, Outcome::Lost]);
    let step = prop_oneof![
        6 => ms(40).prop_map(Step::Pass),
        2 => ms(400).prop_map(Step::Outage),
        4 => edit.prop_map(Step::Edit),
        3 => (1_usize..4, outcome).prop_map(|(count, outcome)| Step::End(count, outcome)),
        2 => (1_usize..3).prop_map(Step::Start),
        1 => any::<bool>().prop_map(Step::Workflow),
        2 => (ms(600), ms(600)).prop_map(|(back, length)| Step::Backfill(back, length)),
    ];
    prop::collection::vec(step, 1..50)
}

/// A time during which a schedule had one timing and every instant counts.
#[derive(Debug, Clone)]
struct Span {
    since: i64,
    until: i64,
    every: i64,
    bounds: (Option<i64>, Option<i64>),
}

impl Span {
    /// Its instants, by counting minutes.
    fn instants(&self) -> Vec<i64> {
        let step = self.every * MINUTE;
        let mut at = self.since - self.since.rem_euclid(step) + step;
        let mut instants = Vec::new();
        while at <= self.until {
            if self.bounds.0.is_none_or(|start| at >= start) && self.bounds.1.is_none_or(|end| at < end) {
                instants.push(at);
            }
            at += step;
        }
        instants
    }
}

struct World {
    db: Db,
    ids: Ids,
    tenant: TenantId,
    deployment: DeploymentId,
    schedule: ScheduleId,
    now: i64,
    every: i64,
    bounds: (Option<i64>, Option<i64>),
    /// The jobs that were claimed and have not ended.
    running: Vec<JobId>,
    /// The spans that are over.
    spans: Vec<Span>,
    /// Since when the current span runs.
    since: i64,
    /// Since when the pattern and its bounds are what they are: what was missed before is told of by others.
    pattern_since: i64,
    /// Whether instants count now: it is enabled, or has disabled itself and will say what it missed.
    counts: bool,
}

fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn ts(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

impl World {
    fn new() -> Self {
        let (db, ids) = (Db::new(), Ids::seeded(1));
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let mut world = Self {
            schedule: db.id(),
            db,
            ids,
            tenant,
            deployment,
            now: START,
            every: 30,
            bounds: (None, None),
            running: Vec::new(),
            spans: Vec::new(),
            since: START,
            pattern_since: START,
            counts: true,
        };
        world.workflow(true);
        let draft = ScheduleDraft::plain("w", "*/30 * * * *");
        let (who, checked) = ((world.tenant, world.schedule), Some(world.deployment));
        let now = ts(world.now);
        world
            .db
            .run(|tx| schedules::create(tx, who, (draft, checked), None, now));
        world
    }

    fn workflow(&mut self, deployed: bool) {
        let sql = "DELETE FROM workflows WHERE name = 'w'";
        self.db.sql(sql, &[]);
        if deployed {
            let sql = "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
                       VALUES ($1, $2, 'w', $3, 1, 0, 0)";
            let id: WorkflowId = self.db.id();
            self.db.sql(sql, params![id, self.tenant, self.deployment]);
        }
    }

    fn stored(&self) -> Schedule {
        self.db.run(|tx| schedules::by_id(tx, self.schedule)).unwrap()
    }

    /// What the scheduler does until it has nothing to do.
    fn pass(&mut self) {
        for round in 0.. {
            assert!(round < 5_000, "the scheduler does not come to rest");
            let moment = Moment::at(ts(self.now), &self.ids);
            let fired = self.db.run(|tx| fire_due(tx, &moment, 10));
            assert_eq!(fired.quarantined, [], "nothing here is broken");
            assert_eq!(fired.unchecked, []);
            if fired.looked_at > 0 {
                continue;
            }
            if !self.db.run(any_ready) {
                return;
            }
            self.db.run(|tx| catch_up(tx, &moment, 10));
        }
    }

    fn edit(&mut self, edit: &Edit) {
        // One that has disabled itself is enabled before anything else is done to it: what came meanwhile is then
        // told by the timing of then.
        if self.stored().self_disabled.is_some() {
            self.change(&Edit::Enable);
        }
        self.change(edit);
    }

    fn change(&mut self, edit: &Edit) {
        let moment = Moment::at(ts(self.now), &self.ids);
        let who = (self.tenant, self.schedule);
        let apply = |before: &ScheduleDraft| {
            let mut draft = before.clone();
            match edit {
                Edit::Every(60) => draft.timing.pattern = Pattern::parse("0 * * * *", "UTC").unwrap(),
                Edit::Every(minutes) => {
                    draft.timing.pattern = Pattern::parse(&format!("*/{minutes} * * * *"), "UTC").unwrap();
                }
                Edit::Bounds(from, until) => {
                    draft.timing.start_at = from.map(|from| ts(START + from));
                    draft.timing.end_at = until.map(|until| ts(START + until));
                }
                Edit::Jitter(seconds) => draft.timing.jitter_seconds = *seconds,
                Edit::Misfire(policy, window) => {
                    draft.policies.misfire = *policy;
                    draft.policies.catchup_window_seconds = *window;
                }
                Edit::Overlap(policy) => draft.policies.overlap = *policy,
                Edit::Limit(limit) => draft.policies.max_consecutive_failures = *limit,
                Edit::Pause => draft.enabled = false,
                Edit::Enable => draft.enabled = true,
            }
            Ok::<_, ()>(Change {
                draft,
                secret: None,
                checked: None,
            })
        };
        let changed = self.db.run(|tx| schedules::change(tx, who, &moment, apply));
        let ChangeOutcome::Changed(after) = changed else {
            panic!("{changed:?}");
        };
        // What counted until now counted by the timing of then.
        if self.counts {
            self.spans.push(self.span());
        }
        self.since = self.now;
        if matches!(edit, Edit::Every(_) | Edit::Bounds(..)) {
            self.pattern_since = self.now;
        }
        match edit {
            Edit::Every(minutes) => self.every = *minutes,
            Edit::Bounds(from, until) => {
                self.bounds = (from.map(|from| START + from), until.map(|until| START + until));
            }
            _ => {}
        }
        // What is due as the change comes may fail, and with it the schedule may disable itself.
        self.counts = after.draft.enabled || after.self_disabled.is_some();
    }

    /// The current span, up to now.
    fn span(&self) -> Span {
        Span {
            since: self.since,
            until: self.now,
            every: self.every,
            bounds: self.bounds,
        }
    }

    fn start(&mut self, count: usize) {
        let now = ts(self.now);
        let claimed = self.db.run(|tx| claim(tx, count, LEASE, now));
        self.running.extend(claimed.iter().map(|job| job.id));
    }

    fn end(&mut self, count: usize, outcome: Outcome) {
        if self.running.len() < count {
            self.start(count - self.running.len());
        }
        let moment = Moment::at(ts(self.now), &self.ids);
        let ending = match outcome {
            Outcome::Completes => Ending::Completed(None),
            Outcome::Fails => Ending::Failed {
                class: "workflow".to_owned(),
                error: "no".to_owned(),
                stack: None,
            },
            Outcome::Lost => Ending::worker_lost(true),
        };
        let ends = self.running.len().min(count);
        for job in self.running.drain(..ends) {
            let finished = self
                .db
                .run(|tx| finish(tx, (job, "token"), ending.clone(), || moment));
            assert!(finished, "{job} was held");
        }
    }

    /// Asks twice: the second time everything has a job.
    fn backfill(&mut self, back: i64, length: i64) {
        let from = (self.now - back).max(self.pattern_since + 1);
        let to = (from + length).min(self.now);
        if to <= from {
            return;
        }
        let moment = Moment::at(ts(self.now), &self.ids);
        let (who, range) = ((self.tenant, self.schedule), (ts(from), ts(to)));
        let ask = || self.db.run(|tx| backfill(tx, who, range, &moment));
        let told = |schedule: &Schedule| (schedule.last_fire_at, schedule.last_job_id);
        let (first, before) = (ask(), self.stored());
        let (second, after) = (ask(), self.stored());
        assert_eq!(told(&before), told(&after));
        match (first, second) {
            (
                BackfillOutcome::Done { jobs, already_fired },
                BackfillOutcome::Done {
                    jobs: again,
                    already_fired: then,
                },
            ) => {
                assert_eq!(again, [], "an instant makes one job");
                assert_eq!(then, already_fired + jobs.len() as u64);
            }
            (BackfillOutcome::NoWorkflow, BackfillOutcome::NoWorkflow) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The instants that were made up for because somebody asked: they count although nobody owed them.
    fn backfilled(&self) -> Vec<i64> {
        let sql = "SELECT fire_at FROM fires WHERE reason = 'backfill'";
        self.db.run(|tx| tx.query(sql, &[], |row| row.get("fire_at")))
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Pass(ms) => {
                self.now += ms;
                self.pass();
            }
            Step::Outage(ms) => self.now += ms,
            Step::Edit(edit) => self.edit(edit),
            Step::Start(count) => self.start(*count),
            Step::End(count, outcome) => self.end(*count, *outcome),
            Step::Workflow(deployed) => self.workflow(*deployed),
            Step::Backfill(back, length) => self.backfill(*back, *length),
        }
    }

    /// How often each instant of `all` stands in the ledger or waits to be made up for; and what stands there besides.
    fn accounted(&self, all: &BTreeMap<i64, u32>) -> BTreeMap<i64, u32> {
        let mut found = BTreeMap::new();
        let rows = self
            .db
            .run(|tx| history(tx, self.tenant, self.schedule, None, 1_000_000));
        let mut count = |from: i64, until: i64, instants: u64, what: &str| {
            let mut seen = 0;
            for (at, _) in all.range(from..=until) {
                *found.entry(*at).or_default() += 1;
                seen += 1;
            }
            assert_eq!(seen, instants, "{what} {} {}", ts(from), ts(until));
        };
        for row in rows {
            let from = ms(row.fire_at);
            match row.missed_until {
                Some(until) => count(from, ms(until), row.missed, &format!("{row:?}")),
                None => count(from, from, 1, &format!("{row:?}")),
            }
        }
        let sql = "SELECT from_at, until_at, instants FROM catch_ups";
        let owed = self.db.run(|tx| {
            tx.query(sql, &[], |row| {
                Ok((
                    row.get::<i64>("from_at")?,
                    row.get::<i64>("until_at")?,
                    row.get::<u64>("instants")?,
                ))
            })
        });
        for (from, until, instants) in owed {
            count(from, until, instants, "owed");
        }
        found
    }

    /// Every instant of the spans once, and nothing else.
    fn check(&mut self) {
        if self.stored().self_disabled.is_some() {
            self.change(&Edit::Enable);
        }
        self.pass();
        if self.counts && self.stored().self_disabled.is_some() {
            self.change(&Edit::Enable);
        }
        let mut spans = self.spans.clone();
        if self.counts {
            spans.push(self.span());
        }
        let schedule = self.stored();
        let cursor = schedule.next_fire_at.filter(|_| schedule.draft.enabled);
        if let Some(cursor) = cursor {
            assert!(
                schedule.due_at(cursor) > ts(self.now),
                "{cursor} is due, and nobody has acted"
            );
        }
        let all: BTreeMap<i64, u32> = spans
            .iter()
            .flat_map(Span::instants)
            .filter(|at| cursor.is_none_or(|cursor| *at < ms(cursor)))
            .chain(self.backfilled())
            .map(|at| (at, 1))
            .collect();
        let found = self.accounted(&all);
        let holes: Vec<_> = all
            .keys()
            .filter(|at| !found.contains_key(at))
            .map(|at| ts(*at))
            .collect();
        let doubles: Vec<_> = found
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(at, _)| ts(*at))
            .collect();
        assert!(
            holes.is_empty() && doubles.is_empty(),
            "holes {holes:?}, doubles {doubles:?}"
        );
        // A job for each instant that fired, and no other.
        let jobs = self.db.count("SELECT COUNT(*) FROM jobs");
        let fired = self
            .db
            .count("SELECT COUNT(*) FROM fires WHERE outcome = 'fired' AND job_id IS NOT NULL");
        let all_fired = self
            .db
            .count("SELECT COUNT(*) FROM fires WHERE outcome = 'fired'");
        assert_eq!((jobs, fired), (all_fired, all_fired));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_hole_and_no_double_for_any_sequence_of_edits_outages_and_outcomes(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.check();
    }

    /// The clock may be ahead for a while and come back: what was acted on meanwhile is not acted on again, and what
    /// was passed over is made good.
    #[test]
    fn no_hole_and_no_double_for_any_steps_of_the_clock(
        misfire in prop::sample::select(MisfirePolicy::WORDS.iter().map(|(_, policy)| *policy).collect::<Vec<_>>()),
        window in prop::sample::select(vec![0_u32, 3_600, 86_400]),
        jitter in prop::sample::select(vec![0_u32, 600]),
        steps in prop::collection::vec((any::<bool>(), -6 * 60 * MINUTE..6 * 60 * MINUTE), 1..30),
    ) {
        let mut world = World::new();
        world.change(&Edit::Misfire(misfire, window));
        world.change(&Edit::Jitter(jitter));
        for (looks, by) in steps {
            let before = world.now;
            world.now = (world.now + by).max(START);
            if !looks && world.now >= before {
                continue;
            }
            if world.now < before {
                world.realign();
            }
            world.pass();
            world.end(2, Outcome::Completes);
        }
        world.pass();
        let schedule = world.stored();
        let cursor = ms(schedule.next_fire_at.unwrap());
        prop_assert!(schedule.due_at(ts(cursor)) > ts(world.now));
        // What was acted on by a clock that was ahead lies after now; it counts as well.
        let far = Span { since: START, until: world.now + 400 * 60 * MINUTE, every: 30, bounds: (None, None) };
        let all: BTreeMap<i64, u32> = far.instants().into_iter().map(|at| (at, 1)).collect();
        let found = world.accounted(&all);
        for (at, times) in &found {
            prop_assert_eq!(*times, 1, "{}", ts(*at));
        }
        for at in all.keys().filter(|at| **at < cursor) {
            prop_assert!(found.contains_key(at), "a hole at {}", ts(*at));
        }
    }
}

impl World {
    /// What the scheduler does when the clock has gone back.
    fn realign(&self) {
        let mut state = Realigned::default();
        while !state.done {
            state = self
                .db
                .run(|tx| realign(tx, state, (|| ts(self.now), jiff::SignedDuration::ZERO)));
        }
    }
}
