//! The running agent's answers on the control socket.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use limiter_common::sanction::Sanction;
use log::info;
use tokio::sync::{broadcast, mpsc};

use super::{
    AgentError, boot,
    chambers::Door,
    clerk::Errands,
    stages::Stages,
    state::{Shared, Trouble, bad_files},
};
use crate::{
    control::{
        audit::Audit,
        node::{Node, NodeError},
        peer::Peer,
        routes_clock::{ClockOutcome, ClockRequest},
        routes_complaints::ComplaintDesk,
        routes_court::{Added, CaseAction, Said},
        routes_watch::{WatchOutcome, WatchRequest},
    },
    inspect::record::{
        CaseName, add_to_explanation, add_to_status,
        stranded::{self, Stranded},
    },
    kernel::clock,
    ledger::held_counts,
    offence,
    policy::Kept,
    report::{
        case::{CaseDetails, CaseSummary, HeardOutcome, NoteOutcome},
        dossier::Dossier,
        duration::Seconds,
        event::EventRecord,
        explain::{ExplainQuery, Explanation},
        faults::FaultReport,
        outcome::{CutOutcome, ObserveOutcome, ReinstateOutcome, ReloadOutcome, SanctionOutcome},
        problem::Problem,
        status::{AgentInfo, Status},
        store::{EventFilter, History, Reader, Store},
    },
    system::{Sources, patience},
};

/// How long whoever looks waits for the record book.
const GLANCE: Duration = Duration::from_secs(3);

/// The running agent, as the commands see it.
pub struct LiveNode {
    pub(super) shared: Shared,
    pub(super) config: PathBuf,
    /// What was read of the tenant files last. One reload at a time.
    pub(super) kept: Mutex<Kept>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) audit: OnceLock<Arc<Audit>>,
    pub(super) follow: broadcast::Sender<Arc<EventRecord>>,
    pub(super) since: Timestamp,
    /// Tells the main loop that the policy changed, so that it watches the right things.
    pub(super) policy_changed: mpsc::UnboundedSender<()>,
    /// Cuts live sessions of whoever was sanctioned.
    pub(super) cutter: Arc<dyn Cutter>,
    /// The court and whoever works for it; closed as long as the record book cannot be opened.
    pub(super) door: Arc<Door>,
}

/// Cuts the live sessions of tenants that were just sanctioned.
pub trait Cutter: Send + Sync {
    /// Cuts what `sanction` forbids to the tenants with these indices: `tenant` and everybody below
    /// it. The sanction is in force already, and the agent's state is not locked.
    fn cut(&self, tenant: &str, sanction: Sanction, affected: &[u32]) -> CutOutcome;
}

impl LiveNode {
    /// Reads the files again, all or nothing.
    pub(super) fn reload_files(&self) -> Result<ReloadOutcome, AgentError> {
        let sources = Sources::find()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let read = boot::read(&self.config, &sources, &mut kept)?;
        let mut state = self.shared.lock();
        match read {
            Ok(ready) => {
                let mut faults: Vec<FaultReport> =
                    ready.faults.iter().map(FaultReport::from).collect();
                let (changes, keeping) = state.adopt(ready)?;
                drop(kept);
                let mut summary = changes.to_string();
                if let Some(restart) = state.needs_restart() {
                    summary = format!("{summary}; but {restart}");
                }
                drop(state);
                let mut stages = Stages::begin("reload");
                info!("reloaded: {changes}");
                let stranded = self.stranded();
                stages.done("looking who is stranded");
                let kept = keeping.finish();
                self.shared.lock().say_kept(kept);
                stages.done("keeping the last good policy");
                let warnings = stranded::warnings(&stranded, &self.config);
                boot::say_warnings(&warnings);
                faults.extend(warnings.iter().map(FaultReport::from));
                // The main loop may be stopping.
                let _ = self.policy_changed.send(());
                Ok(ReloadOutcome {
                    loaded: true,
                    faults,
                    summary,
                })
            }
            Err(faults) => {
                state.trouble(Trouble::Configuration, bad_files(&faults));
                Ok(ReloadOutcome {
                    loaded: false,
                    faults: faults.iter().map(FaultReport::from).collect(),
                    summary: "nothing was changed: the policy in force stays".to_owned(),
                })
            }
        }
    }
}

