//! What the commands ask of a node.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::broadcast;

use super::{
    peer::Peer,
    routes_clock::{ClockOutcome, ClockRequest},
    routes_complaints::ComplaintDesk,
    routes_court::{Added, CaseAction, Said},
    routes_watch::{WatchOutcome, WatchRequest},
};
use crate::inspect::record::CaseName;
use crate::offence::Sanction;
use crate::report::{
    case::{CaseDetails, CaseSummary, HeardOutcome, NoteOutcome},
    dossier::Dossier,
    event::EventRecord,
    explain::{ExplainQuery, Explanation},
    outcome::{ObserveOutcome, ReinstateOutcome, ReloadOutcome, SanctionOutcome},
    status::Status,
    store::{EventFilter, History},
};

/// What the commands ask of a node: answered by the running agent, or from pins and files when
/// none runs.
///
/// Every call may block: the server makes them outside its own threads.
pub trait Node: Send + Sync + 'static {
    /// The node as it is now, with all tenants or only the one named.
    ///
    /// # Errors
    /// [`NodeError::UnknownTenant`], and failures of the kernel.
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError>;

    /// What would become of a connection, and why.
    ///
    /// # Errors
    /// A subject that does not exist, and failures of the kernel.
    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError>;

    /// The recorded events that `filter` lets through, oldest first, everything recorded before
    /// this call included.
    ///
    /// # Errors
    /// A history that cannot be read.
    fn history(&self, filter: &EventFilter) -> Result<History, NodeError>;

    /// The events from now on. Each is recorded (so that [`history`](Self::history) tells of it)
    /// before it is sent here.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`].
    fn follow(&self) -> Result<broadcast::Receiver<Arc<EventRecord>>, NodeError> {
        Err(NodeError::NeedsAgent {
            doing: "events --follow",
        })
    }

    /// Reads the files again: all or nothing.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], and failures of the kernel. Faults of the files are no error
    /// here: the outcome carries them.
    fn reload(&self, by: &Peer) -> Result<ReloadOutcome, NodeError> {
        let _ = by;
        Err(NodeError::NeedsAgent { doing: "reload" })
    }

    /// Refuses nothing (of `tenant`) for `duration`, from 1 second to 31 days; `None` ends it now.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], [`NodeError::UnknownTenant`], and failures of the kernel.
    fn observe(
        &self,
        tenant: Option<&str>,
        duration: Option<Duration>,
        by: &Peer,
    ) -> Result<ObserveOutcome, NodeError> {
        let _ = (tenant, duration, by);
        Err(NodeError::NeedsAgent { doing: "observe" })
    }

    /// Puts a tenant and everybody below it under a sanction for `duration`; `None`: without end.
    /// It is in force, and live sessions are cut, when this returns.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], [`NodeError::UnknownTenant`], [`NodeError::Invalid`] for who
    /// cannot be sanctioned and for durations that make no sense, and failures of the kernel.
    fn sanction(
        &self,
        tenant: &str,
        sanction: Sanction,
        duration: Option<Duration>,
        reason: &str,
        by: &Peer,
    ) -> Result<SanctionOutcome, NodeError> {
        let _ = (tenant, sanction, duration, reason, by);
        Err(NodeError::NeedsAgent { doing: "suspend" })
    }

    /// Says that a tenant was looked at and is in order: lifts what its policies let that lift, and
    /// operators' own sanctions, or one of them. If `overriding`, everything is lifted, or all that
    /// makes the tenant suffer this one.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], [`NodeError::UnknownTenant`], [`NodeError::Invalid`] for who
    /// cannot be under any, and failures of the kernel.
    fn reinstate(
        &self,
        tenant: &str,
        sanction: Option<Sanction>,
        overriding: bool,
        reason: &str,
        by: &Peer,
    ) -> Result<ReinstateOutcome, NodeError> {
        let _ = (tenant, sanction, overriding, reason, by);
        Err(NodeError::NeedsAgent { doing: "reinstate" })
    }

    /// Hears a person's word about a tenant: what follows is in force when this returns.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], [`NodeError::UnknownTenant`], and a record book that cannot be
    /// written: then it was not said. So for all that people bring before the court.
    fn word(
        &self,
        tenant: &str,
        word: Said,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let _ = (tenant, word, reason, by);
        Err(NodeError::NeedsAgent { doing: "saying so" })
    }

    /// Adds to a tenant's record what the node cannot see.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    fn offence(
        &self,
        tenant: &str,
        added: &Added,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let _ = (tenant, added, reason, by);
        Err(NodeError::NeedsAgent {
            doing: "offence add",
        })
    }

    /// Declares the wall clock right: downtime that was not credited is.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    fn settle(&self, reason: &str, by: &Peer) -> Result<(), NodeError> {
        let _ = (reason, by);
        Err(NodeError::NeedsAgent {
            doing: "settle-clock",
        })
    }

    /// Cases, oldest first: of all or of one tenant; the open ones only, unless `all`.
    ///
    /// # Errors
    /// [`NodeError::UnknownTenant`] for whom nothing is known of, and a record book that cannot be
    /// read.
    fn cases(&self, tenant: Option<&str>, all: bool) -> Result<Vec<CaseSummary>, NodeError> {
        let _ = (tenant, all);
        Err(NodeError::NeedsAgent { doing: "case list" })
    }

    /// One case, whole.
    ///
    /// # Errors
    /// As [`cases`](Self::cases), and [`NodeError::NotFound`].
    fn case(&self, tenant: &str, case: &CaseName) -> Result<CaseDetails, NodeError> {
        let _ = (tenant, case);
        Err(NodeError::NeedsAgent { doing: "case show" })
    }

    /// Writes a note beside a case.
    ///
    /// # Errors
    /// As [`word`](Self::word), and [`NodeError::NotFound`].
    fn note(
        &self,
        tenant: &str,
        case: &CaseName,
        text: &str,
        by: &Peer,
    ) -> Result<NoteOutcome, NodeError> {
        let _ = (tenant, case, text, by);
        Err(NodeError::NeedsAgent { doing: "case note" })
    }

    /// Confirms, rejects or closes; not for notes.
    ///
    /// # Errors
    /// As [`word`](Self::word), [`NodeError::NotFound`], and [`NodeError::Refused`] where the case
    /// is not in such a state, or more would be touched than was named.
    fn act(
        &self,
        tenant: &str,
        case: &CaseName,
        action: &CaseAction,
        reason: &str,
        by: &Peer,
    ) -> Result<HeardOutcome, NodeError> {
        let _ = (tenant, case, reason, by);
        Err(NodeError::NeedsAgent {
            doing: action.as_str(),
        })
    }

    /// The evidence report of a tenant over the last `span`, made by `by`.
    ///
    /// # Errors
    /// As [`cases`](Self::cases).
    fn dossier(&self, tenant: &str, span: Duration, by: &Peer) -> Result<Dossier, NodeError> {
        let _ = (tenant, span, by);
        Err(NodeError::NeedsAgent { doing: "report" })
    }

    /// Whoever takes reports of abuse in.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], and an agent without a record book.
    fn complaints(&self) -> Result<&dyn ComplaintDesk, NodeError> {
        Err(NodeError::NeedsAgent { doing: "complaint" })
    }

    /// Looks out for whether mail programs ask, or says who did.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], and [`NodeError::Invalid`] for too many at once.
    fn watch(&self, request: &WatchRequest) -> Result<WatchOutcome, NodeError> {
        let _ = request;
        Err(NodeError::NeedsAgent { doing: "mta check" })
    }

    /// Whether a test may put the clocks forward.
    fn simulates_clock(&self) -> bool {
        false
    }

    /// Puts the clocks forward, for tests.
    ///
    /// # Errors
    /// [`NodeError::NeedsAgent`], [`NodeError::Invalid`] where nothing is simulated or for too much,
    /// and failures of the kernel.
    fn set_clock(&self, request: &ClockRequest) -> Result<ClockOutcome, NodeError> {
        let _ = request;
        Err(NodeError::NeedsAgent { doing: "clock" })
    }
}

