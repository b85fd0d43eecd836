//! The typed client against a real server: every call it has, and every way in which one ends.

use std::time::Duration;

use impresario_api::{
    BackfillSchedule, CancelJob, ChangeTenantSettings, CreateApiKey, CreateCredential, CreateDeployment,
    CreateJob, CreateSchedule, CreateWebhook, DeleteApiKey, DeleteCredential, DeleteSchedule, DeleteWebhook,
    DeleteWorkflow, EnsureBrowserProfile, ErrorCode, GetCredential, GetJob, GetSchedule, GetWorkflow,
    ListCredentials, ListDeliveries, ListDeployments, ListJobs, ListLogs, ListSchedules, ListWebhooks,
    ListWorkflows, PathSegment, PreviewSchedule, Redeliver, RotateSecret, ScheduleHistory, Secret,
    SyncDeployment, TestWebhook, TriggerSchedule, UpdateCredential, UpdateSchedule, UpdateWebhook,
    UpsertCredential,
    client::{CallError, Client},
};

use crate::support::{Bundle, PATIENCE, Receiver, Server, Setup, wait_for, workflow};

struct Stage {
    runtime: tokio::runtime::Runtime,
    server: Server,
    client: Client,
}

impl Stage {
    fn new() -> Self {
        let server = Setup::at("2027-01-01T00:00:30Z").start();
        let tenant = server.tenant("acme");
        let url = format!("http://{}", tenant.address());
        Self {
            client: Client::new(&url, &tenant.key().into()).unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            server,
        }
    }

    fn client(&self, key: &Secret) -> Client {
        Client::new(self.client.url(), key).unwrap()
    }

    fn call<C: impresario_api::Call>(&self, input: C) -> C::Answer {
        let answer = self.runtime.block_on(self.client.call(&input));
        answer.unwrap_or_else(|error| panic!("{}: {error}", C::ROUTE))
    }

    fn refused<C: impresario_api::Call>(&self, input: C) -> CallError
    where
        C::Answer: std::fmt::Debug,
    {
        self.runtime.block_on(self.client.call(&input)).unwrap_err()
    }

    fn deploy(&self, name: &str) -> String {
        let bundle = Bundle::of(&workflow(name, "console.log('here'); return { answer: 42 };"));
        let created = self.call(CreateDeployment {
            source: bundle.packed(),
            entry_point: Some(bundle.entry_point().to_owned()),
            description: Some("for the typed client".to_owned()),
            auto_repair: None,
        });
        let id = created.deployment_id;
        wait_for("the build", PATIENCE, || {
            let deployment = self.call(SyncDeployment { id: id.clone() }).deployment;
            if deployment.status == "ready" {
                Ok(())
            } else {
                Err(format!("{deployment:?}"))
            }
        });
        id
    }

    fn ended(&self, id: &str) -> impresario_api::Job {
        wait_for("the job's end", PATIENCE, || {
            let job = self.call(GetJob { id: id.to_owned() });
            if job.completed_at.is_some() {
                Ok(job)
            } else {
                Err(job.status)
            }
        })
    }
}

