//! What a run is made of, drawn from its seed: schedules of all kinds.

use serde_json::{Value, json};

use crate::{clocks::text, rng::Rng};

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

/// The clocks begin here: shortly before New York's, Lord Howe's or Berlin's are put forward or back, or on an ordinary
/// day.
const STARTS: [&str; 5] = [
    "2027-03-14T06:35:00Z",
    "2027-11-07T05:20:00Z",
    "2027-04-03T14:40:00Z",
    "2027-03-28T00:30:00Z",
    "2027-06-09T11:47:00Z",
];
const ZONES: [&str; 7] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Pacific/Chatham",
];
/// Of schedules whose fires run something.
const PATTERNS: [&str; 8] = [
    "*/10 * * * *",
    "*/15 * * * *",
    "7,27,47 * * * *",
    "*/12 * * * *",
    "3-59/14 * * * *",
    "0,20,40 * * * *",
    "5,35 * * * *",
    "*/30 * * * *",
];
/// Of schedules whose workflow is gone: their fires are rows of the ledger and run nothing, so there may be many.
const FREQUENT: [&str; 4] = ["* * * * *", "*/2 * * * *", "1-59/2 * * * *", "*/3 * * * *"];
pub(crate) const MISFIRE: [&str; 3] = ["fire_once", "skip", "fire_all"];
pub(crate) const OVERLAP: [&str; 4] = ["allow", "skip", "buffer_one", "cancel_running"];

/// Whom the end of a job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    /// The schedule's own receiver.
    Own,
    /// The tenant's.
    Tenant,
    /// Nobody.
    None,
}

/// A schedule, as it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) tenant: usize,
    pub(crate) name: String,
    pub(crate) workflow: &'static str,
    pub(crate) cron: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) misfire: &'static str,
    pub(crate) overlap: &'static str,
    pub(crate) callback: Callback,
    /// How long its runs take, in milliseconds.
    pub(crate) takes: u64,
    pub(crate) jitter: u64,
    pub(crate) window: u64,
    pub(crate) end: Option<i64>,
    pub(crate) limit: Option<u64>,
}

pub(crate) const TENANTS: usize = 3;

impl Spec {
    /// One of many: the policies take turns, the rest is drawn.
    pub(crate) fn draw(rng: &mut Rng, number: usize, start: i64, lease_ms: u64) -> Self {
        let gone = number % 5 == 4;
        let workflow = match (gone, rng.below(12)) {
            (true, _) => "gone",
            (false, 0) => "fails",
            (false, _) => "works",
        };
        Self {
            tenant: number % TENANTS,
            name: format!("schedule {number}"),
            workflow,
            cron: if gone {
                rng.pick(&FREQUENT)
            } else {
                rng.pick(&PATTERNS)
            },
            zone: rng.pick(&ZONES),
            misfire: MISFIRE[number % 3],
            overlap: OVERLAP[number / 3 % 4],
            callback: rng.weighted(&[(2, Callback::Own), (2, Callback::Tenant), (1, Callback::None)]),
            // Some runs outlast a lease, so that it has to be held on to.
            takes: match rng.below(8) {
                0 => lease_ms + rng.between(500, 2_500),
                1 | 2 => rng.between(500, 2_000),
                _ => rng.between(0, 50),
            },
            jitter: if rng.one_in(3) {
                rng.pick(&[20, 60, 240])
            } else {
                0
            },
            window: rng.pick(&[0, 900, 86_400, 86_400]),
            end: rng
                .one_in(12)
                .then(|| start + MINUTE * i64::try_from(rng.between(32, 50)).unwrap()),
            limit: (workflow == "fails").then_some(3).filter(|_| rng.one_in(2)),
        }
    }

    pub(crate) fn input(&self, own: &str, runs: &str) -> Value {
        let mut input = json!({
            "workflow": self.workflow, "name": self.name, "cron_expr": self.cron, "timezone": self.zone,
            "misfire_policy": self.misfire, "overlap_policy": self.overlap, "jitter_seconds": self.jitter,
            "catchup_window_seconds": self.window, "end_at": self.end.map(text),
            "max_consecutive_failures": self.limit, "timeout_seconds": 120,
            "params": {"file": runs, "ms": self.takes},
        });
        match self.callback {
            Callback::Own => {
                input["callback_url"] = own.into();
                input["callback_secret"] = OWN_SECRET.into();
            }
            Callback::Tenant => {}
            Callback::None => input["skip_callbacks"] = true.into(),
        }
        input
    }
}

pub(crate) const OWN_SECRET: &str = "own-secret";
pub(crate) const TENANT_SECRET: &str = "tenant-secret";

/// Where the clocks begin.
pub(crate) fn start(rng: &mut Rng) -> i64 {
    let at: jiff::Timestamp = rng.pick(&STARTS).parse().unwrap();
    at.as_millisecond()
}

/// A change that its owner may make at any time.
pub(crate) fn change(rng: &mut Rng, paused: bool) -> Value {
    if paused {
        return json!({"enabled": true});
    }
    match rng.below(10) {
        0 | 1 => json!({"enabled": false}),
        2..=4 => json!({"cron_expr": rng.pick(&PATTERNS)}),
        5 => json!({"timezone": rng.pick(&ZONES)}),
        6 => json!({"jitter_seconds": rng.pick(&[0, 30, 120])}),
        7 => json!({"misfire_policy": rng.pick(&MISFIRE)}),
        8 => json!({"catchup_window_seconds": rng.pick(&[0, 600, 86_400])}),
        _ => json!({"timeout_seconds": rng.between(100, 140)}),
    }
}

/// The workflows. Each run writes to a file that the checker reads, at its begin and at its end.
pub(crate) const SOURCE: &str = r#"
import { appendFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
const run = (fails) => async (ctx, input) => {
  const run = randomUUID();
  const line = (what) => appendFileSync(input.file, JSON.stringify({ job: ctx.session, run, what }) + "\n");
  line("begin");
  console.log(run);
  await setTimeout(input.ms);
  line("end");
  if (fails) throw new Error(`failed on purpose: ${run}`);
  return { run };
};
export const works = workflow("works", run(false));
export const fails = workflow("fails", run(true));
export const gone = workflow("gone", run(false));
"#;
