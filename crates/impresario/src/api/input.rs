//! Reading a JSON object field by field, and saying all that is wrong with it at once.
//!
//! What comes in: the object under `json` of a request. What goes out: plain values, or one 400 with every issue. A
//! handler asks for each field that it knows; what nobody asked for is refused when it calls [`Fields::finish`].
//!
//! ```
//! # use impresario::api::{ApiError, Fields};
//! # fn read(mut input: Fields) -> Result<(String, i64), ApiError> {
//! let name = input.required_string("name", 1..=100);
//! let limit = input.optional_int("limit", 1..=200);
//! input.finish_with(|| Some((name?, limit.unwrap_or(50))))
//! # }
//! ```

use std::{fmt, ops::RangeInclusive};

use impresario_api::{Issue, PathSegment};
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{ApiError, values};

/// One thing that is wrong with a value. The reader puts the field's name before the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where, below the value itself.
    pub path: Vec<PathSegment>,
    /// The kind, in the words of zod: `invalid_type`, `too_small`, `too_big`, `invalid_format`, `invalid_value`,
    /// `unrecognized_keys`, `custom`.
    pub code: &'static str,
    /// The rest of a sentence that begins with the field's name: names the value and what is allowed.
    pub message: String,
}

impl Flaw {
    /// Something wrong with the value itself.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            code,
            message: message.into(),
        }
    }

    /// The same, of the entry `index` of a list.
    #[must_use]
    pub fn at_index(mut self, index: usize) -> Self {
        self.path.insert(0, PathSegment::Index(index));
        self
    }

    /// Where it is, below the field `field`.
    #[must_use]
    pub fn place(&self, field: &str) -> String {
        let mut path = vec![PathSegment::Key(field.to_owned())];
        path.extend(self.path.iter().cloned());
        values::dotted(&path)
    }
}

impl From<Flaw> for Vec<Flaw> {
    fn from(flaw: Flaw) -> Self {
        vec![flaw]
    }
}

/// A field of an update: absent leaves what is there, `null` clears it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not in the input (or wrong, and reported).
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// What a field holds after the update, given what it held before.
    #[must_use]
    pub fn apply(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Absent => before,
            Self::Null => None,
            Self::Set(value) => Some(value),
        }
    }

    /// For a create, where absent and `null` mean the same.
    #[must_use]
    pub fn into_option(self) -> Option<T> {
        self.apply(None)
    }

    /// Whether the input left the field alone.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The same patch of another type.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Set(value) => Patch::Set(change(value)),
        }
    }
}

/// A JSON object that is being read.
#[derive(Default)]
pub struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
    path: Vec<PathSegment>,
    issues: Vec<Issue>,
}

impl fmt::Debug for Fields {
    /// With the names of what was not read yet, and none of the values: a callback secret may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("left", &self.left.keys().collect::<Vec<_>>())
            .field("path", &self.path)
            .field("issues", &self.issues)
            .finish_non_exhaustive()
    }
}

/// The readers come in three kinds. `required_…` reports a missing field; `optional_…` reports `null`, so that a client
/// learns that it clears nothing; `patch_…` takes it. All of them give nothing where they have reported something.
impl Fields {
    /// A reader of `object`, the root of an input.
    #[must_use]
    pub fn new(object: Map<String, Value>) -> Self {
        Self {
            left: object,
            ..Self::default()
        }
    }

    /// A string of so many characters.
    pub fn required_string(&mut self, name: &'static str, chars: RangeInclusive<usize>) -> Option<String> {
        self.required_with(name, |value| values::string(value, &chars))
    }

    /// A string of so many characters.
    pub fn optional_string(&mut self, name: &'static str, chars: RangeInclusive<usize>) -> Option<String> {
        self.optional_with(name, |value| values::string(value, &chars))
    }

    /// A string of so many characters, or `null`.
    pub fn patch_string(&mut self, name: &'static str, chars: RangeInclusive<usize>) -> Patch<String> {
        self.patch_with(name, |value| values::string(value, &chars))
    }

    /// A string of so many characters that no message repeats.
    pub fn required_secret(&mut self, name: &'static str, chars: RangeInclusive<usize>) -> Option<String> {
        self.required_with(name, |value| values::secret(value, &chars))
    }

