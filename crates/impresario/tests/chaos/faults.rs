//! What goes wrong while it runs: several strands side by side, each drawn from the seed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    clocks::Clocks,
    cluster::Node,
    db::Db,
    plan::SECOND,
    postgres::{Postgres, Stop},
    proxy::{Cut, Line, Proxy},
    rng::Rng,
};

/// What was done, and how often; with when, for whoever reads the report of a failure.
#[derive(Debug, Default)]
pub(crate) struct Done {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    lines: Mutex<Vec<String>>,
    begun: Mutex<Option<Instant>>,
}

impl Done {
    pub(crate) fn note(&self, what: &'static str, about: &str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
        let begun = *self.begun.lock().unwrap().get_or_insert_with(Instant::now);
        let line = format!("{:7.2} {what} {about}", begun.elapsed().as_secs_f64());
        self.lines.lock().unwrap().push(line);
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// What there is to break.
#[derive(Debug)]
pub(crate) struct Targets<'a> {
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) proxies: &'a [Proxy],
    pub(crate) postgres: Option<&'a Mutex<Postgres>>,
    pub(crate) clocks: &'a Clocks,
    pub(crate) lease_ms: u64,
    pub(crate) done: &'a Done,
    pub(crate) over: &'a AtomicBool,
}

/// One COMMIT in so many is cut all the time.
const CUT_ONE_IN: usize = 60;

impl Targets<'_> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// Waits, but no longer than faults are wanted.
    fn pause(&self, low: u64, high: u64, rng: &mut Rng) {
        let end = Instant::now() + Duration::from_millis(rng.between(low, high));
        while self.goes_on() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills nodes, stops them beyond their leases, ends them.
    pub(crate) fn nodes(&self, rng: &mut Rng) {
        while self.goes_on() {
            self.pause(1_000, 4_500, rng);
            let node = &self.nodes[rng.below(self.nodes.len())];
            let about = format!("node {}", node.number);
            match rng.below(20) {
                0..=7 => {
                    if node.kill() {
                        self.done.note("killed", &about);
                    }
                }
                8..=13 => {
                    self.done.note("stopped", &about);
                    node.freeze(Duration::from_millis(self.lease_ms + rng.between(500, 3_000)));
                }
                14..=17 => {
                    if node.terminate() {
                        self.done.note("ended", &about);
                    }
                }
                18 => {
                    // A stop that a kill ends: nothing that it had in its hands is ever finished.
                    self.done.note("stopped", &about);
                    thread::scope(|scope| {
                        let time = Duration::from_millis(self.lease_ms);
                        scope.spawn(move || node.freeze(time));
                        thread::sleep(time / 2);
                        if node.kill() {
                            self.done.note("killed", &about);
                        }
                    });
                }
                _ => {
                    self.done.note("all killed at once", "");
                    for node in self.nodes {
                        if node.kill() {
                            self.done.note("killed", &format!("node {}", node.number));
                        }
                    }
                }
            }
        }
    }

    /// Restarts PostgreSQL in every way there is.
    pub(crate) fn postgres(&self, rng: &mut Rng) {
        let Some(postgres) = self.postgres else { return };
        while self.goes_on() {
            self.pause(6_000, 14_000, rng);
            let how = rng.pick(&[Stop::Fast, Stop::Immediate, Stop::Kill]);
            let what = match how {
                Stop::Fast => "PostgreSQL restarted fast",
                Stop::Immediate => "PostgreSQL restarted immediately",
                Stop::Kill => "PostgreSQL killed",
            };
            self.done.note(what, "");
            postgres.lock().unwrap().restart(how);
        }
    }

    /// Cuts COMMITs all the time, and more of them now and then; makes lines slow, dead and black.
    pub(crate) fn lines(&self, rng: &mut Rng) {
        if self.proxies.is_empty() {
            return;
        }
        for proxy in self.proxies {
            proxy.cut_one_in(CUT_ONE_IN);
        }
        while self.goes_on() {
            self.pause(1_500, 5_000, rng);
            let number = rng.below(self.proxies.len());
            let (proxy, about) = (&self.proxies[number], format!("node {number}"));
            match rng.below(9) {
                8 => {
                    self.done.note("connections forgotten", &about);
                    proxy.forget();
                }
                0..=2 => {
                    let cut = rng.pick(&[Cut::Before, Cut::After, Cut::Late]);
                    let times = rng.between(1, 4);
                    self.done
                        .note("commits cut in a row", &format!("{about}: {times} {cut:?}"));
                    proxy.cut_next((0..times).map(|_| cut));
                }
                3 => {
                    self.done.note("connections reset", &about);
                    proxy.reset();
                }
                4 => {
                    self.done.note("black hole", &about);
                    proxy.set_line(Line::BlackHole);
                    self.pause(2_000, self.lease_ms * 2 + 2_000, rng);
                }
                5 | 6 => {
                    let time = Duration::from_millis(rng.between(50, 1_500));
                    self.done.note("slow line", &format!("{about}: {time:?}"));
                    proxy.set_line(Line::Slow(time));
                    self.pause(2_000, 5_000, rng);
                }
                _ => {
                    self.done.note("line refused", &about);
                    proxy.set_line(Line::Refuses);
                    self.pause(1_000, 5_000, rng);
                }
            }
            proxy.set_line(Line::Good);
        }
    }

    /// Puts clocks ahead of each other.
    pub(crate) fn clocks(&self, rng: &mut Rng) {
        while self.goes_on() && self.nodes.len() > 1 {
            self.pause(5_000, 12_000, rng);
            let node = rng.below(self.nodes.len());
            // Half of the time they agree: then they are after the same fires at the same moment.
            let by = rng.pick(&[0, 0, 0, 0, -20, -90, 5, 45, 120]) * SECOND;
            self.done.note("clock skewed", &format!("node {node} by {by} ms"));
            self.clocks.skew(node, by);
        }
    }

    /// What others do in the same database: a transaction that stays open for the whole run, and rows that somebody
    /// locks for some seconds.
    pub(crate) fn strangers(&self, address: SocketAddr, rng: &mut Rng) {
        let mut idle: Option<Db> = None;
        while self.goes_on() {
            self.pause(500, 6_000, rng);
            let broken = |db: &mut Db| db.try_run("SELECT 1").is_err();
            if idle.as_mut().is_none_or(broken) {
                idle = Db::try_postgres(address).ok().filter(|_| self.goes_on());
                if let Some(db) = &mut idle
                    && db
                        .try_run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT COUNT(*) FROM jobs")
                        .is_err()
                {
                    idle = None;
                }
                self.done.note("foreign transaction", "");
            }
            let Ok(mut db) = Db::try_postgres(address) else {
                continue;
            };
            let table = rng.pick(&["schedules", "jobs", "deliveries"]);
            let lock = format!("BEGIN; SELECT id FROM {table} ORDER BY random() LIMIT 3 FOR UPDATE");
            if db.try_run(&lock).is_ok() {
                self.done.note("rows locked", table);
                // Now and then for longer than the nodes wait for any row.
                let (low, high) = rng.pick(&[(12_000, 25_000), (500, 4_000), (500, 4_000), (500, 4_000)]);
                self.pause(low, high, rng);
                // The server may have gone, and the lock with it.
                let _ended = db.try_run("ROLLBACK");
            }
        }
    }
}
