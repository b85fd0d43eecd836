//! JSON text to a value, strictly: valid UTF-8, bounded depth, no key twice.
//!
//! Of two values under one key most readers take the last, some the first. A request whose meaning depends on the
//! reader is refused instead.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep lists and objects may be nested. Below the parser's own limit of 128, so that the message is ours.
const DEPTH: usize = 100;

/// Reads `bytes`.
///
/// # Errors
/// A sentence that says what is wrong and at which line and column.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| format!("the body is not valid UTF-8 (from byte {} on)", e.valid_up_to()))?;
    // Some editors and shells begin every file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict { depth: DEPTH }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| format!("the body is not valid JSON: {e}"))
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom(format_args!("nested more than {DEPTH} levels deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let key = super::values::quoted(&key);
                return Err(A::Error::custom(format_args!("the key {key} is given twice")));
            }
            let value = entries.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_the_lax_reader_reads() {
        for text in [
            r#" {"a": [1, -2, 3.5, true, null, "x\u00e9\n"], "b": {"c": {}}, "": 18446744073709551615} "#,
            "5",
            "\"\"",
            "[]",
            "-0.0",
        ] {
            assert_eq!(
                parse(text.as_bytes()).unwrap(),
                serde_json::from_str::<Value>(text).unwrap()
            );
        }
        assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap(), json!({}));
    }

    #[test]
    fn numbers_keep_their_last_digit() {
        for text in [
            "31.245270191439438",
            "121.48791951161945",
            "2.2250738585072014e-308",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refusals_say_where() {
        for (text, message) in [
            (&b"{\"a\": 1,}"[..], "line 1 column 9"),
            (b"{\n  \"a\": tru }", "line 2 column 11"),
            (b"{\"a\": 1e400}", "number out of range at line 1"),
            (b"{\"a\": \"\\ud800\"}", "line 1"),
            (b"{\"a\": \"\xff\"}", "not valid UTF-8 (from byte 7 on)"),
            (
                b"{\"a\": 1, \"b\": {\"x\": 1, \"x\": 2}}",
                "the key \"x\" is given twice",
            ),
            (b"{} {}", "trailing characters"),
            (b"NaN", "line 1 column 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nested(DEPTH).as_bytes()).is_ok());
        assert!(
            parse(nested(DEPTH + 1).as_bytes())
                .unwrap_err()
                .contains("100 levels")
        );
        assert!(
            parse("[".repeat(10_000).as_bytes())
                .unwrap_err()
                .contains("100 levels")
        );
        assert!(
            parse("{\"a\":".repeat(10_000).as_bytes())
                .unwrap_err()
                .contains("100 levels")
        );
    }

    proptest::proptest! {
        #[test]
        fn a_number_comes_back_as_it_was(number in proptest::num::f64::NORMAL) {
            let text = Value::from(number).to_string();
            assert_eq!(parse(text.as_bytes()).unwrap().as_f64().map(f64::to_bits), Some(number.to_bits()));
        }

        #[test]
        fn any_bytes_give_what_the_lax_reader_gives_or_a_refusal(
            text in r#"[\[\]{}:,"a\\u0-9eE+. \-]{0,40}"#, bytes: Vec<u8>
        ) {
            let _ = parse(&bytes);
            if let Ok(value) = parse(text.as_bytes()) {
                assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
