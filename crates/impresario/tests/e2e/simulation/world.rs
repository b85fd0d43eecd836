//! The server and the model of each of its schedules, moved together.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    model::{Model, SECOND},
    ms,
    plan::{self, DAY, HOUR, Rng},
    text,
};
use crate::support::{Bundle, Client, Server, Setup};

/// How long the server may take to do what the model says: far longer than it does.
const SOON: Duration = Duration::from_secs(20);

/// How the clock comes to show another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// It goes on while the server runs.
    Clock,
    /// The server is killed, and started again at that time.
    Outage,
    /// The server is killed while it acts on what has come, and started again a few seconds later.
    Crash,
}

pub(super) struct Scheduled {
    pub(super) id: Value,
    pub(super) model: Model,
    pub(super) log: Vec<(i64, String)>,
    /// The jobs of its fires as far as they were looked up, by instant.
    pub(super) job_ids: HashMap<i64, Value>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: i64,
    pub(super) span: (i64, i64),
    pub(super) client: Client,
    server: Server,
    deployed: bool,
    made: usize,
    pub(super) schedules: Vec<Scheduled>,
    pub(super) log: Vec<(i64, String)>,
    pub(super) counts: HashMap<&'static str, usize>,
    /// How many rows of each outcome and reason were compared.
    pub(super) kinds: std::collections::BTreeMap<String, usize>,
    /// Shares that the server told, by nominal instant and spread.
    pub(super) shares: HashMap<(i64, i64), Vec<i64>>,
    began: Instant,
}

const START: &str = "2027-01-01T00:00:00Z";

impl World {
    pub(super) fn new(seed: u64, schedules: usize) -> Self {
        let server = Setup::at(START).job_slots(1).start();
        // The only place is taken by another tenant whose jobs never end and are older than any other, so a job of a
        // schedule stays in the queue until the test ends it.
        let other = server.tenant("other");
        let never = "await new Promise((done) => setTimeout(done, 3_600_000));";
        other.deploy(&Bundle::with("never", never));
        for _ in 0..80 {
            other.create_job(json!({"workflow": "never", "timeout_seconds": 3600}));
        }
        let client = server.tenant("acme");
        client.deploy(&Bundle::with("firm", never));
        client.deploy(&Bundle::with("loose", never));
        let now = ms(&json!(START)).unwrap();
        let mut world = Self {
            seed,
            rng: Rng(seed),
            now,
            span: (now - 60 * DAY, now + 430 * DAY),
            client,
            server,
            deployed: true,
            made: 0,
            schedules: Vec::new(),
            log: Vec::new(),
            counts: HashMap::new(),
            kinds: std::collections::BTreeMap::new(),
            shares: HashMap::new(),
            began: Instant::now(),
        };
        for _ in 0..schedules {
            let made = world.make();
            world.schedules.push(made);
        }
        world.settle();
        world
    }

    fn make(&mut self) -> Scheduled {
        let mut rule = plan::rule(&mut self.rng, self.made, self.now, self.span);
        if !self.deployed {
            rule.workflow = "firm";
        }
        self.made += 1;
        let id = self.client.schedule(rule.input())["id"].clone();
        let log = vec![(self.now, format!("created {}", rule.input()))];
        let model = Model::new(rule, self.now, self.span);
        Scheduled {
            id,
            model,
            log,
            job_ids: HashMap::new(),
        }
    }

    pub(super) fn count(&mut self, what: &'static str, more: usize) {
        *self.counts.entry(what).or_default() += more;
    }

    fn there(&self, index: usize) -> bool {
        self.deployed || self.schedules[index].model.rule.workflow == "firm"
    }

    /// Goes to `to`, and waits until the server has done what the model says.
    pub(super) fn go(&mut self, to: i64, how: Move) {
        self.log.push((to, format!("{how:?}")));
        self.count("steps", 1);
        match how {
            Move::Clock => self.server.set_clock(&text(to)),
            Move::Outage => {
                self.count("outages", 1);
                self.server.kill();
                self.server.write_clock(&text(to));
                self.server.start_again();
            }
            Move::Crash => {
                self.count("crashes", 1);
                self.server.set_clock(&text(to - 5 * SECOND));
                self.server.kill();
                self.server.write_clock(&text(to));
                self.server.start_again();
            }
        }
        self.now = to;
        self.settle();
    }

    /// When the next fires are due, soonest first, with the schedule of each.
    fn dues(&self) -> Vec<(i64, usize)> {
        let due = |(index, one): (usize, &Scheduled)| {
            let at = one.model.rule.enabled.then(|| one.model.next(self.now))??;
            let told = one.model.told.due.get(&at).copied();
            Some((told.unwrap_or(at), index))
        };
        let mut dues: Vec<_> = self.schedules.iter().enumerate().filter_map(due).collect();
        dues.sort_unstable();
        dues
    }

    fn next_due(&mut self) -> i64 {
        let (due, _) = self.dues()[0];
        // Times are whole seconds where they can be, so that a step may also cover what comes a little later.
        due.max(self.now) + self.rng.pick(&[0, 0, 1, 20, 45, 60]) * SECOND
    }

