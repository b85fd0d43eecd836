//! A schedule: a deployed workflow, its input, when it fires, and what its owner decided about fires that cannot simply
//! go ahead.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::{
    DeploymentId, Due, FirePlan, JobId, Launch, MisfirePolicy, Missed, MissedReason, ON_TIME, Policies,
    Range, ScheduleId, SecretId, TenantId, Timing, plan_fire,
};

/// What people know a schedule by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Unique within the tenant.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// For people and for filters.
    pub tags: Vec<String>,
}

/// What its owner decides about a schedule: the input of create, and the resulting state of an update.
#[derive(Debug, Clone)]
pub struct ScheduleDraft {
    /// The name of a deployed workflow.
    pub workflow: String,
    /// What people know it by.
    pub label: Label,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// When it fires.
    pub timing: Timing,
    /// What becomes of missed and overlapping fires, and of a schedule that fails again and again.
    pub policies: Policies,
    /// How each run is started.
    pub launch: Launch,
    /// Its own receiver; goes together with `callback_secret`.
    pub callback_url: Option<String>,
    /// Signs what is sent there.
    pub callback_secret: Option<SecretId>,
    /// Send no callback at all.
    pub skip_callbacks: bool,
    /// Whether it fires.
    pub enabled: bool,
}

/// Why and since when a schedule that disabled itself is disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfDisabled {
    /// A sentence for its owner.
    pub reason: String,
    /// When it did.
    pub at: Timestamp,
}

/// What was last found when the params were checked against the workflow's schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamsCheck {
    /// The deployment whose schema it was; `None` where they were not checked yet.
    pub against: Option<DeploymentId>,
    /// What is wrong with them.
    pub error: Option<String>,
}

/// A schedule as it is stored.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What its owner decided.
    pub draft: ScheduleDraft,
    /// The cursor, a nominal instant; stale while the schedule is disabled.
    pub next_fire_at: Option<Timestamp>,
    /// Whether it was set aside because it cannot be read: it stands where it was until somebody can.
    pub set_aside: bool,
    /// Since when it has this pattern and is enabled.
    pub pattern_since: Timestamp,
    /// The scheduled instant of the newest fire.
    pub last_fire_at: Option<Timestamp>,
    /// The job of the newest fire.
    pub last_job_id: Option<JobId>,
    /// The error of the newest finished run or fire.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// Of those, the ones that count against the limit.
    pub counted_failures: u32,
    /// Where it disabled itself.
    pub self_disabled: Option<SelfDisabled>,
    /// Whether its params fit the workflow.
    pub params_check: ParamsCheck,
    /// How many missed instants wait to be made up for.
    pub catching_up: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}

/// Where a schedule stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleState {
    /// It fires.
    Active,
    /// Its owner, or its limit of failures, has disabled it.
    Disabled,
    /// It has come to its `end_at`: nothing is left to fire.
    Finished,
    /// This version cannot read it, so it does not fire.
    SetAside,
}

impl ScheduleState {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Finished => "finished",
            Self::SetAside => "set_aside",
        }
    }
}

/// What becomes of an instant that is owed but not yet due, and of what waits to be made up for, when a schedule is
/// changed. What *is* due has fired before the change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The cursor after the change.
    pub cursor: Option<Timestamp>,
    /// Whether the schedule counts as begun at the change: no instant before it is owed.
    pub begins_anew: bool,
    /// Whether the instant whose nominal time has come, but not its share of the spread, is taken back.
    pub retires: Option<Timestamp>,
    /// Whether what waits to be made up for is given up.
    pub retires_catch_up: bool,
}

