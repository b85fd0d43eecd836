//! What is counted of a running server, in the text format of Prometheus (version 0.0.4). What comes in: a number here and
//! there. What goes out: a page of text, without the name or the id of anybody.
//!
//! Counters are this node's, since its start. What the store is asked for is of all nodes, costs a few steps of an index,
//! and is asked for at most every five seconds, however often somebody looks.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    app::App,
    store::ops::{
        gauges::{self, Gauges},
        jobs::Recovered,
    },
};

/// How long an answer of the store is good for.
const FRESH: Duration = Duration::from_secs(5);
/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that happens, and is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Instants that this node's scheduler has accounted for, by what became of them; and those that somebody has asked
    /// for.
    Fires(&'static str),
    /// Jobs that ended here, by status and `failure_class`.
    Jobs(&'static str, String),
    /// Attempts to deliver, by how they went.
    Attempts(&'static str),
    /// Deliveries that were removed because they were old.
    Pruned,
    /// Requests, by the class of their answer.
    Requests(&'static str),
}

/// The counters, and the store's last answer.
#[derive(Debug)]
pub struct Metrics {
    counts: Mutex<BTreeMap<Count, u64>>,
    /// Held while the store is asked, so that those who look at once ask once.
    stored: tokio::sync::Mutex<Option<(Instant, Option<Stored>)>>,
}

/// What the store said.
#[derive(Debug, Clone, Copy)]
struct Stored {
    gauges: Gauges,
    /// When, on this node's clock.
    at: Timestamp,
}

impl Default for Metrics {
    fn default() -> Self {
        // From the start, so that the first of each is a step and not a beginning.
        let known = [
            ["fired", "skipped_overlap", "rejected", "missed", "backfilled"]
                .map(Count::Fires)
                .to_vec(),
            ["delivered", "to_be_retried", "given_up"]
                .map(Count::Attempts)
                .to_vec(),
            vec![Count::Pruned],
            ["2xx", "4xx", "5xx"].map(Count::Requests).to_vec(),
            ["completed", "cancelled"]
                .map(|status| Count::Jobs(status, String::new()))
                .to_vec(),
        ];
        Self {
            counts: Mutex::new(known.into_iter().flatten().map(|count| (count, 0)).collect()),
            stored: tokio::sync::Mutex::default(),
        }
    }
}

impl Metrics {
    /// So many more of something.
    pub fn add(&self, count: Count, more: u64) {
        if more == 0 {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(count).or_default() += more;
    }

    /// Jobs that were settled because whoever had them is gone.
    pub fn settled(&self, recovered: &Recovered) {
        self.add(
            Count::Jobs("failed", "worker_lost".to_owned()),
            recovered.lost as u64,
        );
        self.add(
            Count::Jobs("cancelled", String::new()),
            recovered.cancelled as u64,
        );
    }

    /// What the store says, or said a moment ago; nothing where it says nothing.
    async fn stored(&self, app: &App) -> Option<Stored> {
        let mut known = self.stored.lock().await;
        if let Some((asked, stored)) = *known
            && asked.elapsed() < FRESH
        {
            return stored;
        }
        let asked = tokio::time::timeout(PATIENCE, app.store.read_now("gauges", gauges::gauges)).await;
        let stored = match asked {
            Ok(Ok(gauges)) => Some(Stored {
                gauges,
                at: app.clock.now(),
            }),
            Ok(Err(error)) => {
                tracing::error!(%error, cause = ?error, "the store cannot be read: its metrics are missing");
                None
            }
            Err(_) => None,
        };
        *known = Some((Instant::now(), stored));
        stored
    }
}

/// The page.
pub async fn text(app: &App) -> String {
    let mut page = Page::default();
    page.family("impresario_build_info", "gauge", "The version that runs.");
    page.sample(
        "impresario_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    counters(&app.metrics, &mut page);
    let running = "impresario_jobs_running";
    page.family(running, "gauge", "Jobs that run on this node.");
    page.sample(running, &[], app.running.count());
    let age = "impresario_loop_age_seconds";
    page.family(
        age,
        "gauge",
        "How long ago each loop of this node last came round.",
    );
    for (name, passed) in app.pulse.ages() {
        page.sample(age, &[("loop", name)], passed.as_secs_f64());
    }
    let stored = app.metrics.stored(app).await;
    let up = "impresario_store_up";
    page.family(up, "gauge", "Whether the store could be read.");
    page.sample(up, &[], u8::from(stored.is_some()));
    if let Some(stored) = stored {
        from_store(stored, &mut page);
    }
    page.text
}

fn counters(metrics: &Metrics, page: &mut Page) {
    let counts = metrics
        .counts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut last = "";
    for (count, number) in &counts {
        let (name, help) = match count {
            Count::Fires(_) => (
                "impresario_fires_total",
                "Scheduled instants that this node has accounted for, by what became of them.",
            ),
            Count::Jobs(..) => (
                "impresario_jobs_ended_total",
                "Jobs that ended on this node, by status and failure class.",
            ),
            Count::Attempts(_) => (
                "impresario_delivery_attempts_total",
                "Attempts of this node to deliver a callback, by how they went.",
            ),
            Count::Pruned => (
                "impresario_deliveries_pruned_total",
                "Deliveries that this node removed because they were old.",
            ),
            Count::Requests(_) => (
                "impresario_http_requests_total",
                "Requests to this node, by the class of the answer's status.",
            ),
        };
        if name != last {
            page.family(name, "counter", help);
            last = name;
        }
        match count {
            Count::Fires(outcome) => page.sample(name, &[("outcome", outcome)], number),
            Count::Jobs(status, class) => {
                page.sample(name, &[("status", status), ("failure_class", class)], number);
            }
            Count::Attempts(result) => page.sample(name, &[("result", result)], number),
            Count::Pruned => page.sample(name, &[], number),
            Count::Requests(class) => page.sample(name, &[("status", class)], number),
        }
    }
}

fn from_store(Stored { gauges, at }: Stored, page: &mut Page) {
    let late = gauges
        .next_due
        .map_or(0, |due| at.as_millisecond() - due.as_millisecond());
    let late = late.max(0) as f64 / 1000.0;
    let families = [
        (
            "impresario_scheduler_lag_seconds",
            "How long the oldest fire that is due has been waiting; 0 where none is.",
            late.to_string(),
        ),
        (
            "impresario_jobs_queued",
            "Jobs of all nodes that wait, counted up to 10000.",
            gauges.queued.to_string(),
        ),
        (
            "impresario_jobs_held",
            "Jobs that a worker of any node has, counted up to 10000.",
            gauges.running.to_string(),
        ),
        (
            "impresario_deliveries_pending",
            "Deliveries of all nodes that wait for an attempt, counted up to 10000.",
            gauges.deliveries_waiting.to_string(),
        ),
        (
            "impresario_deliveries_in_flight",
            "Deliveries of all nodes of which an attempt is under way, counted up to 10000.",
            gauges.deliveries_in_flight.to_string(),
        ),
        (
            "impresario_deliveries_held_back",
            "Deliveries of all nodes whose webhook endpoint is not active, counted up to 10000.",
            gauges.deliveries_held_back.to_string(),
        ),
        (
            "impresario_webhook_endpoints_disabled",
            "Webhook endpoints that were disabled because they were gone or only failed, counted up to 10000.",
            gauges.endpoints_disabled.to_string(),
        ),
    ];
    for (name, help, value) in families {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}

/// The text as it grows.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let _ = match labels.is_empty() {
            true => writeln!(self.text, "{name} {value}"),
            false => writeln!(self.text, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_named_once_and_its_samples_follow_it() {
        let metrics = Metrics::default();
        metrics.add(Count::Jobs("failed", "a \"b\"\\\n".to_owned()), 2);
        metrics.add(Count::Fires("fired"), 3);
        metrics.add(Count::Fires("fired"), 4);
        let mut page = Page::default();
        counters(&metrics, &mut page);
        let lines: Vec<&str> = page.text.lines().collect();
        for name in ["impresario_fires_total", "impresario_jobs_ended_total"] {
            let types = lines
                .iter()
                .filter(|line| **line == format!("# TYPE {name} counter"));
            assert_eq!(types.count(), 1, "{}", page.text);
        }
        assert!(lines.contains(&"impresario_fires_total{outcome=\"fired\"} 7"));
        assert!(lines.contains(&"impresario_fires_total{outcome=\"missed\"} 0"));
        let failed = "impresario_jobs_ended_total{status=\"failed\",failure_class=\"a \\\"b\\\"\\\\\\n\"} 2";
        assert!(lines.contains(&failed), "{}", page.text);
    }
}
