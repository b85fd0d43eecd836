//! The load: a burst, and a steady rate.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    receiver::{Dead, Receivers},
    server::{Server, Setup, on_postgres},
};

/// Requests that fill the outbox at once.
const FILLERS: usize = 64;

/// How long nothing may arrive before the rest is given up for lost: longer than a lease.
const PATIENCE: Duration = Duration::from_secs(40);

/// Puts a burst into the outbox of a server that cannot send it.
pub async fn fill(setup: &Setup, receivers: &Receivers, burst: usize) -> Result<()> {
    receivers.set(Dead::All);
    let server = if on_postgres() {
        setup.serve(&["--roles", "api"]).await?
    } else {
        setup.serve(&["--deliveries-at-once", "4"]).await?
    };
    let (client, next) = (&server.client, Arc::new(AtomicUsize::new(0)));
    let pings: Arc<Vec<_>> = Arc::new(
        setup
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.key.clone(), json!({ "id": endpoint.id })))
            .collect(),
    );
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        let (client, next, pings) = (Arc::clone(client), Arc::clone(&next), Arc::clone(&pings));
        fillers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= burst {
                    return Ok(());
                }
                let (key, input) = &pings[number % pings.len()];
                client.must("/v1/webhooks/test", key, input).await?;
            }
        });
    }
    while let Some(done) = fillers.join_next().await {
        let done: Result<()> = done?;
        done.context("a burst may have 100 pings an endpoint")?;
    }
    server.kill().await?;
    receivers.set(Dead::PerMille(0));
    Ok(())
}

/// What became of the burst.
pub struct Drained {
    /// Deliveries a second.
    pub rate: f64,
    /// Of the server, for each delivery.
    pub cpu_ms: f64,
}

/// Waits until a server has delivered the burst.
pub async fn drain(server: &Server, receivers: &Receivers, burst: usize) -> Result<Drained> {
    // Those that arrived while it was filled are over, or held by a lease.
    let before = receivers.take().len();
    let cpu = server.cpu()?;
    let (mut seen, mut changed) = (0, Instant::now());
    while seen + before < burst {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = receivers.count();
        if now > seen {
            (seen, changed) = (now, Instant::now());
        }
        ensure!(
            changed.elapsed() < PATIENCE,
            "{seen} of {burst} arrived, and no more"
        );
    }
    let cpu = server.cpu()?.saturating_sub(cpu);
    let arrived = receivers.take();
    let (first, last) = (arrived.values().min(), arrived.values().max());
    let (Some(first), Some(last)) = (first, last) else {
        bail!("nothing arrived");
    };
    let count = arrived.len() as f64;
    settle(receivers).await;
    Ok(Drained {
        rate: count / last.duration_since(*first).as_secs_f64(),
        cpu_ms: cpu.as_secs_f64() * 1000.0 / count,
    })
}

/// Waits until nothing arrives any more.
async fn settle(receivers: &Receivers) {
    loop {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if receivers.take().is_empty() {
            return;
        }
    }
}

/// A steady rate.
pub struct Plan {
    /// Pings a second, over all endpoints.
    pub rate: u32,
    /// How many of a thousand endpoints hang.
    pub dead: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// All in milliseconds, in order.
pub struct Delays {
    pub warm_up: Vec<f64>,
    pub measured: Vec<f64>,
    /// How many of those measured had not arrived at the end.
    pub late: usize,
    /// Pings that the API did not take, because too many wait for that endpoint.
    pub refused: usize,
    /// How long the API took to answer.
    pub api: Vec<f64>,
    /// Processors that the server had, while it was measured.
    pub cpu: f64,
}

/// A ping that the API took.
struct Asked {
    endpoint: usize,
    due: Instant,
    answered: Instant,
    id: String,
}

pub async fn steady(setup: &Setup, server: &Server, receivers: &Receivers, plan: &Plan) -> Result<Delays> {
    receivers.set(Dead::PerMille(plan.dead));
    let (asked, refused, cpu) = offer(setup, server, plan).await?;
    let ended = Instant::now();
    // What is still under way gets as long as an attempt may take.
    let well = |asked: &&Asked| !Dead::PerMille(plan.dead).has(asked.endpoint);
    let owed: Vec<_> = asked.iter().filter(well).collect();
    let mut arrived = receivers.take();
    while owed.iter().any(|asked| !arrived.contains_key(&asked.id))
        && ended.elapsed() < Duration::from_secs(16)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        merge(&mut arrived, receivers.take());
    }
    let end = Instant::now();
    receivers.set(Dead::PerMille(0));
    settle(receivers).await;