impl Schedule {
    /// A schedule that begins at the time `now`.
    #[must_use]
    pub fn begun(id: ScheduleId, tenant: TenantId, draft: ScheduleDraft, now: Timestamp) -> Self {
        Self {
            id,
            tenant,
            next_fire_at: draft.timing.next_after(now),
            set_aside: false,
            draft,
            pattern_since: now,
            last_fire_at: None,
            last_job_id: None,
            last_error: None,
            consecutive_failures: 0,
            counted_failures: 0,
            self_disabled: None,
            params_check: ParamsCheck::default(),
            catching_up: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// What `next_fire_at` shows at the time `now`: the cursor, or for a disabled schedule the instant at which it
    /// would fire were it enabled now.
    #[must_use]
    pub fn shown_next_fire(&self, now: Timestamp) -> Option<Timestamp> {
        match self.draft.enabled {
            true if self.set_aside => None,
            true => self.next_fire_at,
            false => self.draft.timing.next_after(now),
        }
    }

    /// Where it stands at the time `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ScheduleState {
        let nothing_left = self.shown_next_fire(now).is_none() && self.catching_up == 0;
        if self.draft.enabled && self.set_aside {
            ScheduleState::SetAside
        } else if nothing_left && self.draft.timing.is_over(now) {
            ScheduleState::Finished
        } else if self.draft.enabled {
            ScheduleState::Active
        } else {
            ScheduleState::Disabled
        }
    }

    /// When an instant of this schedule is acted on: see [`Timing::due_at`].
    #[must_use]
    pub fn due_at(&self, at: Timestamp) -> Timestamp {
        self.draft.timing.due_at(self.id, at)
    }

    /// What to do with it at the time `now`; `None` where nothing is due.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Option<FirePlan> {
        let first = self.first_owed(now);
        let plan = first.and_then(|cursor| {
            let due = Due {
                id: self.id,
                timing: &self.draft.timing,
                policies: self.draft.policies,
                cursor,
                waiting: self.catching_up,
            };
            plan_fire(&due, now)
        });
        let Some(missed) = self.before_begin(now) else {
            return plan;
        };
        let mut plan = plan.unwrap_or(FirePlan {
            missed: Vec::new(),
            owed: None,
            fire_at: None,
            next: first,
        });
        plan.missed.insert(0, missed);
        Some(plan)
    }

    /// What the cursor names although the pattern began later: by one of two clocks it came, by the other it was nobody's.
    /// Which of them was wrong cannot be known, so it does not fire, and is not passed over in silence either. By both,
    /// nothing came before the schedule was made.
    fn before_begin(&self, now: Timestamp) -> Option<Missed> {
        let timing = &self.draft.timing;
        let cursor = self
            .next_fire_at
            .filter(|cursor| self.is_doubtful(*cursor, now))?;
        let made = Some(self.created_at).filter(|made| *made <= now);
        let from = match made.filter(|made| *made >= cursor) {
            Some(made) => timing.next_after(made)?,
            None => cursor,
        };
        let until = timing
            .latest_until(self.pattern_since)
            .filter(|until| *until >= from);
        let until = until.or_else(|| Some(from).filter(|from| *from == cursor))?;
        Some(Missed {
            range: Range::count(timing, from, until),
            reason: MissedReason::Down,
        })
    }

    /// All that has come by `until` and is not accounted for, whatever its share of the spread and the misfire policy:
    /// oldest first.
    #[must_use]
    pub fn come_by(&self, until: Timestamp) -> Vec<Range> {
        let timing = &self.draft.timing;
        let before = self.before_begin(until).map(|missed| missed.range);
        let come = self.first_owed(until).filter(|first| *first <= until);
        let come = come.map(|first| {
            // The cursor counts even where the pattern, under other rules of its zone, does not name it any more.
            let last = timing.latest_until(until).filter(|last| *last >= first);
            Range::count(timing, first, last.unwrap_or(first))
        });
        before.into_iter().chain(come).collect()
    }

    /// Whether the cursor lies before the pattern began, and is not just coming: what comes while somebody looks, fires.
    fn is_doubtful(&self, cursor: Timestamp, now: Timestamp) -> bool {
        // A begin that lies ahead says only that one of the two clocks was wrong, and not which.
        let before = cursor <= self.pattern_since && self.pattern_since <= now;
        before && now.duration_since(self.due_at(cursor)) > ON_TIME
    }

