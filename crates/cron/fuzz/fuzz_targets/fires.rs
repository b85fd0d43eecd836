//! Any expression in any zone from any instant: fires are in order, whole minutes, and the same from both sides.
//!
//! The input is eight bytes of seconds, two of zone, and the text of the expression.
#![no_main]

use std::sync::LazyLock;

use impresario_cron::{Cron, Zone};
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;

static ZONES: LazyLock<Vec<&'static str>> = LazyLock::new(|| Zone::all_names().collect());

fuzz_target!(|input: &[u8]| {
    let Some((seconds, rest)) = input.split_first_chunk::<8>() else { return };
    let Some((zone, text)) = rest.split_first_chunk::<2>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(cron) = text.parse::<Cron>() else { return };
    let zone = Zone::get(ZONES[usize::from(u16::from_le_bytes(*zone)) % ZONES.len()]).unwrap();
    let (min, max) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let seconds = min + i64::from_le_bytes(*seconds).rem_euclid(max - min);
    let at = Timestamp::from_second(seconds).unwrap();

    let mut last = at;
    for fire in cron.fires_after(&zone, at).take(4) {
        assert!(fire.at > last && fire.at.as_second() % 60 == 0);
        assert_eq!(cron.next_after(&zone, last), Some(fire.at));
        assert!(fire.scheduled <= fire.local);
        last = fire.at;
    }
    if let Some(next) = cron.next_after(&zone, at) {
        assert!(!cron.is_never());
        assert_eq!(cron.previous_before(&zone, next + SignedDuration::from_nanos(1)), Some(next));
        assert!(cron.previous_before(&zone, next) <= Some(at));
    }
    if let Some(previous) = cron.previous_before(&zone, at) {
        assert_eq!(cron.next_after(&zone, previous - SignedDuration::from_nanos(1)), Some(previous));
        assert!(cron.next_after(&zone, previous).is_none_or(|next| next >= at));
    }
});
