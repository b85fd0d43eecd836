//! Any name: it is a zone of the database in some case, or an error with names that are.
#![no_main]

use impresario_cron::Zone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    match Zone::get(name) {
        Ok(zone) => assert!(zone.name().eq_ignore_ascii_case(name)),
        Err(error) => {
            assert!(error.suggestions().iter().all(|name| Zone::get(name).is_ok()));
            assert!(!error.to_string().is_empty());
        }
    }
});
