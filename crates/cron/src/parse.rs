//! From text to bit sets, in one pass over the bytes. What is wrong with a text that fails is worked out apart
//! (`explain`), so that the good case pays nothing for it.

use std::str::FromStr;

use crate::error::{CronError, CronErrorKind};
use crate::explain::explain;
use crate::field::Field;
use crate::pattern::{BOTH, Cron, DaySets, LAST, LAST_WEEKDAY, WILD};

/// The longest expression that is read, in bytes.
pub const MAX_LENGTH: usize = 256;

/// Where and how reading failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: CronErrorKind,
    pub(crate) field: Option<Field>,
    /// Byte range of the offending text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A word and a pointer: what is read comes back in registers.
type Read<T> = Result<T, Box<Fault>>;

impl FromStr for Cron {
    type Err = CronError;

    /// Reads five fields, separated by spaces or tabs, or one of `@yearly`, `@annually`, `@monthly`, `@weekly`,
    /// `@daily`, `@midnight`, `@hourly`.
    ///
    /// # Errors
    ///
    /// [`CronError`] tells the field, the position, what is allowed there and, where the text is of another
    /// dialect, how to write it here. Texts over [`MAX_LENGTH`] bytes are refused.
    #[inline]
    fn from_str(text: &str) -> Result<Cron, CronError> {
        if text.len() > MAX_LENGTH {
            let fault = Fault {
                kind: CronErrorKind::TooLong,
                field: None,
                start: MAX_LENGTH,
                end: text.len(),
            };
            return Err(explain(text, fault));
        }
        match read(text.as_bytes()) {
            Ok(cron) => Ok(cron),
            Err(fault) => Err(explain(text, *fault)),
        }
    }
}

#[inline(always)]
pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Reads an expression of any length; the caller bounds it.
///
/// Place and flags are plain values here, and the [`Reader`] of the rarer forms is a thing apart: kept in one
/// they would go through memory at every field, which takes longer than the reading.
#[inline(always)]
pub(crate) fn read(bytes: &[u8]) -> Read<Cron> {
    let mut reader = Reader {
        bytes,
        at: 0,
        nth: 0,
        nearest: 0,
        flags: 0,
    };
    let start = skip_blanks(bytes, 0);
    if byte_at(bytes, start) == b'@' {
        return reader.nickname(start);
    }
    let (minutes, hour_at) = reader.field(Field::Minute, start)?;
    let (hours, day_at) = reader.field(Field::Hour, hour_at)?;
    let (days, month_at) = reader.field(Field::DayOfMonth, day_at)?;
    let (months, weekday_at) = reader.field(Field::Month, month_at)?;
    let (weekdays, end) = reader.field(Field::DayOfWeek, weekday_at)?;
    if end < bytes.len() {
        return Err(reader.fault(CronErrorKind::FieldCount, None, end));
    }
    let starred = |at: usize| matches!(byte_at(bytes, at), b'*' | b'?');
    let wild = if starred(start) || starred(hour_at) {
        WILD
    } else {
        0
    };
    let both = if starred(day_at) || starred(weekday_at) {
        BOTH
    } else {
        0
    };
    let sunday_twice = (weekdays | weekdays >> 7) & 0x7f;
    let day_sets = DaySets {
        days: days as u32,
        nearest: reader.nearest,
        weekdays: sunday_twice as u8,
        nth: reader.nth,
        flags: reader.flags | wild | both,
    };
    Ok(Cron::from_sets(minutes, hours as u32, months as u16, day_sets))
}

/// The byte at a place, or a blank at the end: both end a field.
#[inline(always)]
fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(b' ')
}

#[inline(always)]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).copied().is_some_and(is_blank) {
        at += 1;
    }
    at
}

/// Reads a field that is one of the commonest forms: `*`, `*/5`, a number, `MON`, `MON-FRI`. Gives its values
/// and where the next field begins.
#[inline(always)]
fn common(bytes: &[u8], at: usize, field: Field) -> Option<(u64, usize)> {
    let [first, second, third] = [0, 1, 2].map(|n| byte_at(bytes, at + n));
    let found = |mask: u64, length: usize| Some((mask, skip_blanks(bytes, at + length)));
    if first == b'*' {
        if is_blank(second) {
            return found(spread(field.min(), field.max(), 1), 1);
        }
        let step = u32::from(third.wrapping_sub(b'0'));
        if second == b'/' && (1..=9).contains(&step) && is_blank(byte_at(bytes, at + 3)) {
            return found(spread(field.min(), field.max(), step), 3);
        }
        return None;
    }
    let (tens, ones) = (
        u32::from(first.wrapping_sub(b'0')),
        u32::from(second.wrapping_sub(b'0')),
    );
    let allowed = field.min()..=field.max();
    if tens <= 9 && is_blank(second) && allowed.contains(&tens) {
        return found(1 << tens, 1);
    }
    if tens <= 9 && ones <= 9 && is_blank(third) && allowed.contains(&(10 * tens + ones)) {
        return found(1 << (10 * tens + ones), 2);
    }
    if field != Field::DayOfWeek {
        return None;
    }
    let name = |at: usize| {
        let &[a, b, c] = bytes.get(at..at + 3)? else {
            return None;
        };
        field.value_of([a, b, c])
    };
    let low = name(at)?;
    let next = byte_at(bytes, at + 3);
    if is_blank(next) {
        return found(1 << low, 3);
    }
    let high =
        name(at + 4).filter(|high| *high >= low && next == b'-' && is_blank(byte_at(bytes, at + 7)))?;
    found(spread(low, high, 1), 7)
}

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
    nth: u64,
    nearest: u32,
    flags: u8,
}