    /// Goes to where the next fire is due, or a little later.
    pub(super) fn go_to_next(&mut self, how: Move) {
        let mut to = self.next_due();
        if how == Move::Crash {
            // Killed at its due instant or a little later, and back within the time in which nothing is missed.
            to = self.dues()[0].0.max(self.now) + self.rng.span(5, 30, SECOND);
        }
        self.go(to, how);
    }

    /// Goes to between the nominal and the due instant of a fire, and changes that schedule.
    pub(super) fn go_into_a_spread(&mut self) {
        let spread = |one: &Scheduled, now: i64| {
            let at = one.model.rule.enabled.then(|| one.model.next(now))??;
            let due = *one.model.told.due.get(&at)?;
            (at > now && at < now + 12 * HOUR && due > at + 2 * SECOND).then_some((at, due))
        };
        let found: Vec<_> = (0..self.schedules.len())
            .filter_map(|index| Some((index, spread(&self.schedules[index], self.now)?)))
            .collect();
        if found.is_empty() {
            return self.go_to_next(Move::Clock);
        }
        let (index, (at, due)) = self.rng.pick(&found);
        let (from, to) = (at / SECOND, due / SECOND);
        let to = self.rng.span(from, to - 1, SECOND);
        self.go(to, Move::Clock);
        if self.change(index) {
            self.count("changes within a spread", 1);
        }
    }

    /// Moves the clock, and changes a schedule in the moment in which it is due.
    pub(super) fn change_as_it_comes(&mut self) {
        let found = self.dues().into_iter().find(|(_, index)| {
            // What waits to be made up for goes on at its own pace: the change might come before or after its start.
            self.schedules[*index].model.rule.misfire != "fire_all"
        });
        let Some((due, index)) = found else { return };
        if due <= self.now || due > self.now + 10 * DAY {
            return;
        }
        let mut after = self.schedules[index].model.clone();
        let there = self.there(index);
        after.pass(due, there, None);
        let Some((input, rule)) = plan::change(&mut self.rng, &after, due, self.span) else {
            return;
        };
        if after.rule.enabled != self.schedules[index].model.rule.enabled || rule == after.rule {
            return self.go(due, Move::Clock);
        }
        self.log
            .push((due, format!("Clock, and a change of schedule {index} at once")));
        self.count("steps", 1);
        self.count("changes as a fire comes", 1);
        self.server.set_clock(&text(due));
        self.now = due;
        self.schedules[index].model.pass(due, there, None);
        self.update(index, &input, rule);
        self.settle();
    }

    pub(super) fn change_any(&mut self) {
        let index = self.rng.below(self.schedules.len());
        match self.rng.below(12) {
            0 => self.replace(index),
            1 => {
                if self.there(index) {
                    let id = self.schedules[index].id.clone();
                    self.client.ok("schedules/trigger", json!({"id": id}));
                    self.count("triggered", 1);
                    self.schedules[index].log.push((self.now, "triggered".to_owned()));
                    self.settle();
                }
            }
            _ => {
                self.change(index);
            }
        }
    }

    /// Deletes a schedule and makes another in its place.
    fn replace(&mut self, index: usize) {
        self.compare(index);
        self.count("deleted", 1);
        let id = self.schedules[index].id.clone();
        self.client.ok("schedules/delete", json!({"id": id}));
        self.client.refused("schedules/history", json!({"id": id}), 404);
        self.compare_jobs(index);
        self.log.push((self.now, format!("schedule {index} deleted")));
        self.schedules[index] = self.make();
        self.settle();
    }

    /// Changes a schedule; `false` where the draw was not allowed for it.
    fn change(&mut self, index: usize) -> bool {
        let Some((input, rule)) =
            plan::change(&mut self.rng, &self.schedules[index].model, self.now, self.span)
        else {
            return false;
        };
        self.update(index, &input, rule);
        self.settle();
        true
    }

    fn update(&mut self, index: usize, input: &Value, rule: super::model::Rule) {
        self.count("changes", 1);
        let one = &mut self.schedules[index];
        let mut sent = input.clone();
        sent["id"] = one.id.clone();
        let after = self.client.ok("schedules/update", sent)["schedule"].clone();
        one.log.push((self.now, format!("{input}")));
        let respread = one.model.rule.jitter != rule.jitter || one.model.rule.end != rule.end;
        one.model.change(rule, self.now);
        let Some(at) = one.model.owed(self.now).filter(|_| respread) else {
            return;
        };
        // Its new share is told by the answer, or by its row where it is over and the instant has fired.
        let rows = self.ledger(index);
        let fired = rows.iter().find(|row| ms(&row["fire_at"]) == Some(at));
        let due = match fired {
            Some(row) => ms(&row["due_at"]).unwrap(),
            None => ms(&after["next_due_at"]).unwrap(),
        };
        let shown = fired.is_some() || ms(&after["next_fire_at"]) == Some(at);
        if !shown || (due <= self.now) != fired.is_some() {
            self.fail(
                index,
                &format!("{} was owed, and the change answered {after}", text(at)),
            );
        }
        self.told(index, at, due);
        if fired.is_some() {
            self.count("fired at once by a change", 1);
            self.schedules[index].model.fires_at_once(at);
        }
    }

