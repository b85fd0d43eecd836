//! The shared vectors: fires, refusals, and texts that look odd but have one right reading.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use impresario_cron::{Cron, CronErrorKind, Zone};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    expr: String,
    tz: String,
    after: Option<String>,
    next: Option<Vec<String>>,
    verdict: Option<String>,
    reason: Option<String>,
}

fn rows(text: &str) -> Vec<Row> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn check_fires(row: &Row) {
    let cron: Cron = row
        .expr
        .parse()
        .unwrap_or_else(|error| panic!("{:?}: {error}", row.expr));
    let zone = Zone::get(&row.tz).unwrap();
    let (Some(after), Some(expected)) = (&row.after, &row.next) else {
        return;
    };
    let after: Timestamp = after.parse().unwrap();
    let expected: Vec<Timestamp> = expected.iter().map(|at| at.parse().unwrap()).collect();
    let mut at = after;
    for expected in &expected {
        let next = cron.next_after(&zone, at);
        assert_eq!(next, Some(*expected), "{:?} in {} after {at}", row.expr, row.tz);
        at = *expected;
    }
    for pair in expected.windows(2) {
        let previous = cron.previous_before(&zone, pair[1]);
        assert_eq!(
            previous,
            Some(pair[0]),
            "{:?} in {} before {}",
            row.expr,
            row.tz,
            pair[1]
        );
    }
    if let Some(first) = expected.first() {
        let previous = cron.previous_before(&zone, *first);
        assert!(
            previous <= Some(after),
            "{:?} in {} before {first}: {previous:?}",
            row.expr,
            row.tz
        );
    } else {
        assert!(cron.is_never(), "{:?}", row.expr);
        assert_eq!(cron.next_after(&zone, after), None);
        assert_eq!(cron.previous_before(&zone, after), None);
    }
}

#[test]
fn all_vectors_fire_as_listed() {
    let rows = rows(include_str!("data/vectors.jsonl"));
    assert_eq!(rows.len(), 2_039);
    rows.iter().for_each(check_fires);
}

#[test]
fn odd_texts_have_their_one_reading() {
    let rows = rows(include_str!("data/odd_valid.jsonl"));
    assert_eq!(rows.len(), 38);
    for row in &rows {
        check_fires(row);
        let cron: Cron = row.expr.parse().unwrap();
        assert_eq!(
            row.verdict.as_deref() != Some("accept"),
            cron.is_never(),
            "{:?}",
            row.expr
        );
    }
}

#[test]
fn refused_texts_are_refused_with_their_place() {
    let rows = rows(include_str!("data/invalid.jsonl"));
    assert_eq!(rows.len(), 100);
    for row in &rows {
        let reason = row.reason.as_deref().unwrap_or_default();
        match (row.expr.parse::<Cron>(), Zone::get(&row.tz)) {
            (Ok(_), Ok(_)) => panic!("accepted {:?} in {:?}: {reason}", row.expr, row.tz),
            (Err(error), _) => {
                assert!(
                    row.expr
                        .get(error.position()..)
                        .unwrap()
                        .starts_with(error.text())
                );
                println!("{}", error.render());
            }
            (Ok(_), Err(error)) => println!("{error}"),
        }
    }
}

#[test]
fn other_dialects_are_told_what_to_write() {
    let cases = [
        ("@every 5m", r#"write "*/5 * * * *""#),
        ("@every 2h", r#"write "0 */2 * * *""#),
        ("every 5 minutes", r#"write "*/5 * * * *""#),
        ("H/15 * * * *", r#"write "*/15""#),
        (
            "0 9 * * MON-FRI 2027",
            r#"years are not supported: without it this is "0 9 * * MON-FRI""#,
        ),
        ("0 0 * * FRI-MON", r#"write "FRI-SUN,MON""#),
        ("* * * * 6-0", r#"write "6-7""#),
        ("* * 25-5 * *", r#"write "25-31,1-5""#),
        ("* * * * MONDAY", r#"names have three letters: write "MON""#),
        ("@Daily", r#"write "@daily""#),
        ("1;2 * * * *", r#"separate values with commas: write "1,2""#),
        ("CRON_TZ=UTC 0 9 * * *", "the time zone has a setting of its own"),
        (
            "0 9 * * * Europe/Berlin",
            "the time zone has a setting of its own",
        ),
    ];
    for (text, hint) in cases {
        let error = text.parse::<Cron>().unwrap_err();
        assert_eq!(error.hint(), Some(hint), "{text}");
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let text = "é".repeat(100) + "x" + &"é".repeat(100);
    let error = text.parse::<Cron>().unwrap_err();
    assert_eq!(error.kind(), CronErrorKind::TooLong);
    assert_eq!((error.position(), error.text()), (255, ""));
    assert!(text.is_char_boundary(error.position()));
    assert_eq!(error.render().lines().count(), 3);
}