impl LiveNode {
    /// Who has something open on record, and is no tenant.
    fn stranded(&self) -> Vec<Stranded> {
        let Some(judiciary) = self.door.judiciary() else {
            return Vec::new();
        };
        // The court's lock comes first, as everywhere.
        judiciary.court.study(|study| {
            let state = self.shared.lock();
            stranded::stranded(study.records, state.image.names())
        })
    }
}

impl Node for LiveNode {
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError> {
        let (mut status, state_dir) = {
            let state = self.shared.lock();
            let mut status = state.view().status(tenant, &state.layers())?;
            status.problems.extend(state.problems());
            status.problems.extend(state.other_limiters());
            (status, state.state_dir())
        };
        let chambers = self.door.chambers();
        let hangs = chambers.is_some_and(|it| it.judiciary.court.is_hanging());
        let held = if hangs {
            None
        } else {
            patience::within(GLANCE, move || held_counts(&state_dir))
        };
        if let Some(Ok(counts)) = &held {
            status.count_held_mail(counts);
        }
        status.agent = Some(AgentInfo {
            pid: std::process::id(),
            since: self.since,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let late = self.door.errands().and_then(Errands::problem);
        status.problems.extend(late);
        if let Some(chambers) = chambers {
            let court = &chambers.judiciary.court;
            let problems = court.problems();
            if let (Some(Err(error)), true) = (&held, problems.is_empty()) {
                // The court may not have noticed: it remembers most of what it reads.
                status.problems.push(Problem::error(
                    format!("the record book cannot be read: {error}"),
                    error.remedy(),
                ));
            }
            status.problems.extend(problems);
            let one = tenant.is_some();
            court.study(|study| add_to_status(&mut status, study, one));
            if !one {
                status.problems.extend(stranded::problem(&self.stranded()));
            }
            let found = (chambers.health)().problems().into_iter();
            status.problems.extend(found.map(|problem| {
                Problem::warning(
                    problem,
                    "`limiter case show` says what waits; mend the way there",
                )
            }));
            status.problems.extend(chambers.desk.problems());
            let bounces = chambers.bounces.lock();
            status.bounces = bounces.unwrap_or_else(PoisonError::into_inner).clone();
            let lists = chambers.lists.lock();
            status.mailing_lists = lists.unwrap_or_else(PoisonError::into_inner).clone();
        }
        if let Some(store) = &self.store {
            status.problems.extend(store.problems());
        }
        status
            .problems
            .extend(self.audit.get().and_then(|audit| audit.problem()));
        status.judge();
        Ok(status)
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError> {
        let mut answer = self.shared.lock().view().explain(query)?;
        if let Some(judiciary) = self.door.judiciary() {
            judiciary
                .court
                .study(|study| add_to_explanation(&mut answer, study));
        }
        Ok(answer)
    }

    fn history(&self, filter: &EventFilter) -> Result<History, NodeError> {
        match &self.store {
            Some(store) => Ok(store.history(filter)?),
            None => {
                let state_dir = self.shared.lock().policy.places.state_dir.clone();
                Ok(Reader::new(&state_dir).history(filter)?)
            }
        }
    }

    fn follow(&self) -> Result<broadcast::Receiver<Arc<EventRecord>>, NodeError> {
        Ok(self.follow.subscribe())
    }

    fn reload(&self, _: &Peer) -> Result<ReloadOutcome, NodeError> {
        self.reload_files().map_err(|error| NodeError::Failed {
            what: error.to_string(),
            remedy: "the policy in force stays; mend it, then `limiter reload`".to_owned(),
        })
    }

    fn observe(
        &self,
        tenant: Option<&str>,
        duration: Option<Duration>,
        by: &Peer,
    ) -> Result<ObserveOutcome, NodeError> {
        let until = self
            .shared
            .lock()
            .observe(tenant, duration)
            .map_err(|error| NodeError::Failed {
                what: error.to_string(),
                remedy: "`limiter doctor` says what is missing".to_owned(),
            })?
            .ok_or_else(|| NodeError::UnknownTenant {
                name: tenant.unwrap_or_default().to_owned(),
            })?;
        let whom = tenant.unwrap_or("the whole node");
        match duration {
            Some(duration) => info!("{by} observes {whom} for {} s", duration.as_secs()),
            None => info!("{by} ends observing {whom}"),
        }
        let until = duration.map(|_| clock::wall_time(until));
        Ok(ObserveOutcome {
            tenant: tenant.map(ToOwned::to_owned),
            until: until.and_then(|time| Timestamp::try_from(time).ok()),
        })
    }

    fn sanction(
        &self,
        tenant: &str,
        sanction: offence::Sanction,
        duration: Option<Duration>,
        reason: &str,
        by: &Peer,
    ) -> Result<SanctionOutcome, NodeError> {
        self.suspend(tenant, sanction, duration, reason, by)
    }

    fn reinstate(
        &self,
        tenant: &str,
        sanction: Option<offence::Sanction>,
        overriding: bool,
        reason: &str,
        by: &Peer,
    ) -> Result<ReinstateOutcome, NodeError> {
        self.lift(tenant, sanction, overriding, reason, by)
    }

    fn word(
        &self,
        tenant: &str,
        word: Said,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        self.say(tenant, word, reason, by)
    }

    fn offence(
        &self,
        tenant: &str,
        added: &Added,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        self.add_offence(tenant, added, reason, by)
    }

    fn settle(&self, reason: &str, by: &Peer) -> Result<(), NodeError> {
        self.settle_clock(reason, by)
    }

    fn cases(&self, tenant: Option<&str>, all: bool) -> Result<Vec<CaseSummary>, NodeError> {
        self.list_cases(tenant, all)
    }

    fn case(&self, tenant: &str, case: &CaseName) -> Result<CaseDetails, NodeError> {
        self.show_case(tenant, case)
    }

    fn note(
        &self,
        tenant: &str,
        case: &CaseName,
        text: &str,
        by: &Peer,
    ) -> Result<NoteOutcome, NodeError> {
        self.add_note(tenant, case, text, by)
    }

    fn act(
        &self,
        tenant: &str,
        case: &CaseName,
        action: &CaseAction,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        self.act_on(tenant, case, action, reason, by)
    }

    fn dossier(&self, tenant: &str, span: Duration, by: &Peer) -> Result<Dossier, NodeError> {
        self.make_dossier(tenant, span, by)
    }

    fn complaints(&self) -> Result<&dyn ComplaintDesk, NodeError> {
        self.judiciary()?;
        match self.door.chambers() {
            Some(chambers) => Ok(&*chambers.desk),
            None => Err(NodeError::NeedsAgent { doing: "complaint" }),
        }
    }

    fn watch(&self, request: &WatchRequest) -> Result<WatchOutcome, NodeError> {
        let (watch, shut) = {
            let state = self.shared.lock();
            (Arc::clone(&state.watch), state.shut_doors())
        };
        let sign = match &request.sign {
            Some(sign) => sign.clone(),
            None => watch
                .arm(request.account.as_deref())
                .ok_or_else(|| NodeError::Invalid {
                    what: "too many checks at once; wait half a minute".to_owned(),
                })?,
        };
        Ok(WatchOutcome {
            seen: if request.end {
                watch.disarm(&sign)
            } else {
                watch.seen(&sign)
            },
            sign,
            shut,
        })
    }

    fn simulates_clock(&self) -> bool {
        self.shared.lock().clock.is_simulated()
    }

    fn set_clock(&self, request: &ClockRequest) -> Result<ClockOutcome, NodeError> {
        let mut state = self.shared.lock();
        if !state.clock.is_simulated() {
            let what = "the clock is the machine's".to_owned();
            return Err(NodeError::Invalid { what });
        }
        let advanced = state
            .advance_clock(request.advance.map_or(Duration::ZERO, |Seconds(by)| by))
            .map_err(|error| NodeError::Failed {
                what: error.to_string(),
                remedy: "`limiter doctor` says what is missing".to_owned(),
            })?;
        if !advanced {
            let what = "advance: no more than 50 years in all".to_owned();
            return Err(NodeError::Invalid { what });
        }
        state.clock.pretend(request.wall, request.trusted);
        Ok(ClockOutcome {
            ahead: Seconds(Duration::from_nanos(clock::offset_ns())),
            now: clock::timestamp(),
        })
    }
}
