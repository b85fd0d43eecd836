//! Any text: reading it must end, and either its canonical form means the same or its error points into it.
#![no_main]

use impresario_cron::Cron;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Cron>() {
        Ok(cron) => {
            let shown = cron.to_string();
            assert_eq!(shown.parse::<Cron>().as_ref(), Ok(&cron), "{text:?} as {shown:?}");
            assert!(!cron.describe().is_empty());
        }
        Err(error) => {
            assert!(text.get(error.position()..).is_some_and(|rest| rest.starts_with(error.text())));
            assert!(!error.to_string().is_empty());
            assert_eq!(error.render().lines().count(), 3, "{text:?}");
        }
    }
});
