//! What was said about a database, as text: in come a URL and libpq's variables, out goes for each parameter what the
//! URL, else the variable, said.
//!
//! No error repeats a part of a URL that may belong to a password. A password with an unescaped `/` or `?` in it ends
//! the user's part early, and its rest looks like a port, a database or a parameter.

use std::collections::BTreeMap;

use crate::spelling::nearest;

/// Every parameter that is read, with libpq's variable for it.
const PARAMETERS: [(&str, &str); 16] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// How much of a value an error repeats, in characters.
const SHOWN: usize = 80;

/// A value and the words for where it stands, such as `the variable PGPORT`. No `Debug`: it may be the password.
struct Given {
    place: String,
    value: String,
    /// Whether an error may repeat it.
    shown: bool,
}

/// What was said, by the parameter's name.
pub(super) struct Parameters {
    given: BTreeMap<&'static str, Given>,
    /// Whether what is being read may be repeated.
    shown: bool,
}

impl Parameters {
    /// Reads the URL, and the variables for what it leaves open.
    pub(super) fn read(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut given = Self {
            given: BTreeMap::new(),
            shown: false,
        };
        given.add_url(url)?;
        given.shown = true;
        for (name, variable) in PARAMETERS {
            if !given.given.contains_key(name)
                && let Some(value) = env(variable)
            {
                given.add(name, format!("the variable {variable}"), value);
            }
        }
        Ok(given)
    }

    /// Nothing is the same as not given, as in libpq.
    fn add(&mut self, name: &'static str, place: String, value: String) {
        if !value.is_empty() {
            let shown = self.shown;
            self.given.insert(name, Given { place, value, shown });
        }
    }

    fn add_url(&mut self, url: &str) -> Result<(), String> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or_else(|| {
                "it must begin with postgres:// or postgresql://; the embedded store is chosen by leaving this \
                 setting out"
                    .to_owned()
            })?;
        let (authority, path, query) = parts(rest)?;
        // A user is written with an @ at the end. One further on may end a password that was cut at a ? before it.
        self.shown = !query.contains('@');
        let hosts = match authority.split_once('@') {
            None => authority,
            Some((user, hosts)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                self.add("user", "the user".to_owned(), decoded("the user", user)?);
                self.add(
                    "password",
                    "the password".to_owned(),
                    decoded("the password", password)?,
                );
                hosts
            }
        };
        self.add_hosts(hosts)?;
        self.add(
            "dbname",
            "the database".to_owned(),
            decoded("the database", path)?,
        );
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            self.add_pair(pair)?;
        }
        Ok(())
    }

    /// `host:port,[::1]:port,%2Frun%2Fpostgresql`: each part may be missing.
    fn add_hosts(&mut self, text: &str) -> Result<(), String> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for one in text.split(',') {
            let (host, port) = match one.strip_prefix('[') {
                Some(rest) => {
                    let (host, port) = rest
                        .split_once(']')
                        .ok_or("an IPv6 address ends with ], as in [::1]:5432")?;
                    let port = match port.strip_prefix(':') {
                        Some(port) => port,
                        None if port.is_empty() => port,
                        None => return Err("after the ] of an IPv6 address only :port can follow".to_owned()),
                    };
                    (host, port)
                }
                None => one.split_once(':').unwrap_or((one, "")),
            };
            hosts.push(decoded("the host", host)?);
            ports.push(decoded("the port", port)?);
        }
        // A comma alone says how many there are, and nothing else.
        for (name, list) in [("host", hosts), ("port", ports)] {
            if list.iter().any(|one| !one.is_empty()) {
                self.add(name, format!("the {name}"), list.join(","));
            }
        }
        Ok(())
    }

    fn add_pair(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair
            .split_once('=')
            .ok_or("each parameter after the ? must be key=value, with & between them")?;
        // As JDBC says it; libpq takes it too.
        if (key, value) == ("ssl", "true") {
            self.add("sslmode", "ssl".to_owned(), "require".to_owned());
            return Ok(());
        }
        let Some((name, _)) = PARAMETERS.iter().find(|(name, _)| *name == key) else {
            let names = PARAMETERS.map(|(name, _)| name);
            let hint = match nearest(key, &names) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", names.join(", ")),
            };
            return Err(match self.shown {
                true => format!("it has an unknown parameter {}; {hint}", quoted(key)),
                false => format!("it has an unknown parameter; there are {}", names.join(", ")),
            });
        };
        self.add(name, (*name).to_owned(), decoded(name, value)?);
        Ok(())
    }

    /// The value as it is.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.given.remove(name).map(|given| given.value)
    }

    /// What `read` makes of the value; it says what is allowed. Not for the password, which an error would repeat.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some(Given { place, value, shown }) = self.given.remove(name) else {
            return Ok(None);
        };
        read(&value).map(Some).map_err(|allowed| match shown {
            true => format!("{place} is {}: {allowed}", quoted(&value)),
            false => format!("{place} is refused: {allowed}"),
        })
    }
}

/// The user and hosts, the database and the parameters of a URL whose scheme is off.
fn parts(rest: &str) -> Result<(&str, &str, &str), String> {
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    let keys_are_plain = query.split('&').all(|pair| {
        !pair
            .split('=')
            .next()
            .unwrap_or_default()
            .contains(['@', '/', ':'])
    });
    if authority.matches('@').count() > 1 || path.contains('@') || !keys_are_plain {
        return Err(
            "a user or password with one of the characters @ : / ? # % in it must have them percent-encoded, \
             such as %40 for @"
                .to_owned(),
        );
    }
    Ok((authority, path, query))
}

/// Undoes the percent-encoding. The error repeats nothing.
fn decoded(what: &str, text: &str) -> Result<String, String> {
    let wrong = || {
        format!("{what} has a % that is not followed by two hexadecimal digits of UTF-8 text, such as %40")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let code = rest
            .get(..2)
            .filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(byte.filter(|byte| *byte != 0).ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// In quotes, cut, and with whatever would break the line escaped.
pub(super) fn quoted(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}
