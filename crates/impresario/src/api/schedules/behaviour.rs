//! The fields that the hosted service lacks: what people know a schedule by, its bounds, its spread and its policies.
//! All are optional; `null` stands for the default.

use jiff::Timestamp;

use super::super::{Fields, Flaw, Patch, values};
use crate::{
    clock::to_millis,
    domain::{
        DEFAULT_CATCHUP_WINDOW, LONGEST_CATCHUP_WINDOW, Label, MOST_FAILURES, MOST_JITTER, MisfirePolicy,
        OverlapPolicy, Pattern, Policies, Timing,
    },
};

const NAME: std::ops::RangeInclusive<usize> = 1..=100;
const DESCRIPTION: std::ops::RangeInclusive<usize> = 0..=1_000;
const MOST_TAGS: usize = 20;
const TAG: std::ops::RangeInclusive<usize> = 1..=50;

/// What an input says of how a schedule behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct BehaviourPatch {
    name: Patch<String>,
    description: Patch<String>,
    tags: Patch<Vec<String>>,
    start_at: Patch<Timestamp>,
    end_at: Patch<Timestamp>,
    jitter_seconds: Patch<u32>,
    misfire: Patch<MisfirePolicy>,
    catchup_window_seconds: Patch<u32>,
    overlap: Patch<OverlapPolicy>,
    max_consecutive_failures: Patch<u32>,
}

/// The bounds of a schedule and the spread of its fires.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    pub(super) start_at: Option<Timestamp>,
    pub(super) end_at: Option<Timestamp>,
    jitter_seconds: u32,
}

impl Frame {
    pub(super) fn of(timing: &Timing) -> Self {
        Self {
            start_at: timing.start_at,
            end_at: timing.end_at,
            jitter_seconds: timing.jitter_seconds,
        }
    }

    pub(super) fn around(self, pattern: Pattern) -> Timing {
        Timing {
            pattern,
            start_at: self.start_at,
            end_at: self.end_at,
            jitter_seconds: self.jitter_seconds,
        }
    }
}

/// The rule that binds the two bounds.
pub(super) fn in_order(
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
) -> Result<(), (&'static str, Flaw)> {
    match (start_at, end_at) {
        (Some(start), Some(end)) if end <= start => {
            Err(("end_at", Flaw::new("custom", "must be later than start_at")))
        }
        _ => Ok(()),
    }
}

impl BehaviourPatch {
    pub(super) fn read(input: &mut Fields) -> Self {
        let mut number = |name, range: std::ops::RangeInclusive<u32>| {
            let range = i64::from(*range.start())..=i64::from(*range.end());
            let read = input.patch_with(name, |value| values::int(&value, &range));
            // Within the range, so within `u32`.
            read.map(|number| u32::try_from(number).unwrap_or_default())
        };
        let jitter_seconds = number("jitter_seconds", 0..=MOST_JITTER);
        let catchup_window_seconds = number("catchup_window_seconds", 0..=LONGEST_CATCHUP_WINDOW);
        let max_consecutive_failures = number("max_consecutive_failures", 1..=MOST_FAILURES);
        Self {
            name: input.patch_parsed("name", NAME, label),
            description: input.patch_string("description", DESCRIPTION),
            tags: input.patch_with("tags", tags),
            start_at: input.patch_with("start_at", |value| values::instant(&value).map(to_millis)),
            end_at: input.patch_with("end_at", |value| values::instant(&value).map(to_millis)),
            jitter_seconds,
            misfire: input.patch_with("misfire_policy", |value| {
                values::choice(&value, MisfirePolicy::WORDS)
            }),
            catchup_window_seconds,
            overlap: input.patch_with("overlap_policy", |value| {
                values::choice(&value, OverlapPolicy::WORDS)
            }),
            max_consecutive_failures,
        }
    }

    /// The name that it gives.
    pub(super) fn name(&self) -> Option<String> {
        self.name.clone().into_option()
    }

    /// What becomes of what there was.
    pub(super) fn apply(self, label: &Label, frame: Frame, policies: Policies) -> (Label, Frame, Policies) {
        let label = Label {
            name: self.name.apply(label.name.clone()),
            description: self.description.apply(label.description.clone()),
            tags: self.tags.apply(Some(label.tags.clone())).unwrap_or_default(),
        };
        let frame = Frame {
            start_at: self.start_at.apply(frame.start_at),
            end_at: self.end_at.apply(frame.end_at),
            jitter_seconds: self.jitter_seconds.apply(Some(frame.jitter_seconds)).unwrap_or(0),
        };
        let window = self
            .catchup_window_seconds
            .apply(Some(policies.catchup_window_seconds));
        let policies = Policies {
            misfire: self.misfire.apply(Some(policies.misfire)).unwrap_or_default(),
            catchup_window_seconds: window.unwrap_or(DEFAULT_CATCHUP_WINDOW),
            overlap: self.overlap.apply(Some(policies.overlap)).unwrap_or_default(),
            max_consecutive_failures: self
                .max_consecutive_failures
                .apply(policies.max_consecutive_failures),
        };
        (label, frame, policies)
    }
}

/// The rule of a new schedule: it fires at least once within its bounds.
pub(super) fn has_fires(timing: &Timing, now: Timestamp) -> Result<(), (&'static str, Flaw)> {
    if timing.next_after(now).is_some() {
        return Ok(());
    }
    let (Some(end), start) = (timing.end_at, timing.start_at) else {
        // Without bounds too, where the last fire of all has been.
        let field = if timing.start_at.is_some() {
            "start_at"
        } else {
            "cron_expr"
        };
        let message = "leaves no fire: the expression names no instant from then on";
        return Err((field, Flaw::new("invalid_value", message)));
    };
    let message = match start {
        _ if end <= now => "has passed already",
        Some(start) if start > now => {
            "leaves no fire: the expression names no instant from start_at to end_at"
        }
        _ => "leaves no fire: the expression names no instant from now to end_at",
    };
    Err(("end_at", Flaw::new("invalid_value", message)))
}

/// A name that can stand in a list and on a command line.
fn label(text: &str) -> Result<String, Flaw> {
    let refused = |what: &str| {
        let message = format!("{} must {what}", values::quoted(text));
        Err(Flaw::new("invalid_format", message))
    };
    // What changes the direction of text would change how the lines around it read.
    let misleads = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.trim() != text || text.chars().any(misleads) {
        return refused("not contain control characters, or blanks at its ends");
    }
    let unseen = |c: char| {
        c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    };
    if text.chars().all(unseen) {
        return refused("have a character that can be seen");
    }
    Ok(text.to_owned())
}

fn tags(value: serde_json::Value) -> Result<Vec<String>, Vec<Flaw>> {
    let mut kept: Vec<String> = Vec::new();
    let mut flaws = Vec::new();
    for (index, text) in values::string_list(value, MOST_TAGS, &TAG)?
        .into_iter()
        .enumerate()
    {
        match label(&text) {
            // Twice the same is once.
            Ok(text) if kept.contains(&text) => {}
            Ok(text) => kept.push(text),
            Err(flaw) => flaws.push(flaw.at_index(index)),
        }
    }
    if flaws.is_empty() { Ok(kept) } else { Err(flaws) }
}
