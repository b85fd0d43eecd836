//! What is simulated: schedules and changes to them, drawn from a seed.

use serde_json::{Value, json};

use super::model::{Model, Rule, SECOND};

pub(super) const HOUR: i64 = 3_600 * SECOND;
pub(super) const DAY: i64 = 24 * HOUR;

pub(super) const MISFIRE: [&str; 3] = ["fire_once", "skip", "fire_all"];
pub(super) const OVERLAP: [&str; 4] = ["allow", "skip", "buffer_one", "cancel_running"];
/// Zones that change their clocks by an hour and by half an hour, on both halves of the world and on a Saturday, and
/// zones that do not.
const ZONES: [&str; 10] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Nuuk",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];
/// At least half an hour lies between two instants of each, so none is acted on within a minute of the one before.
const PATTERNS: [&str; 24] = [
    "30 2 * * *",
    "0 9 * * 1-5",
    "15 9,17 * * 1-5",
    "30 1 * * *",
    "0,30 2 * * 0",
    "45 23 * * 6",
    "0 0 1,15 * *",
    "0 12 13 * 5",
    "0 6 */2 * 1",
    "0 8 L * *",
    "30 7 * * 2#1",
    "0 0 * * *",
    "0 */6 * * *",
    "*/30 1 * * 0",
    "0 * * * 0",
    "15 */12 * * *",
    "0 2-3 * * 6,7",
    "0 3 * 3,4,10,11 *",
    "30 23 * * 6",
    "0 18 * * 3",
    "20 2 * * 1",
    "5 14 * * 4",
    "0 0-23/4 * 3,11 *",
    "0 10 1-7 * 1",
];

/// SplitMix64: the same numbers on every machine.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// From `low` to `high`, in whole units.
    pub(super) fn span(&mut self, low: i64, high: i64, unit: i64) -> i64 {
        let wide = usize::try_from(high - low).unwrap();
        (low + i64::try_from(self.below(wide + 1)).unwrap()) * unit
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn window(rng: &mut Rng) -> i64 {
    rng.pick(&[24 * HOUR, 24 * HOUR, 0, 2 * HOUR, 3 * DAY, 30 * DAY])
}

fn jitter(rng: &mut Rng) -> i64 {
    rng.pick(&[60, 600, 1800, 3600]) * SECOND
}

/// Bounds that begin or end somewhere in the year.
fn bounds(rng: &mut Rng, now: i64) -> (Option<i64>, Option<i64>) {
    let start = (!rng.one_in(3)).then(|| now + rng.span(-5, 40, DAY) + rng.span(0, 24, HOUR));
    let end = (!rng.one_in(3))
        .then(|| start.unwrap_or(now).max(now) + rng.span(10, 150, DAY) + rng.span(0, 24, HOUR));
    (start, end)
}

/// A schedule. The policies are the cross product of all there are; the rest is drawn.
pub(super) fn rule(rng: &mut Rng, number: usize, now: i64, span: (i64, i64)) -> Rule {
    let mut rule = Rule {
        workflow: if number % 5 < 3 { "firm" } else { "loose" },
        cron: rng.pick(&PATTERNS),
        zone: rng.pick(&ZONES),
        start: None,
        end: None,
        jitter: if number % 24 < 12 { 0 } else { jitter(rng) },
        misfire: MISFIRE[number % 3],
        window: window(rng),
        overlap: OVERLAP[number % 4],
        limit: rng.one_in(2).then(|| rng.span(1, 4, 1).unsigned_abs()),
        enabled: !rng.one_in(15),
    };
    let free = rule.clone();
    if rng.one_in(3) {
        (rule.start, rule.end) = bounds(rng, now);
    }
    if Model::new(rule.clone(), now, span).first_after(now).is_some() {
        rule
    } else {
        free
    }
}

/// A change that its owner may make: what is sent, and what the schedule then is. `None` where this draw is not
/// allowed for it.
pub(super) fn change(rng: &mut Rng, model: &Model, now: i64, span: (i64, i64)) -> Option<(Value, Rule)> {
    let mut rule = model.rule.clone();
    if !rule.enabled {
        rule.enabled = true;
        return Some((json!({"enabled": true}), rule));
    }
    let input = match rng.below(11) {
        0 => {
            rule.cron = rng.pick(&PATTERNS);
            json!({"cron_expr": rule.cron})
        }
        1 => {
            rule.zone = rng.pick(&ZONES);
            json!({"timezone": rule.zone})
        }
        2 | 3 => {
            (rule.start, rule.end) = bounds(rng, now);
            if rng.one_in(6) {
                (rule.start, rule.end) = (None, Some(now - rng.span(0, 5, HOUR)));
            }
            json!({"start_at": rule.input()["start_at"], "end_at": rule.input()["end_at"]})
        }
        4 => {
            rule.jitter = if rng.one_in(2) { 0 } else { jitter(rng) };
            json!({"jitter_seconds": rule.jitter / SECOND})
        }
        5 => {
            rule.misfire = rng.pick(&MISFIRE);
            json!({"misfire_policy": rule.misfire})
        }
        6 => {
            rule.overlap = rng.pick(&OVERLAP);
            json!({"overlap_policy": rule.overlap})
        }
        7 => {
            rule.window = window(rng);
            json!({"catchup_window_seconds": rule.window / SECOND})
        }
        8 | 9 => {
            rule.enabled = false;
            json!({"enabled": false})
        }
        // The same again changes nothing.
        _ => json!({"cron_expr": rule.cron, "timezone": rule.zone, "enabled": true, "timeout_seconds": 60}),
    };
    let after = Model::new(rule.clone(), now, span).first_after(now);
    let allowed = after.is_some() || rule.end.is_some_and(|end| end <= now);
    allowed.then_some((input, rule))
}
