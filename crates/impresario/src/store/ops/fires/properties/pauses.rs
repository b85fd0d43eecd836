//! The same under a clock that goes back, with pauses, failures and policies that change meanwhile.

use super::*;

/// A step of a schedule whose pattern stays, under a clock that also goes back.
#[derive(Debug, Clone)]
enum Turn {
    Step(Step),
    /// The clock goes back by so many milliseconds, and is noticed, perhaps by a server that has just started.
    Back(i64),
    /// The same for a moment: then it is right again.
    Behind(i64),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        5 => steps().prop_map(|steps| Turn::Step(steps[0].clone())),
        1 => (0..8 * 60 * MINUTE).prop_map(Turn::Back),
        1 => (0..8 * 60 * MINUTE).prop_map(Turn::Behind),
    ];
    prop::collection::vec(turn, 1..60)
}

impl World {
    /// Every instant that is in a row, in a range, or waits to be made up for, as often as it is. The pattern never
    /// changed, so a range is its ends and its number.
    fn written_down(&self) -> BTreeMap<i64, u32> {
        let mut ranges = Vec::new();
        let rows = self
            .db
            .run(|tx| history(tx, self.tenant, self.schedule, None, 1_000_000));
        for row in rows {
            match row.missed_until {
                Some(until) => ranges.push((ms(row.fire_at), ms(until), row.missed)),
                None => ranges.push((ms(row.fire_at), ms(row.fire_at), 1)),
            }
        }
        let sql = "SELECT from_at, until_at, instants FROM catch_ups";
        ranges.extend(self.db.run(|tx| {
            tx.query(sql, &[], |row| {
                Ok((row.get("from_at")?, row.get("until_at")?, row.get("instants")?))
            })
        }));
        let mut found = BTreeMap::new();
        for (from, until, count) in ranges {
            let step = self.every * MINUTE;
            assert_eq!(
                (until - from) / step + 1,
                i64::try_from(count).unwrap(),
                "{from} {until}"
            );
            for at in (from..=until).step_by(usize::try_from(step).unwrap()) {
                *found.entry(at).or_default() += 1;
            }
        }
        found
    }

    /// What lies before the cursor, or everything where there is none.
    fn is_past(&self, at: i64) -> bool {
        let schedule = self.stored();
        let cursor = schedule.next_fire_at.filter(|_| schedule.draft.enabled);
        cursor.is_none_or(|cursor| at < ms(cursor))
    }

    fn back(&mut self, by: i64) {
        let before = self.written_down();
        self.now = (self.now - by).max(START);
        self.realign();
        self.pass();
        let after = self.written_down();
        for at in before.keys().filter(|at| **at <= self.now && self.is_past(**at)) {
            assert!(
                after.contains_key(at),
                "{} was accounted for, and is not any more",
                ts(*at)
            );
        }
        // What the wrong clock has shown cannot be reckoned with; from here on everything counts again.
        self.spans.clear();
        self.since = self.now;
    }

    fn behind(&mut self, by: i64) {
        let (before, now) = (self.written_down(), self.now);
        self.now = (self.now - by).max(START);
        self.realign();
        self.pass();
        self.now = now;
        self.pass();
        if self.stored().self_disabled.is_some() {
            // What it acted on meanwhile may have failed; then it tells of the rest when it is enabled.
            self.change(&Edit::Enable);
        }
        let after = self.written_down();
        for at in before.keys().filter(|at| self.is_past(**at)) {
            assert!(
                after.contains_key(at),
                "{} was accounted for before the clock was behind for a moment",
                ts(*at)
            );
        }
    }

    fn check_all(&mut self) {
        self.pass();
        for _ in 0..2 {
            if self.stored().self_disabled.is_some() {
                self.change(&Edit::Enable);
            }
            self.pass();
        }
        let found = self.written_down();
        for (at, times) in &found {
            assert_eq!(*times, 1, "{} is written down {times} times", ts(*at));
        }
        let mut spans = self.spans.clone();
        if self.counts {
            spans.push(self.span());
        }
        for at in spans
            .iter()
            .flat_map(Span::instants)
            .filter(|at| self.is_past(*at))
        {
            assert!(found.contains_key(&at), "a hole at {}", ts(at));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_hole_and_no_double_for_pauses_failures_and_policies_under_a_clock_that_goes_back(turns in turns()) {
        let mut world = World::new();
        for turn in &turns {
            match turn {
                // The pattern stays: what a range of another one stands for could not be told here.
                Turn::Step(Step::Edit(Edit::Every(_) | Edit::Bounds(..))) => {}
                Turn::Step(step) => world.take(step),
                Turn::Back(by) => world.back(*by),
                Turn::Behind(by) => world.behind(*by),
            }
        }
        world.check_all();
    }
}
