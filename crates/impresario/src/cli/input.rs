//! What a run gets, as flags: params, how it is launched, and where its result goes. In come flags, files and variables,
//! out go the fields of the API's inputs.

use std::{io::Read as _, str::FromStr};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::remote::Stop;
use crate::config;

/// The largest file of params: the server takes no larger body.
const LARGEST: u64 = 1024 * 1024;

fn usage(text: impl Into<String>) -> anyhow::Error {
    Stop::Usage(text.into()).into()
}

/// The params of a workflow.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ParamFlags {
    /// The params as a JSON object, as @FILE with one, or as - for one on stdin
    #[arg(long, value_name = "JSON|@FILE|-")]
    params: Option<String>,
    /// One more of them; VALUE is read as JSON where it is JSON, else as text. May be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = param)]
    param: Vec<(String, Value)>,
}

fn param(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("it has no `=`: write it as KEY=VALUE, such as clinic=north")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}

impl ParamFlags {
    /// Whether only some of the params are named, so that the rest has to come from elsewhere.
    pub(super) fn is_partial(&self) -> bool {
        self.params.is_none() && !self.param.is_empty()
    }

    /// The params, where there are any: `--params`, or else `others`, and over them each `--param`.
    ///
    /// # Errors
    /// Where what `--params` names cannot be read, or is no JSON object.
    pub(super) fn read(
        &self,
        others: Option<Map<String, Value>>,
    ) -> anyhow::Result<Option<Map<String, Value>>> {
        let mut params = match &self.params {
            Some(source) => object(&text_of(source)?)?,
            None if self.param.is_empty() => return Ok(None),
            None => others.unwrap_or_default(),
        };
        params.extend(self.param.iter().cloned());
        Ok(Some(params))
    }
}

fn text_of(source: &str) -> anyhow::Result<String> {
    let (what, read): (_, Box<dyn std::io::Read>) = if source == "-" {
        ("stdin".to_owned(), Box::new(std::io::stdin()))
    } else if let Some(path) = source.strip_prefix('@') {
        let file = std::fs::File::open(path).with_context(|| format!("--params: {path} cannot be read"))?;
        (path.to_owned(), Box::new(file))
    } else {
        return Ok(source.to_owned());
    };
    let mut text = String::new();
    read.take(LARGEST + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("--params: {what} cannot be read"))?;
    if text.len() as u64 > LARGEST {
        return Err(usage(format!("--params: {what} is larger than 1 MiB")));
    }
    Ok(text)
}

fn object(text: &str) -> anyhow::Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(usage(
            "--params: it is JSON, but no object; write it as '{\"clinic\": \"north\"}'",
        )),
        Err(error) => Err(usage(format!(
            "--params: it is no JSON ({error}); write it as '{{\"clinic\": \"north\"}}', or name a file as @FILE"
        ))),
    }
}

/// A length of time in whole seconds, such as `90`, `90s`, `15m`, `2h` or `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u32);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit {
            "" | "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => 0,
        };
        let seconds = number
            .parse()
            .ok()
            .and_then(|number: u32| number.checked_mul(unit));
        seconds.filter(|_| unit > 0).map(Self).ok_or_else(|| {
            "write it as a whole number of seconds, or with a unit: 90s, 15m, 2h, 1d".to_owned()
        })
    }
}

/// How a run is launched, and where its result goes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct LaunchFlags {
    /// How long one run may take, such as 90s or 15m
    #[arg(long, value_name = "LENGTH")]
    timeout: Option<Seconds>,
    /// The page that is opened before the workflow runs
    #[arg(long, value_name = "URL")]
    start_url: Option<String>,
    /// The size of the page, such as 1366x768
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = viewport)]
    viewport: Option<(u32, u32)>,
    /// Whether the browser may use a GPU
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    gpu: Option<bool>,
    /// Where the result is posted; needs --callback-secret-env
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// The variable of the environment with the secret that signs callbacks; a secret has no place on a command line, which
    /// every user of a machine can read
    #[arg(long, value_name = "VARIABLE")]
    callback_secret_env: Option<String>,
    /// Send no callback at all
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_callbacks: Option<bool>,
    /// The country that the traffic leaves from, such as US
    #[arg(long, value_name = "CODE")]
    proxy_country: Option<String>,
    /// The state that it leaves from, only of the US
    #[arg(long, value_name = "CODE", requires = "proxy_country")]
    proxy_state: Option<String>,
    /// The city that it leaves from, such as san-francisco
    #[arg(long, value_name = "CITY", requires = "proxy_country")]
    proxy_city: Option<String>,
    /// The ZIP code that it leaves from, only of the US
    #[arg(long, value_name = "DIGITS", requires = "proxy_country")]
    proxy_zip: Option<String>,
    /// The network that it leaves from, such as AS7922
    #[arg(long, value_name = "ASN", requires = "proxy_country")]
    proxy_asn: Option<String>,
    /// Go past the operator's default proxy
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_default_proxy: Option<bool>,
}

