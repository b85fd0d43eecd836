//! The zone names nearest to what was written: for messages, so it may take its time, within bounds.

/// Longer texts are not misspelt names.
const MAX_LENGTH: usize = 48;
const MAX_SUGGESTIONS: usize = 3;

/// Abbreviations people take for zones, and a zone that uses each.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("aedt", "Australia/Sydney"),
    ("aest", "Australia/Sydney"),
    ("akst", "America/Anchorage"),
    ("bst", "Europe/London"),
    ("cdt", "America/Chicago"),
    ("cest", "Europe/Paris"),
    ("cst", "America/Chicago"),
    ("edt", "America/New_York"),
    ("eest", "Europe/Athens"),
    ("hkt", "Asia/Hong_Kong"),
    ("ist", "Asia/Kolkata"),
    ("jst", "Asia/Tokyo"),
    ("kst", "Asia/Seoul"),
    ("mdt", "America/Denver"),
    ("msk", "Europe/Moscow"),
    ("nzdt", "Pacific/Auckland"),
    ("nzst", "Pacific/Auckland"),
    ("pdt", "America/Los_Angeles"),
    ("pst", "America/Los_Angeles"),
    ("sgt", "Asia/Singapore"),
    ("z", "UTC"),
];

pub(crate) fn names(written: &str, all: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let wanted = normal(written.trim_matches(|c: char| c.is_whitespace() || c.is_control()));
    if wanted.is_empty() || wanted.len() > MAX_LENGTH || !wanted.is_ascii() {
        return Vec::new();
    }
    if let Some((_, zone)) = ABBREVIATIONS.iter().find(|(short, _)| *short == wanted) {
        return vec![zone];
    }
    // One slip in short names, up to three in long ones.
    let allowed = (wanted.len() / 4).clamp(1, 3);
    let letters = wanted.bytes().filter(u8::is_ascii_alphabetic).count();
    if letters < 3 {
        return Vec::new();
    }
    let mut scored: Vec<(usize, &'static str)> = all
        .filter_map(|name| {
            let full = normal(name);
            let city = full.rsplit('/').next().unwrap_or_default();
            let by_city = if wanted.contains('/') {
                usize::MAX
            } else {
                distance(&wanted, city, allowed)
            };
            let score = distance(&wanted, &full, allowed).min(by_city);
            (score <= allowed).then_some((score, name))
        })
        .collect();
    scored.sort_by_key(|(score, name)| (*score, rank(name)));
    let best = scored.first().map_or(0, |(score, _)| *score);
    scored.retain(|(score, _)| *score == best);
    scored.truncate(MAX_SUGGESTIONS);
    scored.into_iter().map(|(_, name)| name).collect()
}

/// The plain `Continent/City` before old links and three-part names.
fn rank(name: &str) -> (bool, usize, &str) {
    const CONTINENTS: [&str; 10] = [
        "Africa/",
        "America/",
        "Antarctica/",
        "Arctic/",
        "Asia/",
        "Atlantic/",
        "Australia/",
        "Europe/",
        "Indian/",
        "Pacific/",
    ];
    (
        !CONTINENTS.iter().any(|c| name.starts_with(c)),
        name.matches('/').count(),
        name,
    )
}

fn normal(name: &str) -> String {
    name.chars()
        .map(|c| {
            if matches!(c, ' ' | '-') {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one text into the other.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > limit {
        return usize::MAX;
    }
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut cost = (above[j] + 1)
                .min(row[j - 1] + 1)
                .min(above[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row[j] = cost;
        }
        std::mem::swap(&mut before, &mut above);
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}
