//! What an owner decides about fires that cannot simply go ahead: missed ones, overlapping ones, and a schedule that
//! fails again and again.

use jiff::SignedDuration;

use super::ON_TIME;

/// What becomes of instants that nobody could fire in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MisfirePolicy {
    /// One fire, for the newest of them.
    #[default]
    FireOnce,
    /// None.
    Skip,
    /// A fire for each, oldest first, up to [`MOST_CAUGHT_UP`](super::MOST_CAUGHT_UP).
    FireAll,
}

/// What becomes of an instant that comes while a job of an earlier one is not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OverlapPolicy {
    /// It fires beside it.
    #[default]
    Allow,
    /// It is skipped.
    Skip,
    /// It waits for the end of the other; at most one does, further ones are skipped.
    BufferOne,
    /// What is not finished is cancelled, and it runs once that has ended.
    CancelRunning,
}

macro_rules! words {
    ($policy:ty: $($variant:ident = $word:literal),+) => {
        impl $policy {
            /// All of them, as the API and the store write them.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// As the API and the store write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// Reads what `as_str` writes.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, policy)| *policy)
            }
        }
    };
}

words!(MisfirePolicy: FireOnce = "fire_once", Skip = "skip", FireAll = "fire_all");
words!(OverlapPolicy: Allow = "allow", Skip = "skip", BufferOne = "buffer_one", CancelRunning = "cancel_running");

/// How far back missed instants are made up for, in seconds, where a schedule does not say.
pub const DEFAULT_CATCHUP_WINDOW: u32 = 24 * 60 * 60;
/// The longest catch-up window, in seconds: 366 days.
pub const LONGEST_CATCHUP_WINDOW: u32 = 366 * 24 * 60 * 60;
/// The largest `max_consecutive_failures`.
pub const MOST_FAILURES: u32 = 1_000;

/// An owner's decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    /// For instants that were missed.
    pub misfire: MisfirePolicy,
    /// How late a missed instant may be and still be made up for, in seconds, 0 to [`LONGEST_CATCHUP_WINDOW`].
    pub catchup_window_seconds: u32,
    /// For instants that come while another is not finished.
    pub overlap: OverlapPolicy,
    /// So many failures in a row disable the schedule, 1 to [`MOST_FAILURES`]; `None` never does.
    pub max_consecutive_failures: Option<u32>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            misfire: MisfirePolicy::default(),
            catchup_window_seconds: DEFAULT_CATCHUP_WINDOW,
            overlap: OverlapPolicy::default(),
            max_consecutive_failures: None,
        }
    }
}

impl Policies {
    /// How late an instant may be acted on: what is on time is never too late.
    #[must_use]
    pub fn window(&self) -> SignedDuration {
        SignedDuration::from_secs(self.catchup_window_seconds.into()).max(ON_TIME)
    }
}

/// The jobs of a schedule's fires that are not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Queued or running.
    pub active: u64,
    /// Of those, the ones that make up for a missed instant.
    pub catching_up: u64,
    /// Waiting for one of those.
    pub held: u64,
}

/// What becomes of an instant that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Its job goes to the queue.
    Start,
    /// Its job waits for those that are not finished.
    Hold,
    /// There is no job.
    Skip,
    /// Those that are not finished are cancelled, but for one that makes up for a missed instant; its job waits for the
    /// last of them.
    Replace,
}

impl OverlapPolicy {
    /// What becomes of an instant that comes while `unfinished` are there.
    ///
    /// One that meets nothing but a job that makes up for a missed instant waits for it: a backlog neither overlaps with
    /// what comes nor starves it, because the next of the backlog waits for this one in turn.
    #[must_use]
    pub fn admit(self, unfinished: Unfinished) -> Admission {
        let only_catching_up = unfinished.active == unfinished.catching_up && unfinished.held == 0;
        match self {
            Self::Allow => Admission::Start,
            _ if unfinished == Unfinished::default() => Admission::Start,
            _ if only_catching_up => Admission::Hold,
            Self::Skip => Admission::Skip,
            Self::BufferOne if unfinished.held == 0 => Admission::Hold,
            Self::BufferOne => Admission::Skip,
            Self::CancelRunning => Admission::Replace,
        }
    }

