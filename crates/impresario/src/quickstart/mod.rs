//! The whole thing at work in one process: a server, a tenant, a deployed workflow, a schedule that fires every
//! minute, a run in a real browser, and a callback whose signature is checked. Everything goes over HTTP, as it would
//! from anywhere; the site that the workflow works on and the receiver of the callbacks are served on loopback, so no
//! network is needed.

mod bundle;
mod portal;
mod receiver;
mod screen;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use impresario_api::client::Client;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::{receiver::Received, screen::Screen};
use crate::{
    cli::{admin, api_key},
    clock::SharedClock,
    config::{Flags, Settings},
    serve::{Server, Signals},
    store::ops::tenants,
};

/// The tenant that the quickstart makes, or finds from the time before.
const TENANT: &str = "quickstart";
/// Where it keeps its data where nothing else is said: not where a server would.
const DATA_DIR: &str = "./data-quickstart";
/// A build, a run or a callback that takes longer than this is not coming.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the quickstart takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The address to listen on; without it 127.0.0.1:8080, or a free port where that is taken
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// End once the first scheduled run has reported, instead of serving on
    #[arg(long)]
    exit: bool,
}

/// Tells the story, then serves on until Ctrl-C.
///
/// # Errors
/// A sentence that says at which step something did not go as it should.
pub async fn run(flags: &Flags, options: Options) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::new();
    screen.waiting("starting (the first time, this installs the runner's npm packages)");
    // The first start takes minutes, and whoever lost patience need not wait for its end: npm is ended with it.
    let server = tokio::select! {
        server = start(flags, &options) => server?,
        () = signals.next() => return Ok(()),
    };
    let story = async {
        let outcome = tell(&server, &mut screen).await;
        if outcome.is_ok() && !options.exit {
            screen.line("\nThe schedule goes on, once a minute. Ctrl-C ends this server.");
            std::future::pending::<()>().await;
        }
        outcome
    };
    let outcome = tokio::select! {
        outcome = story => outcome,
        () = signals.next() => Ok(()),
    };
    // Nobody waits for runs whose only purpose was to be shown.
    server.stop(std::future::ready(())).await;
    outcome
}

async fn start(flags: &Flags, options: &Options) -> anyhow::Result<Server> {
    let mut settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    if flags.data_dir.is_none() && settings.data_dir == Settings::default().data_dir {
        settings.data_dir = PathBuf::from(DATA_DIR);
    }
    // The portal and the receiver are on this machine: nothing else of loopback's is opened to anybody.
    settings
        .allow_private_callbacks
        .push("127.0.0.1/32".parse().context("loopback")?);
    if let Some(listen) = options.listen {
        settings.listen = listen;
        return Server::start(settings).await;
    }
    if tokio::net::TcpListener::bind(settings.listen).await.is_err() {
        settings.listen.set_port(0);
    }
    Server::start(settings).await
}

