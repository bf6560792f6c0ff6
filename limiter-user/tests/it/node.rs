//! A node made up for the tests, and an agent's worth of server around it.

use std::{
    collections::VecDeque,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use limiter_common::{
    limit::{Kind, Unit},
    verdict::{Layer, PortGroup, Reason, Verdict},
};
use limiter_user::{
    control::{
        audit::Audit,
        client::Client,
        node::{Node, NodeError},
        peer::Peer,
        server::{Limits, Server},
        socket,
    },
    offence,
    policy::model::Mode,
    report::{
        case::RecordStatus,
        event::{Endpoint, EventRecord},
        explain::{ExplainQuery, Explanation, Rule},
        faults::FaultReport,
        outcome::{CutOutcome, ObserveOutcome, ReinstateOutcome, ReloadOutcome, SanctionOutcome},
        problem::{Problem, Severity},
        status::{AgentInfo, LayerStatus, SanctionStatus, Standing, Status, TenantStatus, Usage},
        store::{EventFilter, History, Store, StoreOptions},
    },
};
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot};

/// A made-up node that keeps real events.
pub struct FakeNode {
    pub store: Store,
    pub live: broadcast::Sender<Arc<EventRecord>>,
    /// What it was asked to change, and by whom.
    pub changes: Mutex<Vec<(String, Peer)>>,
    /// What the next reloads find.
    pub faults: Mutex<VecDeque<FaultReport>>,
    pub problem: Mutex<Option<Problem>>,
    /// How many tenants it has.
    pub tenants: usize,
    /// How long it thinks about `status`.
    pub thinking: Duration,
}

impl FakeNode {
    /// Records an event as the agent does: first in the store, then to whoever follows.
    pub fn happen(&self, event: EventRecord) {
        let event = Arc::new(event);
        self.store.record(Arc::clone(&event));
        let _ = self.live.send(event);
    }
}