    /// A string of so many characters that no message repeats.
    pub fn optional_secret(&mut self, name: &'static str, chars: RangeInclusive<usize>) -> Option<String> {
        self.optional_with(name, |value| values::secret(value, &chars))
    }

    /// A whole number; `5.0` is one, `5.5` is not.
    pub fn required_int(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        self.required_with(name, |value| values::int(&value, &range))
    }

    /// A whole number; `5.0` is one, `5.5` is not.
    pub fn optional_int(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        self.optional_with(name, |value| values::int(&value, &range))
    }

    /// `true` or `false`.
    pub fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        self.optional_with(name, |value| values::boolean(&value))
    }

    /// `true`, `false` or `null`.
    pub fn patch_bool(&mut self, name: &'static str) -> Patch<bool> {
        self.patch_with(name, |value| values::boolean(&value))
    }

    /// A UUID in its hyphenated form.
    pub fn required_uuid(&mut self, name: &'static str) -> Option<Uuid> {
        self.required_with(name, |value| values::uuid(&value))
    }

    /// A UUID in its hyphenated form.
    pub fn optional_uuid(&mut self, name: &'static str) -> Option<Uuid> {
        self.optional_with(name, |value| values::uuid(&value))
    }

    /// An RFC 3339 instant.
    pub fn required_instant(&mut self, name: &'static str) -> Option<Timestamp> {
        self.required_with(name, |value| values::instant(&value))
    }

    /// An RFC 3339 instant.
    pub fn optional_instant(&mut self, name: &'static str) -> Option<Timestamp> {
        self.optional_with(name, |value| values::instant(&value))
    }

    /// One of a few words, each standing for a value.
    pub fn optional_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.optional_with(name, |value| values::choice(&value, choices))
    }

    /// An object of any content, such as a workflow's `params`. A NUL character anywhere in it is refused, because
    /// one of the two stores cannot hold it.
    pub fn optional_object(&mut self, name: &'static str) -> Option<Map<String, Value>> {
        self.optional_with(name, values::object)
    }

    /// A list of at most `items` strings of so many characters each.
    pub fn optional_string_list(
        &mut self,
        name: &'static str,
        items: usize,
        chars: RangeInclusive<usize>,
    ) -> Option<Vec<String>> {
        self.optional_with(name, |value| values::string_list(value, items, &chars))
    }

    /// A string that `parse` understands, such as a URL or a cron expression.
    pub fn required_parsed<T>(
        &mut self,
        name: &'static str,
        chars: RangeInclusive<usize>,
        parse: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Option<T> {
        self.required_with(name, |value| values::parsed(value, &chars, parse))
    }

    /// A string that `parse` understands, such as a URL or a cron expression.
    pub fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        chars: RangeInclusive<usize>,
        parse: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Option<T> {
        self.optional_with(name, |value| values::parsed(value, &chars, parse))
    }

    /// A string that `parse` understands, or `null`.
    pub fn patch_parsed<T>(
        &mut self,
        name: &'static str,
        chars: RangeInclusive<usize>,
        parse: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Patch<T> {
        self.patch_with(name, |value| values::parsed(value, &chars, parse))
    }

    /// An object whose fields `read` reads; unread ones are refused.
    pub fn nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.refuse_null(name, &value)?;
        self.read_nested(name, value, read)
    }

    /// An object whose fields `read` reads, or `null`.
    pub fn patch_nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields) -> Option<T>,
    ) -> Patch<T> {
        match self.take(name) {
            None => Patch::Absent,
            Some(Value::Null) => Patch::Null,
            Some(value) => self
                .read_nested(name, value, read)
                .map_or(Patch::Absent, Patch::Set),
        }
    }

    /// A value that must be there, read by `read`.
    pub fn required_with<T, E: Into<Vec<Flaw>>>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        match self.take(name) {
            None => {
                self.issue("invalid_type", "is required", name);
                None
            }
            Some(value) => {
                let read = read(value);
                self.keep(name, read)
            }
        }
    }

    /// A value that may be missing, read by `read`.
    pub fn optional_with<T, E: Into<Vec<Flaw>>>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.refuse_null(name, &value)?;
        self.keep(name, read(value))
    }

    /// A value that may be missing or `null`, read by `read`.
    pub fn patch_with<T, E: Into<Vec<Flaw>>>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, E>,
    ) -> Patch<T> {
        match self.take(name) {
            None => Patch::Absent,
            Some(Value::Null) => Patch::Null,
            Some(value) => self.keep(name, read(value)).map_or(Patch::Absent, Patch::Set),
        }
    }

    /// Whether the input has the field, and nobody has read it yet.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Whether the input has the field with something other than `null`, and nobody has read it yet.
    #[must_use]
    pub fn has_value(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|value| !value.is_null())
    }

    /// Reports something about `field`; its name is put before the message.
    pub fn issue(&mut self, code: &'static str, message: impl Into<String>, field: &'static str) {
        self.report(field, vec![Flaw::new(code, message)]);
    }

    /// Reports what was found wrong with `field` elsewhere, such as `params` against a schema.
    pub fn report(&mut self, field: &'static str, flaws: Vec<Flaw>) {
        for flaw in flaws {
            let mut path = self.path.clone();
            path.push(PathSegment::Key(field.to_owned()));
            // Keys of a client's own may be a megabyte long, and stand in fifty issues.
            path.extend(flaw.path.into_iter().map(|segment| match segment {
                PathSegment::Key(key) => PathSegment::Key(values::shortened(&key)),
                index @ PathSegment::Index(_) => index,
            }));
            let message = format!("{}: {}", values::dotted(&path), flaw.message);
            self.issues.push(Issue {
                code: flaw.code.to_owned(),
                message,
                path,
            });
        }
    }

    /// Whether nothing was found wrong so far.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.issues.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with all issues, among them one that names every field that was not read.
    pub fn finish(self) -> Result<(), ApiError> {
        let issues = self.close();
        if issues.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(issues))
        }
    }

    /// The refusal of an input that was read in full, for what its store or its neighbours say of some fields.
    #[must_use]
    pub fn refusal<F: IntoIterator<Item = (&'static str, Flaw)>>(flaws: F) -> ApiError {
        let mut input = Self::new(Map::new());
        for (field, flaw) in flaws {
            input.report(field, vec![flaw]);
        }
        ApiError::invalid(input.close())
    }

    /// Reads the input of the many routes that take an `id` and nothing else.
    ///
    /// # Errors
    /// 400 with all issues.
    pub fn only_id<T: From<Uuid>>(mut self) -> Result<T, ApiError> {
        let id = self.required_uuid("id");
        self.finish_with(|| id).map(T::from)
    }

    /// Ends the reading and puts the parts together: `build` may use `?` on what was required.
    ///
    /// # Errors
    /// 400 with all issues. If `build` gives nothing although none was found: 500, a fault of the handler's.
    pub fn finish_with<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, ApiError> {
        self.finish()?;
        build().ok_or_else(|| ApiError::internal(anyhow::anyhow!("a valid input gave no value")))
    }

    fn close(mut self) -> Vec<Issue> {
        if !self.left.is_empty() {
            let message = values::unread(&self.left, &self.known, &self.path);
            self.issues.push(Issue {
                code: "unrecognized_keys".to_owned(),
                message,
                path: self.path,
            });
        }
        self.issues
    }

    /// `shift_remove` keeps the order of the rest, which the message about unread keys shows.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.shift_remove(name)
    }

    fn keep<T, E: Into<Vec<Flaw>>>(&mut self, name: &'static str, read: Result<T, E>) -> Option<T> {
        read.map_err(|flaws| self.report(name, flaws.into())).ok()
    }

    fn refuse_null(&mut self, name: &'static str, value: &Value) -> Option<()> {
        if value.is_null() {
            self.issue("invalid_type", "cannot be null; leave it out instead", name);
            return None;
        }
        Some(())
    }

    fn read_nested<T>(
        &mut self,
        name: &'static str,
        value: Value,
        read: impl FnOnce(&mut Fields) -> Option<T>,
    ) -> Option<T> {
        let Value::Object(object) = value else {
            self.issue(
                "invalid_type",
                format!("expected an object, got {}", values::shown(&value)),
                name,
            );
            return None;
        };
        let mut path = self.path.clone();
        path.push(PathSegment::Key(name.to_owned()));
        let mut inner = Fields {
            left: object,
            path,
            ..Self::default()
        };
        let read = read(&mut inner);
        let found = inner.close();
        let fine = found.is_empty();
        self.issues.extend(found);
        read.filter(|_| fine)
    }
}

#[cfg(test)]
mod tests;
