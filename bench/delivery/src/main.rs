//! Measures the webhook outbox on a running server: how much it delivers, and how long receivers that hang make the others
//! wait. All in one command, from this directory, on SQLite, and on PostgreSQL where `IMPRESARIO_DATABASE_URL` names an
//! empty database instead:
//!
//! ```sh
//! cargo run --release                # 1,000 endpoints, ten minutes
//! cargo run --release -- --short     # 200 endpoints, under a minute
//! ../../scripts/with-postgres sh -c 'IMPRESARIO_DATABASE_URL=$IMPRESARIO_TEST_DATABASE_URL cargo run --release'
//! ```
//!
//! An argument that is no flag is the program to measure, the release build by default. Everything goes through the API: a
//! ping (`webhooks/test`) takes the same way as any other event, except that it is not retried.
//!
//! Throughput: a server that delivers nothing is given the burst: on PostgreSQL one without that role, on SQLite one that may
//! make four attempts at a time, while no receiver answers. Then it is killed, the receivers answer, and another server finds it
//! all due. Its rate counts from the first arrival to the last.
//!
//! What is measured on SQLite lies in the folder for temporary files (`TMPDIR`), and pays for its disk's syncs.
//!
//! Delay: pings come at a steady rate, whether or not earlier ones were delivered, to one endpoint after the other. A
//! share of the endpoints takes requests and never answers. The delay is from the instant at which the API has answered to
//! the one at which the request has arrived at the receiver, and counts receivers that are well alone; one that has not arrived
//! when everything is over counts as if it had just then. Between two shares all receivers are well until all is delivered. Each
//! begins with a warm-up, in which those that are dead from then on have not failed yet.

mod http;
mod load;
mod receiver;
mod server;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    load::{Delays, Plan},
    receiver::Receivers,
    server::{Setup, on_postgres},
};

/// How much is measured.
struct Scale {
    /// The server's own number where it is absent.
    deliveries_at_once: Option<String>,
    endpoints: usize,
    burst: usize,
    rates: Vec<u32>,
    /// How many of a thousand receivers are dead.
    shares: Vec<usize>,
    warm_up: Duration,
    measured: Duration,
}

impl Scale {
    fn full() -> Self {
        Self {
            deliveries_at_once: None,
            endpoints: 1000,
            burst: 20_000,
            rates: vec![100, 300],
            shares: vec![0, 1, 10, 100, 300],
            warm_up: Duration::from_secs(20),
            measured: Duration::from_secs(30),
        }
    }

    fn short() -> Self {
        Self {
            deliveries_at_once: None,
            endpoints: 200,
            burst: 4000,
            rates: vec![100],
            shares: vec![0, 100],
            warm_up: Duration::from_secs(16),
            measured: Duration::from_secs(5),
        }
    }
}

fn numbers<T: std::str::FromStr>(text: &str) -> Result<Vec<T>> {
    let given = text.split(',').filter(|number| !number.is_empty());
    let all = given.map(|number| number.parse().ok());
    all.collect::<Option<_>>()
        .with_context(|| format!("{text:?}: numbers with commas between them"))
}

fn arguments() -> Result<(PathBuf, Scale)> {
    let mut program = None;
    let given: Vec<_> = std::env::args().skip(1).collect();
    let mut scale = if given.iter().any(|argument| argument == "--short") {
        Scale::short()
    } else {
        Scale::full()
    };
    for argument in given {
        match argument.split_once('=') {
            None if argument == "--short" => {}
            Some(("--endpoints", count)) => scale.endpoints = count.parse()?,
            Some(("--burst", count)) => scale.burst = count.parse()?,
            Some(("--deliveries-at-once", count)) => scale.deliveries_at_once = Some(count.to_owned()),
            Some(("--rates", list)) => scale.rates = numbers(list)?,
            Some(("--dead-per-mille", list)) => scale.shares = numbers(list)?,
            Some(("--warm-up", seconds)) => scale.warm_up = Duration::from_secs(seconds.parse()?),
            Some(("--seconds", seconds)) => scale.measured = Duration::from_secs(seconds.parse()?),
            _ if argument.starts_with('-') => anyhow::bail!(
                "{argument}: there are --short, --endpoints=N, --burst=N, --rates=N,.. (a second), \
                 --dead-per-mille=N,.., --warm-up=SECONDS, --seconds=SECONDS and --deliveries-at-once=N"
            ),
            _ => program = Some(PathBuf::from(argument)),
        }
    }
    let release = || {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../target/release/impresario"
        ))
    };
    let program = program.unwrap_or_else(release);
    let program = program.canonicalize().with_context(|| {
        format!(
            "{}: build it first: cargo build --release -p impresario",
            program.display()
        )
    })?;
    Ok((program, scale))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (program, scale) = arguments()?;
    let receivers = Receivers::start().await?;
    let setup = Setup::new(&program, scale.endpoints, receivers.port).await?;
    let engine = if on_postgres() { "PostgreSQL" } else { "SQLite" };
    println!("{engine}, {} endpoints", scale.endpoints);

    let at_once = scale.deliveries_at_once.as_deref();
    let places: Vec<_> = at_once
        .into_iter()
        .flat_map(|count| ["--deliveries-at-once", count])
        .collect();
    if scale.burst > 0 {
        load::fill(&setup, &receivers, scale.burst).await?;
    }
    let server = setup.serve(&places).await?;
    if scale.burst > 0 {
        let drained = load::drain(&server, &receivers, scale.burst).await?;
        println!(
            "a burst of {}: {:.0} deliveries/s, {:.2} ms of CPU each",
            scale.burst, drained.rate, drained.cpu_ms
        );
    }

    println!("delay at receivers that are well, in ms, beside a share that hangs");
    println!("pings/s   dead |    p50    p99    max | p99 of the warm-up | late  refused | API p99  CPU");
    for rate in &scale.rates {
        for share in &scale.shares {
            let plan = Plan {
                rate: *rate,
                dead: *share,
                warm_up: scale.warm_up,
                measured: scale.measured,
            };
            let Delays {
                warm_up,
                measured,
                late,
                refused,
                api,
                cpu,
            } = load::steady(&setup, &server, &receivers, &plan).await?;
            ensure!(!measured.is_empty(), "no ping was taken");
            println!(
                "{rate:7} {:4}.{}% | {:6.0} {:6.0} {:6.0} | {:18.0} | {late:4}  {refused:7} | {:7.0} {:3.0}%",
                share / 10,
                share % 10,
                load::quantile(&measured, 0.5),
                load::quantile(&measured, 0.99),
                load::quantile(&measured, 1.0),
                load::quantile(&warm_up, 0.99),
                load::quantile(&api, 0.99),
                cpu * 100.0,
            );
        }
    }
    println!(
        "the server held {} MiB of memory at the most",
        server.most_memory()? >> 20
    );
    Ok(())
}