    /// What the owner's change to `next` does to the instants of this schedule at the time `now`, when everything that
    /// was due is accounted for.
    ///
    /// A changed expression or zone, and a re-enable, start anew from now. Changed bounds leave an owed instant that
    /// lies within the new ones, and otherwise start anew too. A pause takes back what is owed. Anything else, a
    /// changed spread included, leaves the cursor: an owed instant then goes by its new share.
    #[must_use]
    pub fn transition(&self, next: &ScheduleDraft, now: Timestamp) -> Transition {
        let (old, new) = (&self.draft.timing, &next.timing);
        let owed = self.next_fire_at.filter(|at| self.draft.enabled && *at <= now);
        let kept = owed.filter(|at| next.enabled && old.same_pattern(new) && new.allows(*at));
        let moves = !old.same_instants(new) || (next.enabled && !self.draft.enabled);
        let cursor = match kept {
            Some(at) => Some(at),
            None if moves => new.next_after(now),
            None => self.next_fire_at,
        };
        let goes_on = next.enabled
            && self.draft.enabled
            && old.same_instants(new)
            && next.policies.misfire == MisfirePolicy::FireAll;
        Transition {
            cursor,
            begins_anew: moves && kept.is_none(),
            retires: owed.filter(|_| kept.is_none()),
            retires_catch_up: !goes_on,
        }
    }

    /// The oldest instant that may fire: where the cursor stands, but none that lies before the pattern began. A clock
    /// that was behind for a moment puts cursors there.
    #[must_use]
    pub fn first_owed(&self, now: Timestamp) -> Option<Timestamp> {
        let cursor = self.next_fire_at?;
        match self.is_doubtful(cursor, now) {
            true => self.draft.timing.next_after(self.pattern_since),
            false => Some(cursor),
        }
    }

    /// Where the cursor belongs at `now`, whatever the clock or the time zone's rules have been. `accounted` is the
    /// newest instant on record that is not after now; it is needed where the clock was `ahead`, or where
    /// [`Schedule::is_misplaced`].
    ///
    /// What had come stays owed. Where a clock was ahead, what came after the newest instant on record is owed too.
    /// Under new rules of the zone, the nearest instant takes the place of the one that was next, come or not. Otherwise
    /// the first instant after now comes next.
    ///
    /// A pattern that began after `now` was made by a clock that was ahead, and begins now; but where it is within `skew`,
    /// by the clock of another node that is a little ahead of this one, and nothing before its begin is owed.
    #[must_use]
    pub fn true_cursor(
        &self,
        (now, skew): (Timestamp, SignedDuration),
        ahead: bool,
        accounted: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let timing = &self.draft.timing;
        let is_near = self.pattern_since.duration_since(now) <= skew;
        let begin = if is_near { self.pattern_since } else { now };
        let accounted = accounted.map_or(begin, |at| at.max(begin));
        match self.next_fire_at {
            Some(next) if self.is_misplaced() => {
                let before = timing.previous_before(next).filter(|at| *at > accounted);
                let after = timing.next_after(next);
                let nearer = |before: &Timestamp| {
                    after.is_none_or(|after| next.duration_since(*before) <= after.duration_since(next))
                };
                before.filter(nearer).or(after)
            }
            Some(owed) if owed <= now => Some(owed),
            _ if ahead => timing.next_after(accounted),
            _ => timing.next_after(begin.max(now)),
        }
    }

    /// Whether the cursor is an instant that the timing does not have: the rules of its zone have changed.
    #[must_use]
    pub fn is_misplaced(&self) -> bool {
        self.next_fire_at.is_some_and(|at| !self.draft.timing.names(at))
    }
}

#[cfg(test)]
impl ScheduleDraft {
    /// An enabled schedule of `workflow` in UTC, with the defaults for everything else.
    pub(crate) fn plain(workflow: &str, expr: &str) -> Self {
        Self {
            workflow: workflow.to_owned(),
            label: Label::default(),
            params: Map::new(),
            timing: Timing::of(super::Pattern::parse(expr, "UTC").unwrap()),
            policies: Policies::default(),
            launch: serde_json::from_value(serde_json::json!({"timeout_seconds": 1})).unwrap(),
            callback_url: None,
            callback_secret: None,
            skip_callbacks: false,
            enabled: true,
        }
    }
}

#[cfg(test)]
mod tests;
