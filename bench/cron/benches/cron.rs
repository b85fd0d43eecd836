//! `impresario-cron` beside croner, cron and cronexpr: parsing, the next fire, and a million schedules.
//!
//! Each row asks from 1,024 instants spread over two years in turn, so that no branch is learned by heart. The
//! others get what suits them best: their own date type, made beforehand, and the zone already known. `cron`
//! wants a field of seconds in front.

use std::hint::black_box;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cronexpr::MakeTimestamp;
use impresario_cron::{Cron, Zone};
use jiff::Timestamp;

const ROWS: [(&str, &str); 5] = [
    ("five minutes", "*/5 * * * *"),
    ("daily", "30 9 * * *"),
    ("weekdays", "0 9 * * MON-FRI"),
    ("yearly", "0 0 1 1 *"),
    ("leap day", "0 0 29 2 *"),
];

const ZONES: [&str; 2] = ["UTC", "America/New_York"];

/// 2026-01-01T00:00:07Z and on, by steps prime to the hour and the day.
fn seconds() -> Vec<i64> {
    (0..1024).map(|n| 1_767_225_607 + n * 61_613).collect()
}

/// Hands out one element after another, for ever.
struct Round<T>(Vec<T>, usize);

impl<T> Round<T> {
    fn next(&mut self) -> &T {
        self.1 = (self.1 + 1) & (self.0.len() - 1);
        &self.0[self.1]
    }
}

fn with_seconds(text: &str) -> String {
    format!("0 {text}")
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, text) in ROWS {
        group.bench_function(BenchmarkId::new("impresario-cron", name), |b| {
            b.iter(|| black_box(text).parse::<Cron>().unwrap());
        });
        group.bench_function(BenchmarkId::new("croner", name), |b| {
            b.iter(|| croner::Cron::from_str(black_box(text)).unwrap());
        });
        let six = with_seconds(text);
        group.bench_function(BenchmarkId::new("cron", name), |b| {
            b.iter(|| cron::Schedule::from_str(black_box(&six)).unwrap());
        });
        let zoned = format!("{text} UTC");
        group.bench_function(BenchmarkId::new("cronexpr", name), |b| {
            b.iter(|| cronexpr::parse_crontab(black_box(&zoned)).unwrap());
        });
    }
}

fn chrono_instants(zone: Tz) -> Vec<DateTime<Tz>> {
    seconds().into_iter().map(|s| Utc.timestamp_opt(s, 0).unwrap().with_timezone(&zone)).collect()
}

fn next(c: &mut Criterion) {
    for zone_name in ZONES {
        let mut group = c.benchmark_group(format!("next in {zone_name}"));
        let zone = Zone::get(zone_name).unwrap();
        let tz: Tz = zone_name.parse().unwrap();
        for (name, text) in ROWS {
            let cron: Cron = text.parse().unwrap();
            let mut round = Round(seconds().into_iter().map(|s| Timestamp::from_second(s).unwrap()).collect(), 0);
            group.bench_function(BenchmarkId::new("impresario-cron", name), |b| {
                b.iter(|| cron.next_after(black_box(&zone), *black_box(round.next())).unwrap());
            });
            let mut round = Round(chrono_instants(tz), 0);
            let cron = croner::Cron::from_str(text).unwrap();
            group.bench_function(BenchmarkId::new("croner", name), |b| {
                b.iter(|| cron.find_next_occurrence(black_box(round.next()), false).unwrap());
            });
            let cron = cron::Schedule::from_str(&with_seconds(text)).unwrap();
            group.bench_function(BenchmarkId::new("cron", name), |b| {
                b.iter(|| cron.after(black_box(round.next())).next().unwrap());
            });
            let cron = cronexpr::parse_crontab(&format!("{text} {zone_name}")).unwrap();
            let mut round = Round(seconds(), 0);
            group.bench_function(BenchmarkId::new("cronexpr", name), |b| {
                b.iter(|| {
                    let at = MakeTimestamp::from_second(*black_box(round.next())).unwrap();
                    cron.find_next(at).unwrap()
                });
            });
        }
    }
}

/// What a scheduler holds: mostly daily and hourly, some weekly and monthly, in ten zones.
fn mixed(n: usize) -> (String, &'static str) {
    const ZONES: [&str; 10] = [
        "UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo", "America/Los_Angeles", "Australia/Sydney",
        "Europe/London", "America/Sao_Paulo", "Asia/Kolkata", "Africa/Cairo",
    ];
    let (minute, hour) = (n % 60, n / 60 % 24);
    let text = match n % 8 {
        0 | 1 => format!("{minute} * * * *"),
        2 => "*/5 * * * *".to_owned(),
        3 | 4 => format!("{minute} {hour} * * *"),
        5 => format!("{minute} {hour} * * MON-FRI"),
        6 => format!("{minute} {hour} * * SAT"),
        _ => format!("{minute} {hour} 1 * *"),
    };
    (text, ZONES[n / 8 % 10])
}

