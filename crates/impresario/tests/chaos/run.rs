//! One run: set up, break everything for a while, heal, wait for quiet, check.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    audit,
    check::{self, Found, Violation},
    clocks::{Clocks, text},
    cluster::{Common, Node, Store},
    db::Db,
    ears::Ears,
    evidence::Evidence,
    faults::{Done, Targets},
    plan::{self, MINUTE},
    postgres::Postgres,
    proxy::Proxy,
    rng::Rng,
    work::Work,
};

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    /// How long things go wrong, in seconds.
    pub(crate) seconds: u64,
    pub(crate) postgres: bool,
    /// On SQLite there is one.
    pub(crate) nodes: usize,
    pub(crate) schedules: usize,
}

const LEASE: u64 = 3;
/// Simulated seconds a second: fast enough for thousands of fires, slow enough that two cores can run what they start.
const SPEED: i64 = 30;
const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(150);
/// Violations of a kind that a failure shows; all are in a file.
const SHOWN: usize = 4;
/// Beyond the last attempt of any callback.
const LAST_ATTEMPT: i64 = 8 * 24 * 60 * MINUTE;

/// Everything that runs. Fields are dropped in this order: nodes before what they talk to.
struct World {
    nodes: Vec<Arc<Node>>,
    clocks: Clocks,
    proxies: Vec<Proxy>,
    postgres: Option<Mutex<Postgres>>,
    ears: Ears,
    dir: TempDir,
    logs: PathBuf,
    setup: Setup,
}

