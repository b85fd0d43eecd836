//! Prints the next fires of an expression: `fires '30 2 * * *' America/New_York 2027-03-13T12:00:00Z [count]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

use std::error::Error;
use std::process::ExitCode;

use impresario_cron::{Cron, CronError, Zone};
use jiff::Timestamp;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [expression, zone, after, rest @ ..] = args.as_slice() else {
        return Err("usage: fires EXPRESSION ZONE AFTER [COUNT]".into());
    };
    let cron: Cron = expression.parse().map_err(|error: CronError| error.render())?;
    let zone = Zone::get(zone)?;
    let after: Timestamp = after.parse()?;
    let count = rest.first().map_or(Ok(5), |count| count.parse())?;

    println!(
        "{} ({zone}, time zone database {})",
        cron.describe(),
        Zone::tzdb_version()
    );
    for fire in cron.fires_after(&zone, after).take(count) {
        let touched = fire.dst.map_or("", |dst| dst.as_str());
        println!("{}  {}  {touched}", fire.at, fire.local);
    }
    Ok(())
}
