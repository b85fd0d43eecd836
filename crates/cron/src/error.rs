//! What is wrong with an expression, for people and for programs.

use std::fmt;

use crate::field::Field;

/// What sort of mistake an expression has. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CronErrorKind {
    /// Nothing but blanks.
    Empty,
    /// Over [`MAX_LENGTH`](crate::MAX_LENGTH) bytes.
    TooLong,
    /// A character that no expression has: a line break, a control character, anything but ASCII.
    InvalidCharacter,
    /// Not five fields.
    FieldCount,
    /// A word with `@` that is not one of the nicknames.
    UnknownNickname,
    /// A time zone inside the expression.
    ZoneInExpression,
    /// Nothing before, between or behind commas.
    EmptyItem,
    /// Not a number of the field.
    InvalidValue,
    /// A number outside the field's range.
    OutOfRange,
    /// Letters that are no name of the field.
    UnknownName,
    /// A range whose end comes before its start.
    ReversedRange,
    /// A range without an end, with two ends, or with `*` in it.
    InvalidRange,
    /// A step that is not a whole number from 1.
    InvalidStep,
    /// Syntax of another cron that has no meaning here.
    Unsupported,
}

impl CronErrorKind {
    /// A stable name for programs, such as `out_of_range`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CronErrorKind::Empty => "empty",
            CronErrorKind::TooLong => "too_long",
            CronErrorKind::InvalidCharacter => "invalid_character",
            CronErrorKind::FieldCount => "field_count",
            CronErrorKind::UnknownNickname => "unknown_nickname",
            CronErrorKind::ZoneInExpression => "zone_in_expression",
            CronErrorKind::EmptyItem => "empty_item",
            CronErrorKind::InvalidValue => "invalid_value",
            CronErrorKind::OutOfRange => "out_of_range",
            CronErrorKind::UnknownName => "unknown_name",
            CronErrorKind::ReversedRange => "reversed_range",
            CronErrorKind::InvalidRange => "invalid_range",
            CronErrorKind::InvalidStep => "invalid_step",
            CronErrorKind::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for CronErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not an expression.
///
/// `Display` is one sentence with what is wrong, what is allowed and, where it helps, what to write instead.
///
/// ```
/// use impresario_cron::{Cron, CronErrorKind, Field};
///
/// let error = "0 25 * * *".parse::<Cron>().unwrap_err();
/// assert_eq!(error.to_string(), r#"hour "25" is out of range (0-23)"#);
/// assert_eq!(error.kind(), CronErrorKind::OutOfRange);
/// assert_eq!(error.field(), Some(Field::Hour));
/// assert_eq!((error.position(), error.text()), (2, "25"));
/// assert_eq!(error.render(), "hour \"25\" is out of range (0-23)\n  0 25 * * *\n    ^^");
///
/// let error = "0 22-6 * * *".parse::<Cron>().unwrap_err();
/// assert_eq!(error.to_string(), r#"hour range "22-6" runs backwards; write "22-23,0-6""#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError(pub(crate) Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) kind: CronErrorKind,
    pub(crate) field: Option<Field>,
    /// The text that was read, cut at [`MAX_LENGTH`](crate::MAX_LENGTH).
    pub(crate) expression: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl CronError {
    /// The sort of mistake.
    #[must_use]
    pub fn kind(&self) -> CronErrorKind {
        self.0.kind
    }

    /// The field at fault, unless the expression as a whole is.
    #[must_use]
    pub fn field(&self) -> Option<Field> {
        self.0.field
    }

    /// Where the offending text begins, in bytes from the start of the expression.
    #[must_use]
    pub fn position(&self) -> usize {
        self.0.start
    }

    /// The offending text; empty where something is missing, and for what is beyond the longest text allowed.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0
            .expression
            .get(self.0.start..self.0.end)
            .unwrap_or_default()
    }

    /// The values the field at fault may hold, such as `0-23`.
    #[must_use]
    pub fn allowed(&self) -> Option<&'static str> {
        self.0.field.map(Field::allowed)
    }

    /// What to write instead, where the mistake is a known one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The message, the expression below it and carets under the offending text: three lines.
    #[must_use]
    pub fn render(&self) -> String {
        let Details {
            expression,
            start,
            end,
            ..
        } = &*self.0;
        // One column a character, whatever it is, keeps the carets in place.
        let shown: String = expression
            .chars()
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            })
            .collect();
        let column = expression
            .get(..*start)
            .map_or(0, |before| before.chars().count());
        let width = expression
            .get(*start..*end)
            .map_or(1, |text| text.chars().count().max(1));
        format!("{self}\n  {shown}\n  {}{}", " ".repeat(column), "^".repeat(width))
    }
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CronError {}