impl World {
    fn new(setup: Setup, start: i64) -> Self {
        let dir = tempfile::Builder::new().prefix("chaos").tempdir().unwrap();
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{:#x}", setup.seed));
        let _none = std::fs::remove_dir_all(&logs);
        std::fs::create_dir_all(&logs).unwrap();
        let postgres = setup.postgres.then(Postgres::start);
        let count = setup.nodes;
        let common = Common {
            dir: dir.path().to_owned(),
            lease_seconds: LEASE,
            job_slots: 3,
            logs: logs.clone(),
        };
        let files = (0..count)
            .map(|node| dir.path().join(format!("clock-{node}")))
            .collect();
        let clocks = Clocks::start(files, start);
        let proxies: Vec<Proxy> = postgres
            .iter()
            .flat_map(|server| (0..count).map(|node| (server.address(), node)))
            .map(|(address, node)| {
                let name = format!("node {node}");
                Proxy::start(address, &name, Rng::of(setup.seed, &name))
            })
            .collect();
        let store = |node: usize| match proxies.get(node) {
            Some(proxy) => Store::Postgres(url(proxy.address())),
            None => Store::Sqlite,
        };
        let nodes = (0..count)
            .map(|node| Node::new(node, store(node), &common, clocks.file(node)))
            .collect();
        Self {
            nodes,
            clocks,
            proxies,
            postgres: postgres.map(Mutex::new),
            ears: Ears::start(),
            dir,
            logs,
            setup,
        }
    }

    fn db(&self) -> Db {
        match &self.postgres {
            Some(server) => {
                let address = server.lock().unwrap().address();
                Db::postgres(address)
            }
            None => Db::sqlite(&self.nodes[0].data_dir().join("impresario.db")),
        }
    }

    fn all_up(&self) {
        for node in &self.nodes {
            node.up(None);
        }
        for node in &self.nodes {
            if let Err(seen) = node.wait_ready(START_LIMIT) {
                let sessions =
                    "SELECT application_name, state, wait_event, xact_start, query FROM pg_stat_activity";
                let sessions = self.postgres.is_some().then(|| self.db().rows(sessions));
                panic!(
                    "seed {:#x}: a node does not start\n{seen}\n{sessions:#?}",
                    self.setup.seed
                );
            }
        }
    }

    fn all_down(&self) {
        thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(|| node.down());
            }
        });
    }

    /// The schema, and the record of all writes to it, before anybody writes.
    fn migrate(&self) {
        if self.postgres.is_some() {
            let migrated = self.nodes[0].command(&["migrate"]).output().unwrap();
            let said = String::from_utf8_lossy(&migrated.stderr);
            assert!(migrated.status.success(), "migrate: {said}");
        } else {
            self.all_up();
            self.all_down();
        }
        audit::install(&mut self.db());
    }

    fn runs_file(&self) -> String {
        self.dir.path().join("runs.jsonl").to_str().unwrap().to_owned()
    }

    /// Everything goes wrong for a while.
    fn break_everything(&self, work: &Work, done: &Done) {
        let over = AtomicBool::new(false);
        let lease_ms = if self.setup.postgres { LEASE * 1_000 } else { 1_000 };
        let targets = Targets {
            nodes: &self.nodes,
            proxies: &self.proxies,
            postgres: self.postgres.as_ref(),
            clocks: &self.clocks,
            lease_ms,
            done,
            over: &over,
        };
        let rng = |part: &str| Rng::of(self.setup.seed, part);
        thread::scope(|scope| {
            scope.spawn(|| targets.nodes(&mut rng("nodes")));
            scope.spawn(|| targets.postgres(&mut rng("postgres")));
            scope.spawn(|| targets.lines(&mut rng("lines")));
            scope.spawn(|| targets.clocks(&mut rng("clocks")));
            if let Some(server) = &self.postgres {
                let address = server.lock().unwrap().address();
                let targets = &targets;
                scope.spawn(move || targets.strangers(address, &mut rng("strangers")));
            }
            for owner in ["owner 1", "owner 2"] {
                let over = &over;
                scope.spawn(move || work.go_on(&mut rng(owner), over));
            }
            thread::sleep(Duration::from_secs(self.setup.seconds));
            over.store(true, Ordering::SeqCst);
        });
        for proxy in &self.proxies {
            proxy.heal();
        }
    }

    /// Waits until nothing is left to do; what is left at the deadline.
    fn drain(&self, end: i64, what: &[(&str, String)]) -> Vec<Violation> {
        let mut db = self.db();
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut left: Vec<Violation>;
        loop {
            left = what
                .iter()
                .filter_map(|(name, sql)| {
                    let rows = db.rows(sql);
                    let first = rows.first()?;
                    let what = format!("{} {name} at {}, such as {first}", rows.len(), text(end));
                    Some(Violation {
                        rule: "no quiet",
                        what,
                    })
                })
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Lets the fires and jobs come to their ends, then the callbacks, and gathers what there is.
    fn end(&self, work: &Work) -> (Evidence, Vec<Violation>) {
        let end = self.clocks.stop_together(0);
        self.all_up();
        let due = format!("next_due_at <= {end}");
        let mut wrong = self.drain(
            end,
            &[
                ("schedules are due", format!("SELECT id, next_due_at FROM schedules WHERE enabled = 1 AND {due}")),
                ("jobs are unfinished", "SELECT id, status, held, attempt, lease_token FROM jobs WHERE status IN ('queued', 'starting_browser', 'running')".to_owned()),
                ("ranges wait", "SELECT schedule_id, from_at, until_at, ready FROM catch_ups".to_owned()),
                ("deployments are being built", "SELECT id FROM deployments WHERE status = 'building'".to_owned()),
                ("callbacks are due", format!("SELECT id, attempts FROM deliveries WHERE status = 'pending' AND (lease_token IS NOT NULL OR next_attempt_at <= {end})")),
            ],
        );
        self.all_down();
        let mut evidence = Evidence::gather(&mut self.db(), work, &self.runs_file());
        (evidence.end, evidence.speed) = (end, SPEED);
        // Callbacks that were refused have their next attempts in days. Nothing else may come meanwhile.
        self.db()
            .run("UPDATE schedules SET enabled = 0; DELETE FROM catch_ups");
        self.clocks.stop_together(LAST_ATTEMPT);
        self.all_up();
        let left = "SELECT id, attempts FROM deliveries WHERE status = 'pending'".to_owned();
        wrong.extend(self.drain(end, &[("callbacks are pending", left)]));
        self.all_down();
        let later = Evidence::gather(&mut self.db(), work, &self.runs_file());
        evidence.deliveries = later.deliveries;
        evidence.heard = self.ears.heard();
        evidence.shown = self.clocks.shown();
        (evidence, wrong)
    }
}

/// Through a node's own proxy, which reads what goes by.
fn url(proxy: SocketAddr) -> String {
    format!("postgres://postgres@{proxy}/postgres?sslmode=disable")
}

/// Runs it, and fails with everything that was found.
pub(crate) fn run(setup: Setup) {
    let Setup { seed, seconds, .. } = setup;
    let engine = if setup.postgres {
        ""
    } else {
        "CHAOS_ENGINE=sqlite "
    };
    let again = format!("{engine}scripts/chaos {seconds} {seed:#x}");
    eprintln!("chaos: seed {seed:#x}, {seconds} s; again: {again}");
    let mut rng = Rng::of(seed, "plan");
    let start = plan::start(&mut rng);
    let world = World::new(setup, start);
    world.migrate();
    world.all_up();
    let ears = |secret: &str| world.ears.url(secret);
    let lease_ms = LEASE * 1_000;
    let mut work = Work::new(world.nodes.clone(), ears, (world.runs_file(), lease_ms, start));
    work.set_up(setup.schedules, &mut rng);
    let (done, begun) = (Done::default(), Instant::now());
    world.clocks.run(SPEED);
    world.break_everything(&work, &done);
    let broken = begun.elapsed();
    let (evidence, left) = world.end(&work);
    let mut found = check::check(&evidence);
    found.violations.extend(left);
    for node in &world.nodes {
        let wrong = node.wrong().into_iter();
        found.violations.extend(wrong.map(|what| Violation {
            rule: "node ended",
            what,
        }));
    }
    let report = report(&world, &evidence, &done, &found);
    eprintln!(
        "{report}    {:.0} s of faults, {:.0} s in all",
        broken.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    std::fs::write(world.logs.join("faults.txt"), done.lines().join("\n")).unwrap();
    if found.violations.is_empty() {
        return;
    }
    let all: Vec<String> = found.violations.iter().map(ToString::to_string).collect();
    std::fs::write(world.logs.join("violations.txt"), all.join("\n")).unwrap();
    let audit: Vec<String> = evidence.audit.iter().map(ToString::to_string).collect();
    std::fs::write(world.logs.join("audit.txt"), audit.join("\n")).unwrap();
    // Some of each kind: a fault that has many victims must not hide another.
    let mut of_rule = BTreeMap::<&str, usize>::new();
    let mut shown = String::new();
    for violation in &found.violations {
        let count = of_rule.entry(violation.rule).or_default();
        *count += 1;
        if *count <= SHOWN {
            writeln!(shown, "{violation}").unwrap();
        }
    }
    panic!(
        "{} violations with seed {seed:#x}, {of_rule:?}; again: {again}\n{shown}The nodes' logs, the faults and the record of all \
         writes are in {}",
        all.len(),
        world.logs.display()
    );
}

/// A few lines on what happened.
fn report(world: &World, evidence: &Evidence, done: &Done, found: &Found) -> String {
    let mut text = String::new();
    let outcome = |name: &str| evidence.fires.iter().filter(|row| row.outcome == name).count();
    let missed: i64 = evidence
        .fires
        .iter()
        .filter(|row| row.outcome == "missed")
        .map(|row| row.missed)
        .sum();
    writeln!(
        text,
        "chaos report\n    ledger: {} fired, {} rejected, {} skipped, {missed} missed in {} ranges; {} jobs, {} runs",
        outcome("fired"),
        outcome("rejected"),
        outcome("skipped_overlap"),
        outcome("missed"),
        evidence.jobs.len(),
        evidence.runs.iter().filter(|run| run.what == "begin").count(),
    )
    .unwrap();
    let starts = world.nodes.iter().map(|node| node.starts());
    let (ready, failed) = starts.fold((0, 0), |sum, one| (sum.0 + one.ready, sum.1 + one.failed));
    let nodes = ["killed", "stopped", "ended"].map(|what| format!("{} {what}", done.count(what)));
    writeln!(
        text,
        "    nodes: {}, {ready} starts, {failed} that failed",
        nodes.join(", ")
    )
    .unwrap();
    if !world.proxies.is_empty() {
        let sum = world.proxies.iter().map(Proxy::counts).fold([0; 4], |sum, one| {
            [
                sum[0] + one.commits,
                sum[1] + one.before,
                sum[2] + one.after,
                sum[3] + one.late,
            ]
        });
        writeln!(
            text,
            "    PostgreSQL: {} fast restarts, {} immediate, {} killed; {} commits, cut before {}, after {}, late {}",
            done.count("PostgreSQL restarted fast"),
            done.count("PostgreSQL restarted immediately"),
            done.count("PostgreSQL killed"),
            sum[0],
            sum[1],
            sum[2],
            sum[3],
        )
        .unwrap();
        let lines = [
            "black hole",
            "slow line",
            "line refused",
            "connections reset",
            "connections forgotten",
            "clock skewed",
            "rows locked",
        ];
        let lines = lines.map(|what| format!("{} {what}", done.count(what)));
        writeln!(text, "    lines and others: {}", lines.join(", ")).unwrap();
    }
    let notes: Vec<String> = found
        .notes
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    writeln!(text, "    {}", notes.join(", ")).unwrap();
    writeln!(text, "    violations: {}", found.violations.len()).unwrap();
    text
}
