//! Which instant of a schedule fires, which were missed, which are made up for, and which comes next: a pure function
//! of its timing, its policies, the durable cursor and the time.

use jiff::{SignedDuration, Timestamp};

use super::{MisfirePolicy, Policies, ScheduleId, Timing};

/// What to do with a schedule whose cursor has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirePlan {
    /// What nobody fires any more, oldest first.
    pub missed: Vec<Missed>,
    /// What is made up for one by one, oldest first (`fire_all`).
    pub owed: Option<Range>,
    /// What fires now: the newest instant that is due, unless it is too late for it.
    pub fire_at: Option<Timestamp>,
    /// The cursor's next stand: the first instant that is not due yet; `None` if there is none.
    pub next: Option<Timestamp>,
}

/// A run of instants that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The oldest.
    pub from: Timestamp,
    /// The newest.
    pub until: Timestamp,
    /// How many, at least 1; counted up to 100,000.
    pub count: u64,
}

/// A run of instants that nobody fires any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Which.
    pub range: Range,
    /// Why.
    pub reason: MissedReason,
}

/// Why an instant is in the ledger as missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedReason {
    /// Nobody could fire it in time: the server was down, or its clock was wrong.
    Down,
    /// It was later than the catch-up window allows.
    OutsideCatchUp,
    /// More instants were missed than are made up for.
    OverLimit,
    /// A change, a pause or the failure limit took it back before it fired.
    Retired,
    /// The schedule had disabled itself.
    PausedByLimit,
    /// The database was put back from an older backup: it may have fired, and nobody can know.
    Restored,
}

impl MissedReason {
    /// As the API and the store write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::OutsideCatchUp => "outside_catchup",
            Self::OverLimit => "over_limit",
            Self::Retired => "retired",
            Self::PausedByLimit => "paused_by_limit",
            Self::Restored => "restored",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Down => "it was not fired in time: the server was down, or its clock was wrong",
            Self::OutsideCatchUp => "it was not fired in time, and later than the catch-up window allows",
            Self::OverLimit => "more instants were missed than are made up for",
            Self::Retired => "it was taken back before it fired, by a change or a pause of the schedule",
            Self::PausedByLimit => "the schedule had disabled itself at its limit of failures in a row",
            Self::Restored => {
                "the database was put back from an older backup: it may have fired before, so it does not fire again"
            }
        }
    }
}

/// Instants of a range are counted one by one up to here (two months of a schedule that fires every minute), so that
/// years of downtime cost bounded work.
pub const MOST_COUNTED: u64 = 100_000;

/// How many missed instants of one schedule wait to be made up for at the most.
pub const MOST_CAUGHT_UP: u64 = 1_000;

/// An instant that is acted on within this time of its due time was not missed, whatever the misfire policy.
pub const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

impl Range {
    /// The instants of `timing` from `from` to `until`, both of which are among them.
    #[must_use]
    pub fn count(timing: &Timing, from: Timestamp, until: Timestamp) -> Self {
        let mut range = Self {
            from,
            until,
            count: 1,
        };
        let mut at = from;
        while range.count < MOST_COUNTED {
            match timing.next_after(at) {
                Some(next) if next <= until => {
                    at = next;
                    range.count += 1;
                }
                _ => break,
            }
        }
        range
    }

    /// Whether these are the instants of `timing` between its ends.
    #[must_use]
    pub fn is_of(&self, timing: &Timing) -> bool {
        timing.names(self.from) && Self::count(timing, self.from, self.until) == *self
    }

    /// Whether there are more instants than were counted.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.count >= MOST_COUNTED
    }

    fn missed(self, reason: MissedReason) -> Missed {
        Missed { range: self, reason }
    }
}

/// A schedule as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub struct Due<'a> {
    /// Whose instants they are: the spread depends on it.
    pub id: ScheduleId,
    /// When it fires.
    pub timing: &'a Timing,
    /// What its owner decided.
    pub policies: Policies,
    /// Its oldest unaccounted instant.
    pub cursor: Timestamp,
    /// How many missed instants wait to be made up for already.
    pub waiting: u64,
}