#[test]
fn schedules_and_their_runs() {
    let stage = Stage::new();
    let deployment = stage.deploy("work");
    assert_eq!(
        stage.call(ListDeployments { limit: Some(1) }).deployments[0].id,
        deployment
    );
    assert_eq!(stage.call(ListWorkflows {}).deployed_workflows[0].name, "work");
    assert_eq!(
        stage
            .call(GetWorkflow {
                workflow: "work".to_owned()
            })
            .deployment_id,
        deployment
    );

    let preview = stage.call(PreviewSchedule {
        cron_expr: "30 2 * * *".to_owned(),
        timezone: Some("Europe/Berlin".to_owned()),
        count: Some(2),
        after: Some("2027-03-27T12:00:00Z".to_owned()),
        ..PreviewSchedule::default()
    });
    assert_eq!(preview.fires[0].dst.as_deref(), Some("gap"));

    let created = stage.call(CreateSchedule {
        workflow: "work".to_owned(),
        cron_expr: "*/5 * * * *".to_owned(),
        name: Some("mine".to_owned()),
        description: Some("kept, then cleared".to_owned()),
        max_consecutive_failures: Some(3),
        ..CreateSchedule::default()
    });
    let id = created.schedule.id.clone();
    assert_eq!(
        created.schedule.next_fire_at.as_deref(),
        Some("2027-01-01T00:05:00.000Z")
    );
    // What is absent stays, what is `Some(None)` is cleared.
    let updated = stage.call(UpdateSchedule {
        id: id.clone(),
        description: Some(None),
        jitter_seconds: Some(Some(0)),
        timeout_seconds: Some(60),
        ..UpdateSchedule::default()
    });
    let schedule = updated.schedule;
    assert_eq!(
        (schedule.description, schedule.max_consecutive_failures),
        (None, Some(3))
    );
    assert_eq!(
        stage
            .call(GetSchedule { id: id.clone() })
            .schedule
            .timeout_seconds,
        60
    );
    let listed = stage.call(ListSchedules {
        name: Some("mine".to_owned()),
        ..ListSchedules::default()
    });
    assert_eq!(listed.schedules.len(), 1);

    stage.server.set_clock("2027-01-01T00:05:00Z");
    let fire = wait_for("the fire", PATIENCE, || {
        let history = stage.call(ScheduleHistory {
            id: id.clone(),
            ..ScheduleHistory::default()
        });
        history
            .fires
            .first()
            .cloned()
            .ok_or_else(|| "none yet".to_owned())
    });
    assert_eq!(
        (fire.fire_at.as_str(), fire.outcome.as_str()),
        ("2027-01-01T00:05:00.000Z", "fired")
    );
    let job = stage.ended(&fire.job_id.unwrap());
    assert_eq!(job.result, Some(serde_json::json!({"answer": 42})));
    let logs = stage.call(ListLogs {
        job_id: Some(job.job_id),
        ..ListLogs::default()
    });
    assert_eq!(logs.logs[0].message, "here");

    let backfilled = stage.call(BackfillSchedule {
        id: id.clone(),
        from: "2026-12-31T23:00:00Z".to_owned(),
        to: "2026-12-31T23:10:00Z".to_owned(),
    });
    assert_eq!((backfilled.job_ids.len(), backfilled.already_fired), (2, 0));
    let triggered = stage.call(TriggerSchedule {
        id: id.clone(),
        params: None,
    });
    stage.ended(&triggered.job_id);
    let made = stage.call(CreateJob {
        workflow: "work".to_owned(),
        nonce: Some("once".to_owned()),
        ..CreateJob::default()
    });
    stage.ended(&made.job_id);
    let refused = stage.refused(CancelJob { id: made.job_id });
    assert_eq!(refused.body().unwrap().code, ErrorCode::Conflict);
    let listed = stage.call(ListJobs {
        status: Some("completed".to_owned()),
        limit: Some(100),
        ..ListJobs::default()
    });
    assert!(listed.jobs.len() >= 3, "{listed:?}");

    assert_eq!(stage.call(DeleteSchedule { id: id.clone() }).id, id);
    assert!(
        stage
            .call(DeleteWorkflow {
                workflow: "work".to_owned()
            })
            .success
    );
}

