//! Counts the steps of searches in tests: the proof that they are bounded, without a clock.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Called once in each round of every loop whose length is not plain from its head. Nothing outside tests.
#[inline(always)]
pub(crate) fn count() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::STEPS;
    use crate::{Cron, Zone};
    use jiff::Timestamp;

    /// Some nanoseconds each: well below 50 µs together.
    const MOST: u32 = 3_000;

    #[test]
    fn the_longest_searches_end_soon() {
        let expressions = [
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 */2",
            "0 0 29W 2 */7",
            "0 0 29 2 */7",
            "0 0 29 2 */7,1#5",
            "* * * 2 1#5",
            "0 0 * 2 1#5",
            // Times in the gaps of New York, Berlin, Sydney and Lord Howe, on the days that have them.
            "*/30 2 8-14 3 */7",
            "*/30 2 25-31 3 */7",
            "*/30 2 1-7 10 */7",
            "*/10 2 * 10 SUN#1",
            "*/59 2 29 2 */7",
        ];
        let instants = [
            -377_705_023_201,
            -5_000_000_000,
            0,
            1_790_000_000,
            4_102_444_800,
            16_725_225_600,
            127_000_000_000,
        ];
        let instants = instants.map(|second| Timestamp::from_second(second).unwrap());
        let mut most = (0, String::new());
        for name in Zone::all_names() {
            let zone = Zone::get(name).unwrap();
            for text in expressions {
                let cron: Cron = text.parse().unwrap();
                for at in instants.into_iter().chain([Timestamp::MAX]) {
                    for forwards in [true, false] {
                        STEPS.set(0);
                        let found = if forwards {
                            cron.next_after(&zone, at)
                        } else {
                            cron.previous_before(&zone, at)
                        };
                        let steps = STEPS.get();
                        let case = format!("{text} in {name} from {at}: {steps} steps to {found:?}");
                        assert!(steps <= MOST, "{case}");
                        if steps > most.0 {
                            most = (steps, case);
                        }
                    }
                }
            }
        }
        println!("the longest: {}", most.1);
    }
}
