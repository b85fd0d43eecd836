//! Random expressions that are often due: most leave the date open, and the hours crowd around the small hours,
//! where clocks change.

use proptest::prelude::{BoxedStrategy, Just, Strategy, prop_oneof};
use proptest::sample::select;

fn value(min: u32, max: u32) -> BoxedStrategy<String> {
    prop_oneof![8 => (min..=max).prop_map(|v| v.to_string()), 1 => (min..=max).prop_map(|v| format!("{v:02}"))]
        .boxed()
}

fn range(min: u32, max: u32) -> impl Strategy<Value = String> {
    (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)))
}

fn item(min: u32, max: u32) -> BoxedStrategy<String> {
    let step = 1..=max + 2;
    prop_oneof![
        4 => value(min, max),
        2 => range(min, max),
        1 => (range(min, max), step.clone()).prop_map(|(r, s)| format!("{r}/{s}")),
        1 => (value(min, max), step.clone()).prop_map(|(v, s)| format!("{v}/{s}")),
        1 => step.prop_map(|s| format!("*/{s}")),
        1 => Just("*".to_owned()),
    ]
    .boxed()
}

fn list(item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    proptest::collection::vec(item, 1..4)
        .prop_map(|items| items.join(","))
        .boxed()
}

fn field(min: u32, max: u32, open: u32, item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![
        open => Just("*".to_owned()),
        2 => (2..=max / 2 + 1).prop_map(|s| format!("*/{s}")),
        1 => Just(format!("{min}-{max}")),
        3 => value(min, max),
        3 => list(item),
    ]
    .boxed()
}

fn named(names: &'static [&'static str]) -> BoxedStrategy<String> {
    let name = select(names).prop_flat_map(|name: &str| select(vec![name.to_owned(), name.to_lowercase()]));
    name.boxed()
}

pub(crate) fn any_expression() -> impl Strategy<Value = String> {
    const MONTHS: &[&str] = &[
        "JAN",
        "FEB",
        "MAR",
        "APR",
        "MAY",
        "JUN",
        "JUL",
        "AUG",
        "SEP",
        "OCT",
        "NOV",
        "DEC",
        "FEB-OCT",
        "MAR-NOV/2",
    ];
    const DAYS: &[&str] = &[
        "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "FRI-SUN", "SUN-TUE", "MON-FRI", "TUE#2", "SUNL",
        "SUN#1",
    ];
    let hour = prop_oneof![
        2 => field(0, 23, 4, item(0, 23)),
        2 => select(vec!["0", "1", "2", "3", "0-4", "1-3", "23", "23,0-2", "*/2", "2,3"]).prop_map(str::to_owned),
    ];
    let day = prop_oneof![
        5 => field(1, 31, 9, item(1, 31)),
        1 => list(prop_oneof![
            Just("L".to_owned()),
            Just("LW".to_owned()),
            Just("?".to_owned()),
            (1..=31).prop_map(|day| format!("{day}W")),
            item(1, 31),
        ].boxed()),
    ];
    let month = prop_oneof![8 => field(1, 12, 40, item(1, 12)), 1 => list(named(MONTHS))];
    let weekday = prop_oneof![
        5 => field(0, 7, 9, item(0, 7)),
        1 => list(named(DAYS)),
        1 => list(prop_oneof![
            (0..=7).prop_map(|day| format!("{day}L")),
            (0..=7, 1..=5).prop_map(|(day, nth)| format!("{day}#{nth}")),
            item(0, 7),
        ].boxed()),
    ];
    let blank = select(vec![" ", " ", " ", "\t", "  "]);
    (field(0, 59, 2, item(0, 59)), hour, day, month, weekday, blank)
        .prop_map(|(minute, hour, day, month, weekday, b)| [minute, hour, day, month, weekday].join(b))
}
