//! What the owners of schedules do meanwhile, through whichever node, and what became of each request as far as they
//! were told.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    clocks::real_now,
    cluster::Node,
    plan::{self, OWN_SECRET, SOURCE, Spec, TENANT_SECRET, TENANTS},
    rng::Rng,
    support::{Bundle, PATIENCE, Request, wait_for},
};

/// What a request came to.
#[derive(Debug, Clone)]
pub(crate) enum Did {
    Done(Value),
    Refused(u16, String),
    /// The answer was lost, or says that it is not known: it happened wholly or not at all, perhaps later.
    Unknown,
    /// It never got to a node.
    NotSent,
}

impl Did {
    pub(crate) fn may_have_happened(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Unknown)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Create(Spec),
    Update {
        schedule: String,
        input: Value,
    },
    Delete {
        schedule: String,
    },
    /// A run of a schedule's workflow that is none of its fires; it carries a mark.
    Trigger {
        schedule: String,
        mark: String,
    },
    /// A job that no other request can have made: it carries a mark.
    Job {
        mark: String,
        nonce: bool,
    },
    Cancel {
        job: String,
    },
    Deploy,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) tenant: usize,
    pub(crate) what: What,
    pub(crate) begun: i64,
    pub(crate) ended: i64,
    pub(crate) did: Did,
}

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) url: String,
}

/// A schedule that is known to be there.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    tenant: usize,
    paused: bool,
    /// Whether it may be changed at all: most are left alone, so that much of the ledger is plain.
    changes: bool,
}

#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) own_url: String,
    pub(crate) runs: String,
    pub(crate) lease_ms: u64,
    known: Mutex<Vec<Known>>,
    ops: Mutex<Vec<Op>>,
    number: Mutex<usize>,
    pub(crate) start: i64,
}

/// How long an owner waits for an answer: a node may be stopped, or its database away.
const ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(1);

impl Work {
    pub(crate) fn new(
        nodes: Vec<Arc<Node>>,
        urls: impl Fn(&str) -> String,
        (runs, lease_ms, start): (String, u64, i64),
    ) -> Self {
        Self {
            nodes,
            tenants: (0..TENANTS)
                .map(|_| Tenant {
                    id: String::new(),
                    key: String::new(),
                    url: urls(TENANT_SECRET),
                })
                .collect(),
            own_url: urls(OWN_SECRET),
            runs,
            lease_ms,
            known: Mutex::default(),
            ops: Mutex::default(),
            number: Mutex::new(0),
            start,
        }
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.ops.lock().unwrap().clone()
    }

    fn next_number(&self) -> usize {
        let mut number = self.number.lock().unwrap();
        *number += 1;
        *number - 1
    }