#[test]
fn receivers_credentials_keys_and_settings() {
    let stage = Stage::new();
    stage.deploy("work");
    let ear = Receiver::start();
    let webhook = stage.call(CreateWebhook {
        url: ear.url(),
        ..CreateWebhook::default()
    });
    assert!(webhook.signing_secret.unwrap().expose().starts_with("whsec_"));
    let id = webhook.webhook_endpoint_id;
    stage.call(UpdateWebhook {
        id: id.clone(),
        description: Some(Some("an ear".to_owned())),
        events: Some(Some(vec!["job.completed".to_owned()])),
        ..UpdateWebhook::default()
    });
    let rotated = stage.call(RotateSecret {
        id: id.clone(),
        ..RotateSecret::default()
    });
    assert!(rotated.signing_secret.unwrap().expose().starts_with("whsec_"));
    let endpoint = stage.call(ListWebhooks {}).webhook_endpoints.remove(0);
    assert_eq!(endpoint.old_secrets_valid_until, rotated.old_secret_valid_until);
    assert_eq!(
        (endpoint.description.as_deref(), endpoint.events.len()),
        (Some("an ear"), 1)
    );
    let job = stage.call(CreateJob {
        workflow: "work".to_owned(),
        ..CreateJob::default()
    });
    stage.ended(&job.job_id);
    let delivery = wait_for("the delivery", PATIENCE, || {
        let found = stage.call(ListDeliveries {
            job_id: Some(job.job_id.clone()),
            ..ListDeliveries::default()
        });
        let first = found.deliveries.into_iter().next().ok_or("none yet")?;
        if first.status == "delivered" {
            Ok(first)
        } else {
            Err("not delivered yet".to_owned())
        }
    });
    assert_eq!(delivery.last_status_code, Some(204));
    stage.call(Redeliver {
        delivery_id: delivery.delivery_id,
    });
    let twice = ear.wait(2);
    assert_eq!(twice[0].header("webhook-id"), twice[1].header("webhook-id"));
    let ping = stage.call(TestWebhook { id: id.clone() });
    let pinged = ear.wait(3)[2].clone();
    assert_eq!(pinged.header("webhook-id"), Some(&*ping.delivery_id));
    stage.call(DeleteWebhook { id });

    let name = "portal".to_owned();
    let made = stage.call(CreateCredential {
        name: name.clone(),
        value: "one".into(),
    });
    let upserted = stage.call(UpsertCredential {
        name: name.clone(),
        value: "two".into(),
    });
    assert!(upserted.overwritten);
    stage.call(UpdateCredential {
        id: made.credential_id.clone(),
        value: Some("three".into()),
        name: None,
    });
    assert_eq!(stage.call(GetCredential { name }).value.expose(), "three");
    assert_eq!(stage.call(ListCredentials {}).credentials.len(), 1);
    stage.call(DeleteCredential {
        id: made.credential_id,
    });

    let settings = stage.call(ChangeTenantSettings {
        disable_job_failure_notifications: Some(true),
    });
    assert!(settings.disable_job_failure_notifications);
    let profile = |()| {
        stage.call(EnsureBrowserProfile {
            name: "portal".to_owned(),
        })
    };
    let (first, again) = (profile(()), profile(()));
    assert_eq!((first.created, again.created), (true, false));
    assert_eq!(first.profile_id, again.profile_id);

    let key = CreateApiKey {
        name: "second".to_owned(),
        expires_in: Some(3600),
    };
    let key = stage.runtime.block_on(stage.client.create_api_key(&key)).unwrap();
    let second = stage.client(&key.key);
    let keys = stage.runtime.block_on(second.list_api_keys()).unwrap();
    assert_eq!(keys.len(), 2);
    let gone = DeleteApiKey { key_id: key.id };
    stage
        .runtime
        .block_on(stage.client.delete_api_key(&gone))
        .unwrap();
    let refused = stage.runtime.block_on(second.list_api_keys()).unwrap_err();
    assert_eq!(refused.body().unwrap().code, ErrorCode::Unauthorized);
}

#[test]
fn what_goes_wrong_is_told_apart() {
    let stage = Stage::new();
    let refused = stage.refused(CreateSchedule {
        workflow: "nothing".to_owned(),
        cron_expr: "0 25 * * *".to_owned(),
        timezone: Some("Nowhere".to_owned()),
        ..CreateSchedule::default()
    });
    let body = refused.body().unwrap();
    let paths: Vec<&PathSegment> = body
        .data
        .as_ref()
        .unwrap()
        .issues
        .iter()
        .flat_map(|issue| &issue.path)
        .collect();
    let key = |text: &str| PathSegment::Key(text.to_owned());
    assert_eq!(paths, [&key("cron_expr"), &key("timezone")]);
    assert!(
        refused
            .to_string()
            .contains("hour \"25\" is out of range (0-23); timezone: "),
        "{refused}"
    );

    let stranger = stage.client(&"imp_nobody".into());
    let error = stage
        .runtime
        .block_on(stranger.call(&ListJobs::default()))
        .unwrap_err();
    assert_eq!(error.body().unwrap().code, ErrorCode::Unauthorized);

    // Something else that answers.
    let ear = Receiver::start();
    let wrong = Client::new(ear.url().split("/callback").next().unwrap(), &"imp_nobody".into()).unwrap();
    let error = stage
        .runtime
        .block_on(wrong.call(&ListJobs::default()))
        .unwrap_err();
    assert!(matches!(error, CallError::NotTheApi { .. }), "{error}");

    // Something that never answers in time, and nothing at all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let impatient = Client::new(&url, &"imp_nobody".into())
        .unwrap()
        .with_timeout(Duration::from_millis(200));
    let error = stage
        .runtime
        .block_on(impatient.call(&ListJobs::default()))
        .unwrap_err();
    assert!(matches!(error, CallError::NoAnswer { .. }), "{error}");
    drop(silent);
    let error = stage
        .runtime
        .block_on(impatient.call(&ListJobs::default()))
        .unwrap_err();
    assert!(matches!(error, CallError::NoAnswer { .. }), "{error}");
}