impl Node for FakeNode {
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError> {
        std::thread::sleep(self.thinking);
        let tenants: Vec<TenantStatus> = (0..self.tenants)
            .map(tenant_status)
            .filter(|t| tenant.is_none_or(|name| name == t.tenant))
            .collect();
        if let Some(name) = tenant
            && tenants.is_empty()
        {
            return Err(NodeError::UnknownTenant { name: name.into() });
        }
        let mut status = Status {
            node: "web-17".into(),
            mode: Mode::Enforce,
            observe_until: None,
            healthy: true,
            problems: self.problem.lock().unwrap().clone().into_iter().collect(),
            proposals: Vec::new(),
            bounces: None,
            mailing_lists: None,
            agent: Some(AgentInfo {
                pid: std::process::id(),
                since: Timestamp::now(),
                version: "0.1.0".into(),
            }),
            layers: vec![LayerStatus {
                layer: Layer::Connect,
                target: "/sys/fs/cgroup".into(),
                attached: true,
                how: "cgroup link".into(),
            }],
            tenants,
        };
        status.judge();
        Ok(status)
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError> {
        Ok(Explanation {
            subject: query.subject.to_string(),
            destination: query.to.into(),
            tenant: Some("alice".into()),
            matched_by: "uid 2001 (user alice)".into(),
            mta: false,
            ancestors: vec!["reseller-7".into()],
            layer: Layer::Connect,
            rule: Rule::DirectSmtp,
            because: "direct_smtp: block".into(),
            mode: Mode::Observe,
            observe_until: None,
            verdict: Verdict::WouldDeny,
            reason: Reason::DirectSmtp,
            enforced_verdict: Verdict::Denied,
            limits: Vec::new(),
            notes: Vec::new(),
            standing: Standing::Good,
            holds: Vec::new(),
            next: Vec::new(),
        })
    }

    fn history(&self, filter: &EventFilter) -> Result<History, NodeError> {
        Ok(self.store.history(filter)?)
    }

    fn follow(&self) -> Result<broadcast::Receiver<Arc<EventRecord>>, NodeError> {
        Ok(self.live.subscribe())
    }

    fn reload(&self, by: &Peer) -> Result<ReloadOutcome, NodeError> {
        self.changes
            .lock()
            .unwrap()
            .push(("reload".into(), by.clone()));
        let faults: Vec<FaultReport> = self.faults.lock().unwrap().drain(..).collect();
        Ok(ReloadOutcome {
            loaded: faults.is_empty(),
            summary: "2 tenants added".into(),
            faults,
        })
    }

    fn observe(
        &self,
        tenant: Option<&str>,
        duration: Option<Duration>,
        by: &Peer,
    ) -> Result<ObserveOutcome, NodeError> {
        let what = format!("observe {tenant:?} {duration:?}");
        self.changes.lock().unwrap().push((what, by.clone()));
        let until =
            duration.map(|duration| Timestamp::now() + SignedDuration::try_from(duration).unwrap());
        Ok(ObserveOutcome {
            tenant: tenant.map(str::to_owned),
            until,
        })
    }

    fn sanction(
        &self,
        tenant: &str,
        sanction: offence::Sanction,
        duration: Option<Duration>,
        _: &str,
        by: &Peer,
    ) -> Result<SanctionOutcome, NodeError> {
        if tenant.starts_with('(') {
            let what = "the node itself cannot be put under a sanction".into();
            return Err(NodeError::Invalid { what });
        }
        let what = format!("suspend {tenant} {} {duration:?}", sanction.as_str());
        self.changes.lock().unwrap().push((what, by.clone()));
        Ok(SanctionOutcome {
            tenant: tenant.into(),
            sanction,
            until: duration
                .map(|duration| Timestamp::now() + SignedDuration::try_from(duration).unwrap()),
            replaced: false,
            tenants: 2,
            opened_until: None,
            cut: Some(CutOutcome {
                sessions: 3,
                ..CutOutcome::default()
            }),
            unrecorded: None,
        })
    }

    fn reinstate(
        &self,
        tenant: &str,
        sanction: Option<offence::Sanction>,
        overriding: bool,
        _: &str,
        by: &Peer,
    ) -> Result<ReinstateOutcome, NodeError> {
        let what = format!("reinstate {tenant} {sanction:?} {overriding}");
        self.changes.lock().unwrap().push((what, by.clone()));
        // Of `t1` another one stays.
        let remaining = (tenant == "t1").then(|| SanctionStatus {
            sanction: limiter_user::report::status::Sanction::BlockSmtp,
            until: None,
            from: Some("reseller-7".into()),
        });
        Ok(ReinstateOutcome {
            dropped: Vec::new(),
            closed: Vec::new(),
            hints: Vec::new(),
            next: Vec::new(),
            tenant: tenant.into(),
            lifted: vec![offence::Sanction::SuspendNetwork],
            remaining: remaining.into_iter().collect(),
            unrecorded: None,
        })
    }
}

/// The `n`th tenant: the higher, the more was refused.
pub fn tenant_status(n: usize) -> TenantStatus {
    TenantStatus {
        tenant: format!("t{n}"),
        parent: None,
        mode: Mode::Enforce,
        observe_until: None,
        standing: Standing::Good,
        sanction: None,
        until: None,
        usage: vec![Usage {
            kind: Kind::Window,
            unit: Unit::Connections,
            max: 300,
            window: Some(limiter_user::report::duration::Seconds(
                Duration::from_secs(3600),
            )),
            every: None,
            used: 287,
            free_at: None,
            ports: vec![PortGroup::Smtp],
        }],
        allowed: 10,
        denied: n as u64,
        redirected: 0,
        would_deny: 0,
        held_mail: 0,
        sanctions: Vec::new(),
        record: RecordStatus::default(),
    }
}

/// An event of `tenant` now; `n` tells it from others.
pub fn event(tenant: &str, n: u64) -> EventRecord {
    EventRecord {
        time: Timestamp::now(),
        node: "web-17".into(),
        tenant: Some(tenant.into()),
        verdict: Verdict::Denied,
        reason: Reason::DirectSmtp,
        layer: Layer::Connect,
        uid: Some(2001),
        pid: Some(4711),
        comm: Some("php".into()),
        exe: Some("/usr/bin/php".into()),
        cwd: None,
        cgroup: None,
        interface: None,
        source: None,
        destination: Endpoint {
            address: "203.0.113.5".parse().unwrap(),
            port: Some(25),
        },
        limit: None,
        repeated: n,
        estimated: false,
    }
}

pub fn fault() -> FaultReport {
    FaultReport {
        severity: Severity::Error,
        file: "/etc/limiter/limiter.yaml".into(),
        line: Some(3),
        column: Some(7),
        problem: "limits[0].max: -5 is not a count".into(),
        allowed: "a whole number".into(),
    }
}

/// A server around a made-up node, and everything it needs.
pub struct Agent {
    pub node: Arc<FakeNode>,
    pub directory: TempDir,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Agent {
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    pub fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The lines of the audit log.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.state_dir().join("audit.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.take().unwrap().await.unwrap();
        assert!(!self.socket.exists(), "a stopped agent leaves no socket");
    }
}

/// Options of a made-up agent.
pub struct Setup {
    pub limits: Limits,
    pub tenants: usize,
    pub thinking: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            tenants: 3,
            thinking: Duration::ZERO,
        }
    }
}

/// Starts a server; must be called in a tokio runtime.
pub fn start(setup: Setup) -> Agent {
    let directory = tempfile::tempdir().unwrap();
    // Other users are to reach the socket in one of the tests.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let retention = Duration::from_secs(30 * 86_400);
    let node = Arc::new(FakeNode {
        store: Store::open(directory.path(), StoreOptions::new(retention)).unwrap(),
        live: broadcast::channel(1024).0,
        changes: Mutex::default(),
        faults: Mutex::default(),
        problem: Mutex::default(),
        tenants: setup.tenants,
        thinking: setup.thinking,
    });
    let socket = directory.path().join("control.sock");
    let bound = socket::bind(&socket).unwrap();
    let audit = Arc::new(Audit::new(directory.path()));
    let server = Server::new(node.clone(), audit, setup.limits);
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(bound, async {
        let _ = stopped.await;
    }));
    Agent {
        node,
        directory,
        socket,
        stop: Some(stop),
        served: Some(served),
    }
}