    let begin = asked.iter().map(|asked| asked.due).min().unwrap_or(end);
    let delay = |asked: &&Asked| {
        let at = arrived.get(&asked.id).copied().unwrap_or(end);
        ms(at.saturating_duration_since(asked.answered))
    };
    let (early, late): (Vec<&Asked>, Vec<&Asked>) = owed
        .into_iter()
        .partition(|asked| asked.due < begin + plan.warm_up);
    Ok(Delays {
        warm_up: sorted(early.iter().map(delay)),
        measured: sorted(late.iter().map(delay)),
        late: late
            .iter()
            .filter(|asked| !arrived.contains_key(&asked.id))
            .count(),
        refused,
        api: sorted(
            asked
                .iter()
                .map(|asked| ms(asked.answered.saturating_duration_since(asked.due))),
        ),
        cpu,
    })
}

/// Offers pings at the plan's rate, whatever becomes of them: those that were taken, how many were refused, and the
/// processors that the server had after the warm-up.
async fn offer(setup: &Setup, server: &Server, plan: &Plan) -> Result<(Vec<Asked>, usize, f64)> {
    let begin = Instant::now() + Duration::from_millis(50);
    let count = |time: Duration| (f64::from(plan.rate) * time.as_secs_f64()) as usize;
    let (warm, all) = (count(plan.warm_up), count(plan.warm_up + plan.measured));
    let (mut asks, mut cpu) = (JoinSet::new(), Duration::ZERO);
    for number in 0..all {
        let due = begin + Duration::from_secs_f64(number as f64 / f64::from(plan.rate));
        tokio::time::sleep_until(due.into()).await;
        if number == warm {
            cpu = server.cpu()?;
        }
        // Neighbours are dead together or of one tenant; this goes through all of them in another order.
        let endpoint = number * 7919 % setup.endpoints.len();
        let (client, key) = (Arc::clone(&server.client), setup.endpoints[endpoint].key.clone());
        let input = json!({ "id": setup.endpoints[endpoint].id });
        asks.spawn(async move {
            let (status, answer) = client.post("/v1/webhooks/test", &key, &input).await?;
            let answered = Instant::now();
            match status {
                200 => {
                    let id = answer["delivery_id"].as_str().context("an id")?.to_owned();
                    Ok(Some(Asked {
                        endpoint,
                        due,
                        answered,
                        id,
                    }))
                }
                409 => Ok(None),
                _ => bail!("{status} {answer}"),
            }
        });
    }
    let cpu = server.cpu()?.saturating_sub(cpu).as_secs_f64() / plan.measured.as_secs_f64();
    let (mut asked, mut refused) = (Vec::new(), 0);
    while let Some(done) = asks.join_next().await {
        let done: Result<Option<Asked>> = done?;
        match done? {
            Some(ping) => asked.push(ping),
            None => refused += 1,
        }
    }
    Ok((asked, refused, cpu))
}

fn merge(all: &mut HashMap<String, Instant>, more: HashMap<String, Instant>) {
    for (id, at) in more {
        all.entry(id).or_insert(at);
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Of numbers in order.
pub fn quantile(numbers: &[f64], share: f64) -> f64 {
    let at = (numbers.len() as f64 * share).ceil() as usize;
    numbers.get(at.saturating_sub(1)).copied().unwrap_or_default()
}