/// Plans the fires of a schedule at the time `now`. `None` where nothing is due yet: a fire is never early.
#[must_use]
pub fn plan_fire(due: &Due<'_>, now: Timestamp) -> Option<FirePlan> {
    let newest = newest_due(due, now)?;
    let late = now.duration_since(due.timing.due_at(due.id, newest));
    let window = due.policies.window();
    let (on_time, in_window) = (late <= ON_TIME, late <= window);
    let fires = match due.policies.misfire {
        MisfirePolicy::FireOnce => in_window,
        MisfirePolicy::Skip | MisfirePolicy::FireAll => on_time,
    };
    let last_passed = if fires {
        due.timing.previous_before(newest).filter(|at| *at >= due.cursor)
    } else {
        Some(newest)
    };
    // The cursor may be an instant that the pattern, under another time zone database, does not name any more.
    let last_passed = last_passed.or_else(|| Some(due.cursor).filter(|cursor| *cursor < newest));
    let mut plan = FirePlan {
        missed: Vec::new(),
        owed: None,
        fire_at: fires.then_some(newest),
        next: due.timing.next_after(newest),
    };
    let Some(until) = last_passed else {
        return Some(plan);
    };
    match due.policies.misfire {
        MisfirePolicy::FireAll => share_out(due, (until, now, window), &mut plan),
        policy => {
            let reason = if policy == MisfirePolicy::FireOnce && !in_window {
                MissedReason::OutsideCatchUp
            } else {
                MissedReason::Down
            };
            let range = Range::count(due.timing, due.cursor, until);
            plan.missed.push(range.missed(reason));
        }
    }
    Some(plan)
}

/// The newest instant whose due time has come, from the cursor on.
fn newest_due(due: &Due<'_>, now: Timestamp) -> Option<Timestamp> {
    if due.timing.due_at(due.id, due.cursor) > now {
        return None;
    }
    // The shares of the spread keep the order, so only the newest one can be still to come.
    let mut newest = due.timing.latest_until(now);
    if newest.is_some_and(|at| due.timing.due_at(due.id, at) > now) {
        newest = newest.and_then(|at| due.timing.previous_before(at));
    }
    // The cursor is due even where the pattern would not name it any more.
    Some(newest.map_or(due.cursor, |at| at.max(due.cursor)))
}

/// Of what was missed, up to `until`: the newest are owed, as many as there is room for and as far back as the window
/// reaches; the others are missed.
fn share_out(
    due: &Due<'_>,
    (until, now, window): (Timestamp, Timestamp, SignedDuration),
    plan: &mut FirePlan,
) {
    let timing = due.timing;
    let in_window = |at: Timestamp| now.duration_since(timing.due_at(due.id, at)) <= window;
    let before = |at: Timestamp| timing.previous_before(at).filter(|at| *at >= due.cursor);
    let room = MOST_CAUGHT_UP.saturating_sub(due.waiting);
    let mut owed: Option<Range> = None;
    let mut rest = Some(until);
    while let Some(at) = rest.filter(|at| in_window(*at)) {
        match &mut owed {
            Some(range) if range.count < room => {
                range.from = at;
                range.count += 1;
            }
            None if room > 0 => owed = Some(Range::count(timing, at, at)),
            _ => break,
        }
        rest = before(at);
    }
    plan.owed = owed;
    let Some(rest) = rest else { return };
    if !in_window(rest) {
        let range = Range::count(timing, due.cursor, rest);
        plan.missed.push(range.missed(MissedReason::OutsideCatchUp));
        return;
    }
    // There was no room for what is left, and part of it may be outside the window as well.
    let mut oldest_inside = due.cursor;
    if !in_window(oldest_inside) {
        let edge = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        // With a spread, an instant before the edge may be due after it.
        let mut at = timing.previous_before(edge).unwrap_or(due.cursor).max(due.cursor);
        while !in_window(at) {
            match timing.next_after(at) {
                Some(next) => at = next,
                None => break,
            }
        }
        oldest_inside = at;
        if let Some(outside) = before(oldest_inside) {
            let range = Range::count(timing, due.cursor, outside);
            plan.missed.push(range.missed(MissedReason::OutsideCatchUp));
        }
    }
    if oldest_inside <= rest {
        let range = Range::count(timing, oldest_inside, rest);
        plan.missed.push(range.missed(MissedReason::OverLimit));
    }
}

#[cfg(test)]
mod tests;