    /// Whether an instant that is made up for may fire now. It never joins another that is made up for, and joins
    /// others only where the policy lets fires overlap: so a backlog is worked off one by one, beside what comes.
    #[must_use]
    pub fn admits_catch_up(self, unfinished: Unfinished) -> bool {
        match self {
            Self::Allow => unfinished.catching_up == 0,
            _ => unfinished == Unfinished::default(),
        }
    }
}

/// Whether a failed job counts against `max_consecutive_failures`: faults of this server and of what it runs on do not.
#[must_use]
pub fn counts_against(failure_class: &str) -> bool {
    // The names are those of `failure_class` in the API.
    !matches!(
        failure_class,
        "worker_lost" | "internal" | "runner" | "browser" | "configuration" | "restored"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_decides_on_every_state() {
        use Admission::{Hold, Replace, Skip, Start};
        // Queued or running, those of them that make up for a missed instant, and waiting.
        let states = [
            (0, 0, 0),
            (1, 0, 0),
            (1, 0, 1),
            (3, 0, 1),
            (1, 1, 0),
            (1, 1, 1),
            (2, 1, 0),
        ];
        for (policy, expected) in [
            (OverlapPolicy::Allow, [Start; 7]),
            (OverlapPolicy::Skip, [Start, Skip, Skip, Skip, Hold, Skip, Skip]),
            (
                OverlapPolicy::BufferOne,
                [Start, Hold, Skip, Skip, Hold, Skip, Hold],
            ),
            (
                OverlapPolicy::CancelRunning,
                [Start, Replace, Replace, Replace, Hold, Replace, Replace],
            ),
        ] {
            let decided = states.map(|(active, catching_up, held)| {
                policy.admit(Unfinished {
                    active,
                    catching_up,
                    held,
                })
            });
            assert_eq!(decided, expected, "{policy:?}");
        }
    }

    #[test]
    fn a_backlog_is_worked_off_one_by_one() {
        let state = |active, catching_up, held| Unfinished {
            active,
            catching_up,
            held,
        };
        for policy in OverlapPolicy::WORDS.iter().map(|(_, policy)| *policy) {
            let allows = policy == OverlapPolicy::Allow;
            assert!(policy.admits_catch_up(Unfinished::default()), "{policy:?}");
            assert!(!policy.admits_catch_up(state(1, 1, 0)), "{policy:?}");
            assert_eq!(policy.admits_catch_up(state(1, 0, 0)), allows, "{policy:?}");
            assert_eq!(policy.admits_catch_up(state(0, 0, 1)), allows, "{policy:?}");
        }
    }

    #[test]
    fn policies_are_written_as_they_are_read() {
        for (word, policy) in OverlapPolicy::WORDS {
            assert_eq!(
                (policy.as_str(), OverlapPolicy::parse(word)),
                (*word, Some(*policy))
            );
        }
        for (word, policy) in MisfirePolicy::WORDS {
            assert_eq!(
                (policy.as_str(), MisfirePolicy::parse(word)),
                (*word, Some(*policy))
            );
        }
        assert_eq!(MisfirePolicy::parse("fire_twice"), None);
    }

    #[test]
    fn only_faults_that_are_not_ours_count() {
        for class in [
            "workflow",
            "invalid_input",
            "timeout",
            "process_exit",
            "bundle",
            "credential",
            "protocol",
            "result_too_large",
        ] {
            assert!(counts_against(class), "{class}");
        }
        for class in [
            "worker_lost",
            "internal",
            "runner",
            "browser",
            "configuration",
            "restored",
        ] {
            assert!(!counts_against(class), "{class}");
        }
    }
}