    pub(super) fn undeploy(&mut self) {
        self.client.ok("workflows/delete", json!({"workflow": "loose"}));
        self.deployed = false;
        self.log.push((self.now, "workflow loose deleted".to_owned()));
    }

    pub(super) fn deploy(&mut self) {
        self.client.deploy(&Bundle::with(
            "loose",
            "await new Promise((done) => setTimeout(done, 3_600_000));",
        ));
        self.deployed = true;
        self.log.push((self.now, "workflow loose deployed".to_owned()));
    }

    /// Cancels some of the jobs that have not ended.
    pub(super) fn end_jobs(&mut self) {
        for _ in 0..self.schedules.len() / 8 {
            let index = self.rng.below(self.schedules.len());
            let mut unfinished = self.schedules[index].model.unfinished();
            if unfinished.is_empty() {
                continue;
            }
            if self.rng.one_in(2) {
                let chosen = self.rng.below(unfinished.len());
                unfinished = vec![unfinished[chosen]];
            }
            self.look_up_jobs(index, &unfinished);
            for at in unfinished {
                let job = self.schedules[index].job_ids[&at].clone();
                self.client.ok("jobs/cancel", json!({"id": job}));
                self.count("jobs cancelled", 1);
                let one = &mut self.schedules[index];
                one.log.push((self.now, format!("job of {} cancelled", text(at))));
                one.model.ended(at);
            }
            // Nothing else is to be seen of it.
            if self.schedules[index].model.waits() > 0 {
                self.settle();
            }
        }
    }

    fn look_up_jobs(&mut self, index: usize, wanted: &[i64]) {
        if wanted
            .iter()
            .all(|at| self.schedules[index].job_ids.contains_key(at))
        {
            return;
        }
        for row in self.ledger(index) {
            if row["job_id"].is_string() {
                let at = ms(&row["fire_at"]).unwrap();
                self.schedules[index].job_ids.insert(at, row["job_id"].clone());
            }
        }
        if let Some(at) = wanted
            .iter()
            .find(|at| !self.schedules[index].job_ids.contains_key(at))
        {
            self.fail(index, &format!("{} has no job", text(*at)));
        }
    }

    pub(super) fn list(&self) -> Vec<Value> {
        let listed = self.client.ok("schedules/list", json!({"limit": 200}));
        let mut by_id: HashMap<String, Value> = HashMap::new();
        for one in listed["schedules"].as_array().unwrap() {
            by_id.insert(one["id"].to_string(), one.clone());
        }
        assert_eq!(by_id.len(), self.schedules.len());
        self.schedules
            .iter()
            .map(|one| by_id[&one.id.to_string()].clone())
            .collect()
    }

    /// Waits until nothing is due any more, lets the model do the same, and waits until the server shows what it says.
    fn settle(&mut self) {
        let end = Instant::now() + SOON;
        let mut views = self.list();
        let due = |view: &Value, now: i64| {
            view["enabled"] == true && ms(&view["next_due_at"]).is_some_and(|due| due <= now)
        };
        while let Some(index) = views.iter().position(|view| due(view, self.now)) {
            if Instant::now() > end {
                self.fail(
                    index,
                    &format!("is due and nothing comes of it: {}", views[index]),
                );
            }
            std::thread::sleep(Duration::from_millis(5));
            views = self.list();
        }
        let mut before = Vec::new();
        for (index, view) in views.iter().enumerate() {
            self.learn(index, view);
            before.push(self.pass(index, view));
        }
        loop {
            let wrong = (0..views.len()).find_map(|index| Some((index, self.differs(index, &views[index])?)));
            let Some((index, difference)) = wrong else { return };
            if Instant::now() > end {
                self.fail(index, &difference);
            }
            std::thread::sleep(Duration::from_millis(5));
            views = self.list();
            for (index, view) in views.iter().enumerate() {
                self.learn(index, view);
            }
            // Its ledger may tell more by now of shares that nobody was told.
            if let Some(model) = &before[index] {
                self.schedules[index].model = model.clone();
                self.pass(index, &views[index]);
            }
        }
    }

    /// Lets the model act on what is due; gives what it was, where it went by what the ledger had of unknown shares.
    fn pass(&mut self, index: usize, view: &Value) -> Option<Model> {
        self.know_shares(index);
        let (there, shown) = (self.there(index), ms(&view["next_fire_at"]));
        let model = &mut self.schedules[index].model;
        let before = (model.rule.jitter > 0 && model.rule.misfire == "fire_all").then(|| model.clone());
        model.pass(self.now, there, shown);
        before
    }

    pub(super) fn summary(&self) {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort();
        eprintln!(
            "seed {:#x}, {:?}: {counts:?} {:?}",
            self.seed,
            self.began.elapsed(),
            self.kinds
        );
    }
}