async fn tell(server: &Server, screen: &mut Screen) -> anyhow::Result<()> {
    let (stop, tasks, app) = (server.stopping(), server.tasks(), &server.app);
    let secret = app.ids.uuid(app.clock.now()).simple().to_string();
    let password = app.ids.uuid(app.clock.now()).simple().to_string();
    let session = app.ids.uuid(app.clock.now()).simple().to_string();
    let portal = portal::serve(password.clone(), session, (&stop, &tasks)).await?;
    let (receiver, mut callbacks) = receiver::serve(secret.clone(), (&stop, &tasks)).await?;

    screen.heading("Impresario quickstart");
    screen.done(&format!("serving {}", server.url()));
    let key = key(server).await?;
    screen.done(&format!("made the tenant {TENANT} and an API key"));
    screen.done(&format!(
        "serving an example portal at http://{portal} and a callback receiver at http://{receiver}"
    ));
    let api = Client::new(&server.url(), &key.clone().into())?;

    deploy(&api, screen).await?;
    api.send(
        "credentials/upsert",
        &json!({"name": bundle::CREDENTIAL, "value": password}),
    )
    .await?;
    screen.done(&format!(
        "stored the portal's password as the credential {}",
        bundle::CREDENTIAL
    ));

    let schedule = schedule(&api, screen, portal, receiver, &secret).await?;
    let triggered = api.send("schedules/trigger", &json!({"id": schedule})).await?;
    let job = text(&triggered, "job_id")?;
    screen.heading("Run it once now");
    screen.done(&format!("triggered job {job}"));
    report(&api, screen, &job, &mut callbacks).await?;

    screen.heading("Wait for the schedule to fire by itself");
    let job = first_fire(&api, screen, &schedule, &app.clock).await?;
    report(&api, screen, &job, &mut callbacks).await?;
    let now = api.send("schedules/get", &json!({"id": schedule})).await?;
    let now = &now["schedule"];
    screen.done("schedules/get tells the truth afterwards");
    for field in [
        "last_fire_at",
        "last_job_id",
        "last_error",
        "consecutive_failures",
        "next_fire_at",
    ] {
        screen.detail(&format!("{field}: {}", now[field]));
    }
    go_on(screen, &server.url(), &key, &schedule);
    Ok(())
}

async fn key(server: &Server) -> anyhow::Result<String> {
    let app = &server.app;
    let known = app
        .store
        .read("find_tenant", |tx| tenants::find(tx, TENANT))
        .await?;
    let tenant = match known {
        Some(tenant) => tenant,
        None => admin::create_tenant(&app.store, &app.ids, TENANT).await?,
    };
    let now = app.clock.now();
    api_key::create(&app.store, &app.ids, tenant.id, ("quickstart", None), now).await
}