/// Why a node does not answer.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Only a running agent can do it.
    #[error("{doing} needs a running agent")]
    NeedsAgent {
        /// The command.
        doing: &'static str,
    },
    /// No tenant has this name.
    #[error("there is no tenant {name:?}")]
    UnknownTenant {
        /// The name.
        name: String,
    },
    /// What was asked about does not exist: a process, a cgroup, an interface.
    #[error("{what}")]
    NotFound {
        /// `process 4711 does not exist`.
        what: String,
    },
    /// The question makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it, and what is allowed.
        what: String,
    },
    /// It makes sense, and cannot be done as things stand.
    #[error("{what}")]
    Refused {
        /// Why not.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// Something failed.
    #[error("{what}")]
    Failed {
        /// What failed, where, and why.
        what: String,
        /// What to do.
        remedy: String,
    },
}

impl NodeError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NeedsAgent { .. } => "start it: systemctl start limiter".to_owned(),
            Self::UnknownTenant { .. } => {
                "`limiter status --all` lists them; was its file loaded (`limiter check`)?"
                    .to_owned()
            }
            Self::NotFound { .. } => "ask about one that exists now".to_owned(),
            Self::Invalid { .. } => "`limiter COMMAND --help` says what it takes".to_owned(),
            Self::Refused { remedy, .. } | Self::Failed { remedy, .. } => remedy.clone(),
        }
    }
}

impl From<crate::report::store::StoreError> for NodeError {
    fn from(error: crate::report::store::StoreError) -> Self {
        Self::Failed {
            what: error.to_string(),
            remedy: "look at state_dir: its owner, its free space".to_owned(),
        }
    }
}