    /// Tenants, workflows, receivers and schedules, before anything breaks.
    pub(crate) fn set_up(&mut self, schedules: usize, rng: &mut Rng) {
        let cli = |args: &[&str]| {
            let output = self.nodes[0].command(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{args:?}: {said}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        for (number, tenant) in self.tenants.iter_mut().enumerate() {
            let name = format!("tenant-{number}");
            cli(&["tenant", "create", &name]);
            tenant.key = cli(&["api-key", "create", "--tenant", &name, "--label", "chaos"]);
            tenant.id = name;
        }
        let bundle = Bundle::of(SOURCE).packed();
        for tenant in 0..TENANTS {
            let deployment = self.must(
                tenant,
                "deployments/create",
                &json!({"source": bundle, "entry_point": "index.js"}),
            );
            let id = json!({"id": deployment["deployment_id"]});
            wait_for("the build", PATIENCE, || {
                let status = self.must(tenant, "deployments/sync", &id)["status"].clone();
                (status == "ready")
                    .then_some(())
                    .ok_or_else(|| status.to_string())
            });
            let endpoint = json!({"url": self.tenants[tenant].url, "signing_secret": TENANT_SECRET});
            self.must(tenant, "webhooks/create", &endpoint);
        }
        for _ in 0..schedules {
            let spec = Spec::draw(rng, self.next_number(), self.start, self.lease_ms);
            self.create(spec, 0);
        }
        let made = self.known.lock().unwrap().len();
        assert_eq!(made, schedules, "{:?}", self.ops().last());
        for tenant in 0..TENANTS {
            self.must(tenant, "workflows/delete", &json!({"workflow": "gone"}));
        }
    }

    #[track_caller]
    fn must(&self, tenant: usize, route: &str, input: &Value) -> Value {
        match self.call(tenant, 0, route, input) {
            Did::Done(answer) => answer,
            other => panic!("{route} {input}: {other:?}\n{}", self.nodes[0].log_end()),
        }
    }

    /// Asks a node.
    fn call(&self, tenant: usize, node: usize, route: &str, input: &Value) -> Did {
        let Some(address) = self.nodes[node].address() else {
            return Did::NotSent;
        };
        let request = Request::post(&format!("/v1/{route}"), &json!({"json": input}))
            .header("x-api-key", &self.tenants[tenant].key);
        ask(address, &request)
    }

    fn note(&self, tenant: usize, what: What, ask: impl FnOnce() -> Did) -> Did {
        let begun = real_now();
        let did = ask();
        let (ended, noted) = (real_now(), did.clone());
        self.ops.lock().unwrap().push(Op {
            tenant,
            what,
            begun,
            ended,
            did: noted,
        });
        did
    }

    fn create(&self, spec: Spec, node: usize) {
        let (tenant, input) = (spec.tenant, spec.input(&self.own_url, &self.runs));
        let (gone, number) = (spec.workflow == "gone", self.known.lock().unwrap().len());
        let did = self.note(tenant, What::Create(spec), || {
            self.call(tenant, node, "schedules/create", &input)
        });
        if let Did::Done(answer) = did {
            self.known.lock().unwrap().push(Known {
                id: answer["schedule"]["id"].as_str().unwrap().to_owned(),
                tenant,
                paused: false,
                changes: !gone && number % 4 == 1,
            });
        }
    }

    /// Does one thing after the other until it is `over`.
    pub(crate) fn go_on(&self, rng: &mut Rng, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            self.one(rng);
            thread::sleep(Duration::from_millis(rng.between(100, 500)));
        }
    }

    fn one(&self, rng: &mut Rng) {
        let node = rng.below(self.nodes.len());
        let changing: Vec<Known> = {
            let known = self.known.lock().unwrap();
            known.iter().filter(|one| one.changes).cloned().collect()
        };
        let chosen = &changing[rng.below(changing.len())];
        let tenant = chosen.tenant;
        let schedule = chosen.id.clone();
        match rng.below(20) {
            0..=9 => {
                let input = plan::change(rng, chosen.paused);
                let mut sent = input.clone();
                sent["id"] = schedule.as_str().into();
                let what = What::Update {
                    schedule: schedule.clone(),
                    input: input.clone(),
                };
                let did = self.note(tenant, what, || {
                    self.call(tenant, node, "schedules/update", &sent)
                });
                if let (Did::Done(_), Some(enabled)) = (did, input["enabled"].as_bool()) {
                    let mut known = self.known.lock().unwrap();
                    if let Some(one) = known.iter_mut().find(|one| one.id == schedule) {
                        one.paused = !enabled;
                    }
                }
            }
            10..=12 => {
                let mark = format!("mark {}", self.next_number());
                let params = json!({"file": self.runs, "ms": rng.between(0, 100), "mark": mark});
                let input = json!({"id": schedule, "params": params});
                self.note(tenant, What::Trigger { schedule, mark }, || {
                    self.call(tenant, node, "schedules/trigger", &input)
                });
            }
            13 | 14 => self.job(rng, tenant),
            15 | 16 => self.cancel(tenant, node, &schedule),
            17 | 18 => {
                let id = json!({"id": schedule});
                self.known.lock().unwrap().retain(|one| one.id != schedule);
                self.note(tenant, What::Delete { schedule }, || {
                    self.call(tenant, node, "schedules/delete", &id)
                });
                let mut spec = Spec::draw(rng, self.next_number(), self.start, self.lease_ms);
                // A new schedule can only have a workflow that is there.
                spec.workflow = if spec.workflow == "gone" {
                    "works"
                } else {
                    spec.workflow
                };
                (spec.end, spec.cron) = (None, "*/10 * * * *");
                self.create(spec, rng.below(self.nodes.len()));
                if let Some(last) = self.known.lock().unwrap().last_mut() {
                    last.changes = true;
                }
            }
            _ => {
                let bundle = Bundle::of(&SOURCE.replace("gone", "other")).packed();
                let input = json!({"source": bundle, "entry_point": "index.js"});
                self.note(tenant, What::Deploy, || {
                    self.call(tenant, node, "deployments/create", &input)
                });
            }
        }
    }

    /// Puts a job into the queue. With a nonce it is asked for again, at any node, until somebody knows.
    fn job(&self, rng: &mut Rng, tenant: usize) {
        let (mark, nonce) = (format!("mark {}", self.next_number()), rng.one_in(2));
        let mut input = json!({
            "workflow": "works", "timeout_seconds": 120,
            "params": {"file": self.runs, "ms": rng.between(0, 200), "mark": mark},
        });
        if nonce {
            input["nonce"] = mark.as_str().into();
        }
        let tries = if nonce { 4 } else { 1 };
        for _ in 0..tries {
            let node = rng.below(self.nodes.len());
            let what = What::Job {
                mark: mark.clone(),
                nonce,
            };
            let did = self.note(tenant, what, || self.call(tenant, node, "jobs/create", &input));
            if !matches!(did, Did::Unknown | Did::NotSent) {
                return;
            }
        }
    }

    fn cancel(&self, tenant: usize, node: usize, schedule: &str) {
        let Did::Done(answer) = self.call(tenant, node, "schedules/get", &json!({"id": schedule})) else {
            return;
        };
        if let Some(job) = answer["schedule"]["last_job_id"].as_str() {
            let (job, id) = (job.to_owned(), json!({"id": job}));
            self.note(tenant, What::Cancel { job }, || {
                self.call(tenant, node, "jobs/cancel", &id)
            });
        }
    }
}

fn ask(address: SocketAddr, request: &Request) -> Did {
    let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT) else {
        return Did::NotSent;
    };
    let Ok(answer) = request.send_over(stream, ANSWER) else {
        return Did::Unknown;
    };
    match answer.status {
        200 => Did::Done(answer.value()["json"].clone()),
        status @ 400..=499 if status != 408 => {
            Did::Refused(status, answer.value()["json"]["message"].to_string())
        }
        _ => Did::Unknown,
    }
}