async fn deploy(api: &Client, screen: &mut Screen) -> anyhow::Result<()> {
    let source = bundle::packed().context("the example workflow could not be packed")?;
    let request = json!({"source": source, "entry_point": "index.js", "description": "quickstart"});
    let id = text(&api.send("deployments/create", &request).await?, "deployment_id")?;
    let since = Instant::now();
    loop {
        let deployment = api.send("deployments/sync", &json!({"id": id})).await?;
        match deployment["status"].as_str() {
            Some("ready") => break,
            Some("failed") => bail!("the deployment failed: {}", deployment["build_error"]),
            _ if since.elapsed() > PATIENCE => bail!("the deployment is still not built"),
            _ => screen.waiting("building the deployment"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    screen.done(&format!(
        "deployed the workflow {} (deployment {id})",
        bundle::WORKFLOW
    ));
    Ok(())
}

async fn schedule(
    api: &Client,
    screen: &mut Screen,
    portal: SocketAddr,
    receiver: SocketAddr,
    secret: &str,
) -> anyhow::Result<String> {
    // Of an earlier quickstart on this data directory: its portal is gone.
    let old = api
        .send("schedules/list", &json!({"workflow": bundle::WORKFLOW}))
        .await?;
    for old in old["schedules"].as_array().into_iter().flatten() {
        api.send("schedules/delete", &json!({"id": old["id"]})).await?;
    }
    let request = json!({
        "workflow": bundle::WORKFLOW,
        "params": bundle::params(&format!("http://{portal}/"), portal::USER),
        "cron_expr": "* * * * *",
        "timeout_seconds": 60,
        "callback_url": format!("http://{receiver}/callback"),
        "callback_secret": secret,
    });
    let created = api.send("schedules/create", &request).await?;
    let id = text(&created["schedule"], "id")?;
    screen.done(&format!(
        "scheduled it with cron_expr \"* * * * *\" (schedule {id})"
    ));
    screen.detail(&format!(
        "fires next at {}",
        created["schedule"]["next_fire_at"].as_str().unwrap_or("?")
    ));
    Ok(id)
}

/// Waits until the schedule's first fire has made a job.
async fn first_fire(
    api: &Client,
    screen: &mut Screen,
    schedule: &str,
    clock: &SharedClock,
) -> anyhow::Result<String> {
    let since = Instant::now();
    loop {
        let now = api.send("schedules/get", &json!({"id": schedule})).await?;
        let now = &now["schedule"];
        if let Some(job) = now["last_job_id"].as_str() {
            let at = now["last_fire_at"].as_str().unwrap_or("?");
            screen.done(&format!("the schedule fired for {at} and made job {job}"));
            return Ok(job.to_owned());
        }
        if since.elapsed() > PATIENCE {
            bail!("the schedule has not fired: {now}");
        }
        let left = now["next_fire_at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok());
        let now_at = clock.now();
        let left = left.map_or(0, |at| at.as_second().saturating_sub(now_at.as_second()));
        screen.waiting(&format!("it fires in {} s", left.max(0)));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Follows a job to its end and its callback to the receiver, and says what came.
async fn report(
    api: &Client,
    screen: &mut Screen,
    job: &str,
    callbacks: &mut mpsc::Receiver<Received>,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let ended = loop {
        let ended = api.send("jobs/get", &json!({"id": job})).await?;
        match ended["status"].as_str() {
            Some("completed" | "failed" | "cancelled") => break ended,
            Some(status) => screen.waiting(&format!("the job is {status}")),
            None => bail!("a job without a status: {ended}"),
        }
        if since.elapsed() > PATIENCE {
            bail!("the job has not ended: {ended}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let logs = api.send("logs/list", &json!({"jobId": job})).await?;
    for line in logs["logs"].as_array().into_iter().flatten() {
        screen.detail(&format!(
            "[{}] {}",
            line["level"].as_str().unwrap_or("?"),
            line["message"].as_str().unwrap_or("")
        ));
    }
    if ended["status"] != "completed" {
        bail!("the job {job} {}: {}", ended["status"], ended["error"]);
    }
    screen.done("the job completed; its result:");
    screen.detail(&ended["result"].to_string());
    loop {
        screen.waiting("the callback is on its way");
        let left = PATIENCE.saturating_sub(since.elapsed());
        let received = tokio::time::timeout(left, callbacks.recv())
            .await
            .context("no callback came")?;
        let received = received.context("the receiver has ended")?;
        if received.body["job_id"] != job {
            continue;
        }
        if !received.genuine {
            bail!("a callback came whose signature is wrong: {}", received.signature);
        }
        let event = received.body["event"].as_str().unwrap_or("?");
        screen.done(&format!("its callback {event} came, and its signature is right"));
        screen.detail(&format!("x-webhook-signature: {}", received.signature));
        return Ok(());
    }
}

fn text(answer: &Value, field: &str) -> anyhow::Result<String> {
    Ok(answer[field]
        .as_str()
        .with_context(|| format!("no {field} in {answer}"))?
        .to_owned())
}

fn go_on(screen: &mut Screen, url: &str, key: &str, schedule: &str) {
    screen.heading("Go on from here");
    screen.line(&format!(
        "export IMPRESARIO_URL={url} LIBRETTO_API_URL={url} LIBRETTO_API_KEY={key}"
    ));
    for (route, input) in [
        ("schedules/get", json!({"id": schedule})),
        ("schedules/history", json!({"id": schedule, "limit": 5})),
        ("jobs/list", json!({"limit": 5})),
        (
            "schedules/update",
            json!({"id": schedule, "cron_expr": "0 9 * * MON-FRI", "timezone": "America/New_York"}),
        ),
    ] {
        let body = json!({"json": input}).to_string();
        screen.line(&format!(
            "curl -s $IMPRESARIO_URL/v1/{route} -H \"x-api-key: $LIBRETTO_API_KEY\" -H 'content-type: application/json' \\\n  -d '{body}'"
        ));
    }
}
