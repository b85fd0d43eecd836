//! Lists in pages: `limit` and `cursor` in, `next_cursor` out.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Fields, Flaw};
use crate::store::PageCursor;

/// Reads how many are asked for; `most` is the largest number that is answered.
pub(super) fn limit(input: &mut Fields, name: &'static str, default: u32, most: u32) -> u32 {
    let asked = input.optional_int(name, 1..=i64::from(most));
    asked
        .and_then(|asked| u32::try_from(asked).ok())
        .unwrap_or(default)
}

/// Reads where the page starts.
pub(super) fn cursor(input: &mut Fields) -> Option<PageCursor> {
    input
        .patch_parsed("cursor", 1..=80, |text| {
            PageCursor::parse(text)
                .ok_or_else(|| Flaw::new("invalid_value", "is not a next_cursor of this list"))
        })
        .into_option()
}

/// Cuts a list that was asked for with one more than `limit` and says where the next page starts, if there is one.
pub(super) fn cut<T>(
    mut rows: Vec<T>,
    limit: u32,
    key: impl Fn(&T) -> (Timestamp, Uuid),
) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| {
        let (at, id) = key(row);
        PageCursor {
            at: at.as_millisecond(),
            id: id.as_hyphenated().to_string(),
        }
        .to_string()
    });
    (rows, next)
}
