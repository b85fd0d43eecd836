//! Zones by IANA name, from the database compiled into the program and never from the system's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::nearest;
use crate::offsets::Offsets;
use crate::release;

/// An IANA time zone, by the name it has in the database.
///
/// A link such as `US/Eastern` keeps its own name; only the case is corrected. Cloning is free. The first use
/// of a zone reads its clock changes (well under a millisecond); they are then kept for the process.
///
/// ```
/// use impresario_cron::Zone;
///
/// assert_eq!(Zone::get("europe/berlin")?.name(), "Europe/Berlin");
/// assert_eq!(Zone::get("US/Eastern")?.name(), "US/Eastern");
///
/// let error = Zone::get("America/New_Yrok").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"unknown time zone "America/New_Yrok"; did you mean "America/New_York"?"#,
/// );
/// # Ok::<(), impresario_cron::ZoneError>(())
/// ```
#[derive(Clone)]
pub struct Zone(&'static Known);

struct Known {
    name: String,
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    tz: TimeZone,
    offsets: Offsets,
}

/// Sorted by name without regard to case.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut known: Vec<Known> = TimeZoneDatabase::bundled()
        .available()
        .map(|name| name.as_str().to_owned())
        .filter(|name| is_a_place(name))
        .map(|name| Known {
            name,
            loaded: OnceLock::new(),
        })
        .collect();
    known.sort_by(|a, b| folded(&a.name).cmp(folded(&b.name)));
    known
});

/// Leaves out what databases carry beside zones: placeholders, files of the host, other trees of the same zones.
fn is_a_place(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["Factory", "localtime", "posixrules", "Etc/Unknown"];
    !OTHERS.contains(&name) && !name.starts_with("posix/") && !name.starts_with("right/")
}

fn folded(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|b| b.to_ascii_lowercase())
}

impl Zone {
    /// Looks a zone up by its IANA name, in any case.
    ///
    /// # Errors
    ///
    /// [`ZoneError`] for anything that is not a name in the database: an empty text, an offset, an abbreviation,
    /// a POSIX string, a path, `localtime`, `Factory`. It carries the nearest names.
    pub fn get(name: &str) -> Result<Zone, ZoneError> {
        let known = &*KNOWN;
        match known.binary_search_by(|k| folded(&k.name).cmp(folded(name))) {
            Ok(index) => {
                let zone = Zone(&known[index]);
                zone.loaded();
                Ok(zone)
            }
            Err(_) => Err(ZoneError {
                name: name.to_owned(),
                suggestions: Zone::suggest(name),
            }),
        }
    }

    /// The name, spelt as in the database.
    #[must_use]
    pub fn name(&self) -> &'static str {
        &self.0.name
    }

    /// The names nearest to a misspelt one, best first; at most three, often none.
    ///
    /// ```
    /// # use impresario_cron::Zone;
    /// assert_eq!(Zone::suggest("Berlin"), ["Europe/Berlin"]);
    /// assert_eq!(Zone::suggest("america/new york"), ["America/New_York"]);
    /// assert!(Zone::suggest("+02:00").is_empty());
    /// ```
    #[must_use]
    pub fn suggest(name: &str) -> Vec<&'static str> {
        nearest::names(name, Zone::all_names())
    }

    /// All names that [`get`](Self::get) knows, sorted.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|known| known.name.as_str())
    }

    /// The release of the time zone database compiled in, such as `2026f`, or `unknown` when the program was
    /// built with a release that this crate does not know by its contents.
    ///
    /// The first call reads the whole database (some milliseconds).
    #[must_use]
    pub fn tzdb_version() -> &'static str {
        release::name()
    }

    /// The zone as jiff has it, for showing fires on the wall clock.
    #[must_use]
    pub fn time_zone(&self) -> &'static TimeZone {
        &self.loaded().tz
    }

    #[inline]
    pub(crate) fn offsets(&self) -> &'static Offsets {
        &self.loaded().offsets
    }

    #[inline]
    fn loaded(&self) -> &'static Loaded {
        let known = self.0;
        known.loaded.get_or_init(|| {
            // The name came from the same database, so the fallback is never taken.
            let tz = TimeZoneDatabase::bundled()
                .get(&known.name)
                .unwrap_or(TimeZone::UTC);
            let offsets = Offsets::of(&tz);
            Loaded { tz, offsets }
        })
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Zone, ZoneError> {
        Zone::get(name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

/// Zones are equal by name: a link and its target are two zones.
impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// A name that is not a zone in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    name: String,
    suggestions: Vec<&'static str>,
}

impl ZoneError {
    /// The name that was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nearest names in the database, best first.
    #[must_use]
    pub fn suggestions(&self) -> &[&'static str] {
        &self.suggestions
    }
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str(
                "the time zone is empty; write an IANA name such as \"Europe/Berlin\" or \"UTC\"",
            );
        }
        let shown: String = self.name.chars().take(64).collect();
        write!(f, "unknown time zone {shown:?}")?;
        match self.suggestions.as_slice() {
            [] => f.write_str("; write an IANA name such as \"Europe/Berlin\" or \"UTC\""),
            [one] => write!(f, "; did you mean \"{one}\"?"),
            [first, second] => write!(f, "; did you mean \"{first}\" or \"{second}\"?"),
            [first, second, third, ..] => {
                write!(f, "; did you mean \"{first}\", \"{second}\" or \"{third}\"?")
            }
        }
    }
}

impl std::error::Error for ZoneError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_under_its_own_spelling() {
        for name in Zone::all_names() {
            for written in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(Zone::get(&written).unwrap().name(), name);
            }
        }
        assert!(Zone::all_names().count() > 500);
    }

    #[test]
    fn one_slip_leads_back_to_the_name() {
        let slips = [
            ("Europe/Berln", "Europe/Berlin"),
            ("Europ/Berlin", "Europe/Berlin"),
            ("Amercia/New_York", "America/New_York"),
            ("new york", "America/New_York"),
            ("Asia/Calcuta", "Asia/Calcutta"),
            ("Tokyo", "Asia/Tokyo"),
            ("UCT0", "UCT"),
            ("EDT", "America/New_York"),
        ];
        for (slip, name) in slips {
            assert_eq!(Zone::suggest(slip).first(), Some(&name), "{slip}");
        }
        for nonsense in [
            "",
            " ",
            "+02:00",
            "UTC+2",
            "x",
            "../../etc/passwd",
            &"a/".repeat(10_000),
        ] {
            assert!(Zone::suggest(nonsense).is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn zones_and_expressions_may_cross_threads() {
        fn is_shared<T: Send + Sync + 'static>() {}
        is_shared::<(Zone, ZoneError, crate::Cron, crate::CronError, crate::Fires)>();
    }
}