fn viewport(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or_default();
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err("write it as WIDTHxHEIGHT in pixels, such as 1366x768".to_owned()),
    }
}

/// Adds a field where it was given.
pub(super) fn put(fields: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

impl LaunchFlags {
    /// Adds the fields that were given.
    ///
    /// # Errors
    /// Where a variable that is named is not set.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) -> anyhow::Result<()> {
        put(fields, "timeout_seconds", self.timeout.map(|length| length.0));
        put(fields, "start_url", self.start_url.clone());
        put(
            fields,
            "viewport",
            self.viewport
                .map(|(width, height)| json!({"width": width, "height": height})),
        );
        put(fields, "gpu", self.gpu);
        put(fields, "callback_url", self.callback_url.clone());
        if let Some(name) = &self.callback_secret_env {
            let secret = config::variable(name)
                .ok_or_else(|| usage(format!("--callback-secret-env: the variable {name} is not set")))?;
            put(fields, "callback_secret", Some(secret));
        }
        put(fields, "skip_callbacks", self.skip_callbacks);
        if let Some(country) = &self.proxy_country {
            let mut proxy = Map::new();
            put(&mut proxy, "country", Some(country.clone()));
            put(&mut proxy, "state", self.proxy_state.clone());
            put(&mut proxy, "city", self.proxy_city.clone());
            put(&mut proxy, "zip", self.proxy_zip.clone());
            put(&mut proxy, "asn", self.proxy_asn.clone());
            put(fields, "residential_proxy", Some(proxy));
        }
        put(fields, "disable_default_proxy", self.disable_default_proxy);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_a_unit_or_is_in_seconds() {
        for (text, expected) in [
            ("90", Some(90)),
            ("0", Some(0)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("15min", Some(900)),
            ("2h", Some(7200)),
            ("366d", Some(31_622_400)),
            ("", None),
            ("h", None),
            ("-1", None),
            ("1.5h", None),
            ("1 h", None),
            ("9999999d", None),
        ] {
            let read: Result<Seconds, String> = text.parse();
            assert_eq!(read.ok().map(|length| length.0), expected, "{text}");
        }
    }

    #[test]
    fn a_param_is_json_where_it_is_json() {
        for (text, expected) in [
            ("a=1", json!(1)),
            ("a=north", json!("north")),
            ("a=", json!("")),
            ("a=\"1\"", json!("1")),
            ("a=x=y", json!("x=y")),
            ("a=02134", json!("02134")),
            ("a=[1, null]", json!([1, null])),
        ] {
            assert_eq!(param(text), Ok(("a".to_owned(), expected)), "{text}");
        }
        assert!(param("a").is_err());
    }

    #[test]
    fn single_params_go_over_the_whole() {
        let flags = |params: Option<&str>, param: &[&str]| ParamFlags {
            params: params.map(str::to_owned),
            param: param.iter().map(|text| super::param(text).unwrap()).collect(),
        };
        let own = || object(r#"{"own": 1, "a": 1}"#).ok();
        let read = |flags: &ParamFlags| flags.read(own()).unwrap().map(Value::Object);
        assert_eq!(read(&flags(None, &[])), None);
        assert_eq!(read(&flags(None, &["a=2"])), Some(json!({"own": 1, "a": 2})));
        assert_eq!(
            read(&flags(Some(r#"{"b": 1, "a": 1}"#), &["a=2"])),
            Some(json!({"b": 1, "a": 2}))
        );
        assert_eq!(read(&flags(Some("{}"), &[])), Some(json!({})));
        for wrong in ["", "[1]", "{", "north"] {
            assert!(flags(Some(wrong), &[]).read(None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_viewport_has_two_sides() {
        assert_eq!(viewport("1366x768"), Ok((1366, 768)));
        for wrong in ["", "1366", "x", "1366x", "1366 x 768", "ax1"] {
            assert!(viewport(wrong).is_err(), "{wrong}");
        }
    }
}