/// A million next fires from one instant. Ours holds a million schedules; the others, which take more memory,
/// go a hundred times through ten thousand.
fn million(c: &mut Criterion) {
    const COUNT: usize = 1_000_000;
    const POOL: usize = 10_000;
    let second = seconds()[512];
    let mut group = c.benchmark_group("next of 1,000,000 schedules");
    group.sample_size(10).measurement_time(Duration::from_secs(3));

    let schedules: Vec<(Cron, Zone)> = (0..COUNT)
        .map(|n| {
            let (text, zone) = mixed(n);
            (text.parse().unwrap(), Zone::get(zone).unwrap())
        })
        .collect();
    let at = Timestamp::from_second(second).unwrap();
    group.bench_function("impresario-cron", |b| {
        b.iter(|| {
            schedules.iter().filter_map(|(cron, zone)| cron.next_after(zone, black_box(at))).max().unwrap()
        });
    });

    let utc = Utc.timestamp_opt(second, 0).unwrap();
    let schedules: Vec<(croner::Cron, DateTime<Tz>)> = (0..POOL)
        .map(|n| {
            let (text, zone) = mixed(n);
            (croner::Cron::from_str(&text).unwrap(), utc.with_timezone(&zone.parse::<Tz>().unwrap()))
        })
        .collect();
    group.bench_function("croner", |b| {
        b.iter(|| {
            let all = schedules.iter().cycle().take(COUNT);
            all.map(|(cron, at)| cron.find_next_occurrence(black_box(at), false).unwrap()).max().unwrap()
        });
    });

    let schedules: Vec<(cron::Schedule, DateTime<Tz>)> = (0..POOL)
        .map(|n| {
            let (text, zone) = mixed(n);
            let at = utc.with_timezone(&zone.parse::<Tz>().unwrap());
            (cron::Schedule::from_str(&with_seconds(&text)).unwrap(), at)
        })
        .collect();
    group.bench_function("cron", |b| {
        b.iter(|| {
            let all = schedules.iter().cycle().take(COUNT);
            all.map(|(cron, at)| cron.after(black_box(at)).next().unwrap()).max().unwrap()
        });
    });

    let schedules: Vec<cronexpr::Crontab> = (0..POOL)
        .map(|n| {
            let (text, zone) = mixed(n);
            cronexpr::parse_crontab(&format!("{text} {zone}")).unwrap()
        })
        .collect();
    group.bench_function("cronexpr", |b| {
        b.iter(|| {
            let at = MakeTimestamp::from_second(black_box(second)).unwrap();
            schedules.iter().cycle().take(COUNT).map(|cron| cron.find_next(at).unwrap()).max().unwrap()
        });
    });
}

/// The longest searches there are; no other crate is asked, some do not come back.
fn worst(c: &mut Criterion) {
    let mut group = c.benchmark_group("worst case");
    let at = Timestamp::from_second(seconds()[512]).unwrap();
    let zone = Zone::get("America/New_York").unwrap();
    for (name, text) in [
        ("never", "0 0 31 4,6,9,11 */2"),
        ("28 years", "0 0 29 2 */7"),
        ("always in a gap", "*/30 2 8-14 3 */7"),
        ("fifth Monday in February", "0 0 * 2 1#5"),
    ] {
        let cron: Cron = text.parse().unwrap();
        group.bench_function(BenchmarkId::new("next", name), |b| {
            b.iter(|| cron.next_after(black_box(&zone), black_box(at)));
        });
        let far = Timestamp::MAX;
        group.bench_function(BenchmarkId::new("previous", name), |b| {
            b.iter(|| cron.previous_before(black_box(&zone), black_box(far)));
        });
    }
    let long = format!("{}1 0 29W,LW,L 2 */7,5L,1#1", "1-59/2,".repeat(30));
    group.bench_function("parse 230 bytes", |b| b.iter(|| black_box(&long).parse::<Cron>().unwrap()));
    let wrong = format!("{}1 0 29W,LW,L 2 9", "1-59/2,".repeat(30));
    group.bench_function("refuse 220 bytes", |b| b.iter(|| black_box(&wrong).parse::<Cron>().unwrap_err()));
    group.bench_function("refuse a zone", |b| b.iter(|| Zone::get(black_box("America/New_Yrok")).unwrap_err()));
    let long = "America/Argentina/ComodRivadaviaa/ComodRivadavi";
    group.bench_function("refuse a long zone", |b| b.iter(|| Zone::get(black_box(long)).unwrap_err()));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .without_plots();
    targets = parse, next, million, worst
}
criterion_main!(benches);