impl Reader<'_> {
    /// The next byte, or a blank at the end: both end a field.
    #[inline(always)]
    fn peek(&self) -> u8 {
        byte_at(self.bytes, self.at)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    #[cold]
    fn fault(&self, kind: CronErrorKind, field: Option<Field>, start: usize) -> Box<Fault> {
        Box::new(Fault {
            kind,
            field,
            start,
            end: self.at.max(start),
        })
    }

    /// A fault in the item that starts at `start`: it reaches to the next comma or blank.
    #[cold]
    fn bad_item(&self, kind: CronErrorKind, field: Field, start: usize) -> Box<Fault> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&b| b == b',' || is_blank(b))
            .unwrap_or(rest.len());
        Box::new(Fault {
            kind,
            field: Some(field),
            start,
            end: start + length,
        })
    }

    #[inline(never)]
    fn nickname(&mut self, start: usize) -> Read<Cron> {
        let length = self.bytes[start..].iter().position(|&b| is_blank(b));
        self.at = length.map_or(self.bytes.len(), |length| start + length);
        let meaning: &[u8] = match &self.bytes[start..self.at] {
            b"@yearly" | b"@annually" => b"0 0 1 1 *",
            b"@monthly" => b"0 0 1 * *",
            b"@weekly" => b"0 0 * * 0",
            b"@daily" | b"@midnight" => b"0 0 * * *",
            b"@hourly" => b"0 * * * *",
            _ => return Err(self.fault(CronErrorKind::UnknownNickname, None, start)),
        };
        let rest = skip_blanks(self.bytes, self.at);
        if rest < self.bytes.len() {
            self.at = self.bytes.len();
            return Err(self.fault(CronErrorKind::FieldCount, None, rest));
        }
        read(meaning)
    }

    /// Reads a field and the blanks behind it; gives its values and where the next begins.
    #[inline(always)]
    fn field(&mut self, field: Field, at: usize) -> Read<(u64, usize)> {
        match common(self.bytes, at, field) {
            Some(found) => Ok(found),
            None => self.list(field, at),
        }
    }

    #[inline(never)]
    fn list(&mut self, field: Field, at: usize) -> Read<(u64, usize)> {
        self.at = at;
        if self.at == self.bytes.len() {
            return Err(self.fault(CronErrorKind::FieldCount, None, self.at));
        }
        let mut mask = 0;
        loop {
            mask |= self.item(field)?;
            if !self.take(b',') {
                break;
            }
        }
        Ok((mask, skip_blanks(self.bytes, self.at)))
    }

    #[inline]
    fn item(&mut self, field: Field) -> Read<u64> {
        let start = self.at;
        let first = self.peek();
        let (low, mut high, mut stepped_to_end) = if first == b'*' || (first == b'?' && field.is_day()) {
            self.at += 1;
            (field.min(), field.max(), true)
        } else if first == b',' || is_blank(first) {
            return Err(self.fault(CronErrorKind::EmptyItem, Some(field), start));
        } else if field == Field::DayOfMonth && first.eq_ignore_ascii_case(&b'L') {
            return self.last_day(field, start);
        } else {
            let low = self.value(field, start)?;
            if self.special(field, low, start)? {
                return Ok(0);
            }
            (low, low, false)
        };
        if !stepped_to_end && self.take(b'-') {
            high = self.range_end(field, low, start)?;
            stepped_to_end = true;
        }
        let mut step = 1;
        if self.take(b'/') {
            step = self.step(field, start)?;
            if !stepped_to_end {
                high = field.max();
            }
        }
        let next = self.peek();
        if next != b',' && !is_blank(next) {
            return Err(self.bad_item(CronErrorKind::InvalidValue, field, start));
        }
        Ok(spread(low, high, step))
    }

    /// A number or a name.
    #[inline]
    fn value(&mut self, field: Field, item: usize) -> Read<u32> {
        let start = self.at;
        let first = self.peek();
        if first.is_ascii_digit() {
            let value = self.number();
            if value < field.min() || value > field.max() {
                // `5x` is wrong as a whole, not out of range.
                if self.peek().is_ascii_alphanumeric() && !field.is_day() {
                    return Err(self.bad_item(CronErrorKind::InvalidValue, field, item));
                }
                return Err(self.fault(CronErrorKind::OutOfRange, Some(field), start));
            }
            return Ok(value);
        }
        if first.is_ascii_alphabetic()
            && let Some(&[a, b, c]) = self.bytes.get(start..start + 3)
            && let Some(value) = field.value_of([a, b, c])
        {
            self.at += 3;
            return Ok(value);
        }
        let kind = if first.is_ascii_alphabetic() {
            CronErrorKind::UnknownName
        } else {
            CronErrorKind::InvalidValue
        };
        Err(self.bad_item(kind, field, item))
    }

    /// Digits, held at a value that no field allows however many follow.
    #[inline]
    fn number(&mut self) -> u32 {
        let mut value = 0_u32;
        while let Some(digit) = self.bytes.get(self.at).filter(|b| b.is_ascii_digit()) {
            value = (value * 10 + u32::from(digit - b'0')).min(1_000);
            self.at += 1;
        }
        value
    }

    fn range_end(&mut self, field: Field, low: u32, item: usize) -> Read<u32> {
        let next = self.peek();
        if !next.is_ascii_alphanumeric() {
            return Err(self.bad_item(CronErrorKind::InvalidRange, field, item));
        }
        let named = next.is_ascii_alphabetic();
        let mut high = self.value(field, item)?;
        if named && field == Field::DayOfWeek && high == 0 {
            high = 7;
        }
        match self.peek() {
            b'-' => Err(self.bad_item(CronErrorKind::InvalidRange, field, item)),
            _ if high < low => Err(self.bad_item(CronErrorKind::ReversedRange, field, item)),
            _ => Ok(high),
        }
    }

    fn step(&mut self, field: Field, item: usize) -> Read<u32> {
        let step = if self.peek().is_ascii_digit() {
            self.number()
        } else {
            0
        };
        if step == 0 {
            return Err(self.bad_item(CronErrorKind::InvalidStep, field, item));
        }
        match self.peek() {
            b',' | b' ' | b'\t' => Ok(step),
            _ => Err(self.bad_item(CronErrorKind::InvalidStep, field, item)),
        }
    }

    /// `L` or `LW`.
    fn last_day(&mut self, field: Field, start: usize) -> Read<u64> {
        self.at += 1;
        let weekday = self.peek().eq_ignore_ascii_case(&b'W');
        self.at += usize::from(weekday);
        self.end_of_special(field, start)?;
        self.flags |= if weekday { LAST_WEEKDAY } else { LAST };
        Ok(0)
    }

    /// What may follow a single day: `15W`, `5L`, `TUE#2`. Tells whether there was any.
    #[inline]
    fn special(&mut self, field: Field, value: u32, start: usize) -> Read<bool> {
        let next = self.peek();
        match field {
            Field::DayOfMonth if next.eq_ignore_ascii_case(&b'W') => {
                self.at += 1;
                self.nearest |= 1 << value;
            }
            Field::DayOfWeek if next.eq_ignore_ascii_case(&b'L') => {
                self.at += 1;
                self.nth |= 1 << (8 * (value % 7) + 5);
            }
            Field::DayOfWeek if next == b'#' => {
                self.at += 1;
                let digits = self.at;
                let nth = self.number();
                if !(1..=5).contains(&nth) || digits == self.at {
                    return Err(self.bad_item(CronErrorKind::InvalidValue, field, start));
                }
                self.nth |= 1 << (8 * (value % 7) + nth - 1);
            }
            _ => return Ok(false),
        }
        self.end_of_special(field, start)?;
        Ok(true)
    }

    fn end_of_special(&self, field: Field, start: usize) -> Read<()> {
        let next = self.peek();
        if next == b',' || is_blank(next) {
            return Ok(());
        }
        Err(self.bad_item(CronErrorKind::InvalidValue, field, start))
    }
}

/// The bits `low`, `low + step`, … up to `high`.
#[inline(always)]
fn spread(low: u32, high: u32, step: u32) -> u64 {
    let from_low = EVERY[step.min(MAX_STEP) as usize] << low;
    from_low & ((2 << high) - 1)
}

/// Larger steps than this keep the first value only.
const MAX_STEP: u32 = 60;

/// For each step the bits 0, step, 2 * step, …
const EVERY: [u64; MAX_STEP as usize + 1] = {
    let mut table = [0; MAX_STEP as usize + 1];
    let mut step = 1;
    while step < table.len() {
        let mut bit = 0;
        while bit < 64 {
            table[step] |= 1 << bit;
            bit += step;
        }
        step += 1;
    }
    table
};
