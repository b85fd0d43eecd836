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

/// What one field says.
#[derive(Clone, Copy, Default)]
struct Found {
    mask: u64,
    nth: u64,
    nearest: u32,
    flags: u8,
    /// Where the next field begins, or the blanks before it: more than one is for [`list`] to skip.
    next: usize,
}

/// Reads an expression of any length; the caller bounds it.
///
/// All of the good case is plain values in registers, and what holds the rarer forms is made where one is met:
/// a few bytes that are written and read again at once take longer than the reading.
#[inline(always)]
pub(crate) fn read(text: &[u8]) -> Read<Cron> {
    let first = skip_blanks(text, 0);
    let (bytes, start) = if byte_at(text, first) == b'@' {
        (nickname(text, first)?, 0)
    } else {
        (text, first)
    };
    let minute = field(bytes, start, Field::Minute)?;
    let hour = field(bytes, minute.next, Field::Hour)?;
    let day = field(bytes, hour.next, Field::DayOfMonth)?;
    let month = field(bytes, day.next, Field::Month)?;
    let weekday = last_field(bytes, month.next)?;
    let sunday_twice = (weekday.mask | weekday.mask >> 7) & 0x7f;
    let days = DaySets {
        days: day.mask as u32,
        nearest: day.nearest,
        weekdays: sunday_twice as u8,
        nth: weekday.nth,
        flags: minute.flags | hour.flags | day.flags | weekday.flags,
    };
    Ok(Cron::from_sets(
        minute.mask,
        hour.mask as u32,
        month.mask as u16,
        days,
    ))
}

/// Reads a field with another behind it.
#[inline(always)]
fn field(bytes: &[u8], at: usize, field: Field) -> Read<Found> {
    match common(bytes, at, field) {
        Some(found) => Ok(found),
        None => list(bytes, at, field),
    }
}

/// Reads the day of the week, behind which nothing may follow.
#[inline(always)]
fn last_field(bytes: &[u8], at: usize) -> Read<Found> {
    match common_weekdays(bytes.get(at..).unwrap_or_default()) {
        Some(found) => Ok(found),
        None => last_list(bytes, at),
    }
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

/// Reads a field that is `*`, `*/5` or a number, and one blank behind it.
///
/// Each ends at least two bytes before the end of the text, as another field follows, so that one look at the
/// length does for three bytes.
#[inline(always)]
fn common(bytes: &[u8], at: usize, field: Field) -> Option<Found> {
    let rest = bytes.get(at..)?;
    let &[first, second, third] = rest.first_chunk()?;
    let every = |step, length| Found {
        mask: spread(field.min(), field.max(), step),
        flags: star_flag(field),
        next: at + length,
        ..Found::default()
    };
    let single = |value: u32, length| Found {
        mask: 1_u64 << value,
        next: at + length,
        ..Found::default()
    };
    if first == b'*' {
        if is_blank(second) {
            return Some(every(1, 2));
        }
        let step = u32::from(third.wrapping_sub(b'0'));
        let stepped = second == b'/' && (1..=9).contains(&step) && is_blank(byte_at(rest, 3));
        return stepped.then(|| every(step, 4));
    }
    let (tens, ones) = (
        u32::from(first.wrapping_sub(b'0')),
        u32::from(second.wrapping_sub(b'0')),
    );
    let allowed = field.min()..=field.max();
    if tens <= 9 && is_blank(second) && allowed.contains(&tens) {
        return Some(single(tens, 2));
    }
    let number = 10 * tens + ones;
    (tens <= 9 && ones <= 9 && is_blank(third) && allowed.contains(&number)).then(|| single(number, 3))
}

/// Reads a day of the week that is `*`, `1`, `1-5`, `MON` or `MON-FRI`, with nothing behind it.
#[inline(always)]
fn common_weekdays(rest: &[u8]) -> Option<Found> {
    const FIELD: Field = Field::DayOfWeek;
    let digit = |byte: u8| Some(u32::from(byte.wrapping_sub(b'0'))).filter(|value| *value <= FIELD.max());
    let (low, high, flags) = match *rest {
        [b'*'] => (FIELD.min(), FIELD.max(), star_flag(FIELD)),
        [a] => (digit(a)?, digit(a)?, 0),
        [a, b'-', b] => (digit(a)?, digit(b)?, 0),
        [a, b, c] => (FIELD.value_of([a, b, c])?, FIELD.value_of([a, b, c])?, 0),
        [a, b, c, b'-', d, e, f] => (FIELD.value_of([a, b, c])?, FIELD.value_of([d, e, f])?, 0),
        _ => return None,
    };
    (low <= high).then(|| Found {
        mask: spread(low, high, 1),
        flags,
        ..Found::default()
    })
}

/// Reads a field of any form and the blanks around it.
#[inline(never)]
fn list(bytes: &[u8], at: usize, field: Field) -> Read<Found> {
    let mut reader = Reader {
        bytes,
        at: skip_blanks(bytes, at),
        nth: 0,
        nearest: 0,
        flags: 0,
    };
    if reader.at == bytes.len() {
        return Err(reader.fault(CronErrorKind::FieldCount, None, reader.at));
    }
    if matches!(reader.peek(), b'*' | b'?') {
        reader.flags = star_flag(field);
    }
    let mut mask = 0;
    loop {
        mask |= reader.item(field)?;
        if !reader.take(b',') {
            break;
        }
    }
    Ok(Found {
        mask,
        nth: reader.nth,
        nearest: reader.nearest,
        flags: reader.flags,
        next: skip_blanks(bytes, reader.at),
    })
}

#[inline(never)]
fn last_list(bytes: &[u8], at: usize) -> Read<Found> {
    let found = list(bytes, at, Field::DayOfWeek)?;
    if found.next < bytes.len() {
        return Err(Box::new(Fault {
            kind: CronErrorKind::FieldCount,
            field: None,
            start: found.next,
            end: found.next,
        }));
    }
    Ok(found)
}

/// The expression that a nickname stands for, with nothing but blanks behind it.
#[cold]
fn nickname(text: &[u8], start: usize) -> Read<&'static [u8]> {
    let fault = |kind, start, end| {
        Box::new(Fault {
            kind,
            field: None,
            start,
            end,
        })
    };
    let length = text[start..].iter().position(|&b| is_blank(b));
    let end = length.map_or(text.len(), |length| start + length);
    let meaning: &[u8] = match &text[start..end] {
        b"@yearly" | b"@annually" => b"0 0 1 1 *",
        b"@monthly" => b"0 0 1 * *",
        b"@weekly" => b"0 0 * * 0",
        b"@daily" | b"@midnight" => b"0 0 * * *",
        b"@hourly" => b"0 * * * *",
        _ => return Err(fault(CronErrorKind::UnknownNickname, start, end)),
    };
    let rest = skip_blanks(text, end);
    if rest < text.len() {
        return Err(fault(CronErrorKind::FieldCount, rest, text.len()));
    }
    Ok(meaning)
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

/// What a star at the start of a field says of the whole expression.
#[inline(always)]
const fn star_flag(field: Field) -> u8 {
    match field {
        Field::Minute | Field::Hour => WILD,
        Field::DayOfMonth | Field::DayOfWeek => BOTH,
        Field::Month => 0,
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
