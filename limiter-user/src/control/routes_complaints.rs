//! The paths for reports of abuse.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use serde::{Deserialize, Serialize};
use tokio::time;

use super::{
    client::{Client, ClientError},
    node::NodeError,
    peer::Peer,
    query::{self, Query, invalid},
    reply,
    routes::{Answer, blocking, body, record, stated},
    server::{Connection, Server},
};
use crate::report::complaint::{
    ComplaintDetails, ComplaintOutcome, ComplaintState, ComplaintSummary,
};

/// `POST` a report as it came (bytes, no JSON): [`ComplaintOutcome`]. `GET`: [`ComplaintSummary`]s,
/// newest first, at most a thousand. Parameters: `state` (`waiting` stands for all that wait for a
/// person), `tenant`.
pub const COMPLAINTS: &str = "/v1/complaints";
/// `GET`: [`ComplaintDetails`]. Parameters: `id`, or as much of its beginning as is unique.
pub const COMPLAINT: &str = "/v1/complaint";
/// `POST` a [`ComplaintRequest`]: [`ComplaintOutcome`].
pub const COMPLAINT_SAY: &str = "/v1/complaint/say";

/// How long a report may take to come in.
const REPORT_TIME: Duration = Duration::from_secs(30);

/// What a person says of a report of abuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComplaintRequest {
    /// Of which: its id, or as much of its beginning as is unique.
    pub id: String,
    /// What.
    pub say: ComplaintWord,
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// What a person can say of a report of abuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplaintWord {
    /// It is about this tenant's mail, and counts.
    Assign {
        /// The tenant.
        tenant: String,
    },
    /// Nothing is to be done.
    Dismiss,
    /// This was done about it: acknowledge, act, answer.
    Handled {
        /// The clock that stops.
        clock: String,
    },
}

impl ComplaintWord {
    /// The command, as the audit log names it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Assign { .. } => "complaint assign",
            Self::Dismiss => "complaint dismiss",
            Self::Handled { .. } => "complaint handled",
        }
    }
}

/// Which reports of abuse are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComplaintFilter {
    /// Those in these states; empty: all.
    pub states: Vec<ComplaintState>,
    /// Those about this tenant.
    pub tenant: Option<String>,
}

/// Whoever takes reports of abuse in. Every call may block.
pub trait ComplaintDesk: Send + Sync {
    /// The longest report that is read, bytes.
    fn most_bytes(&self) -> usize;

    /// Takes in a report that a person hands over. What is wrong with the report is in the outcome.
    ///
    /// # Errors
    /// It cannot be kept.
    fn hand_in(&self, bytes: &[u8], by: &Peer) -> Result<ComplaintOutcome, NodeError>;

    /// Reports, newest first.
    ///
    /// # Errors
    /// The record book cannot be read.
    fn list(&self, filter: &ComplaintFilter) -> Result<Vec<ComplaintSummary>, NodeError>;

    /// One report.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], and a record book that cannot be read.
    fn show(&self, id: &str) -> Result<ComplaintDetails, NodeError>;

    /// Hears what a person says of a report.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::UnknownTenant`], [`NodeError::Invalid`] where it makes
    /// no sense in the report's state; it cannot be recorded.
    fn say(
        &self,
        id: &str,
        word: &ComplaintWord,
        reason: &str,
        by: &Peer,
    ) -> Result<ComplaintOutcome, NodeError>;
}

/// The methods of a path, if it is one of these.
pub(super) fn methods(path: &str) -> Option<&'static [Method]> {
    match path {
        COMPLAINTS => Some(&[Method::GET, Method::POST]),
        COMPLAINT => Some(&[Method::GET]),
        COMPLAINT_SAY => Some(&[Method::POST]),
        _ => None,
    }
}

pub(super) async fn answer(
    server: &Server,
    connection: &Connection,
    request: Request<Incoming>,
) -> Answer {
    match (request.uri().path(), request.method()) {
        (COMPLAINTS, &Method::POST) => hand_in(server, connection, request).await,
        (COMPLAINTS, _) => list(server, connection, &request).await,
        (COMPLAINT, _) => show(server, connection, &request).await,
        _ => say(server, connection, request).await,
    }
}

async fn hand_in(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    Query::parse(request.uri().query())?.finish()?;
    // A report is kept in memory: only so many are at once.
    let turn = server.gate.heavy.clone().acquire_owned().await;
    let most = server.node.complaints()?.most_bytes();
    let read = Limited::new(request.into_body(), most).collect();
    let collected = time::timeout(REPORT_TIME, read)
        .await
        .map_err(|_| invalid("the report took too long"))?
        .map_err(|error| invalid(format!("the report, of at most {most} bytes: {error}")))?;
    let bytes: Bytes = collected.to_bytes();
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let _held = turn;
        let by = Peer::look(uid, pid);
        let outcome = server.node.complaints()?.hand_in(&bytes, &by);
        let arguments = serde_json::json!({ "bytes": bytes.len() });
        record(server, by, "complaint", &arguments, None, said(&outcome));
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

async fn list(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let states = match query.text("state").as_deref() {
        None => Vec::new(),
        Some("waiting") => ComplaintState::WAITING.to_vec(),
        Some(word) => match ComplaintState::of(word) {
            Some(state) => vec![state],
            None => {
                let all = ComplaintState::ALL.map(ComplaintState::as_str).join(", ");
                return Err(invalid(format!("state: one of waiting, {all}")));
            }
        },
    };
    let filter = ComplaintFilter {
        states,
        tenant: query.tenant()?,
    };
    query.finish()?;
    blocking(server, connection, true, move |server| {
        let found = server.node.complaints()?.list(&filter)?;
        Ok(reply::json(StatusCode::OK, &found))
    })
    .await
}

async fn show(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let id = query.text("id");
    query.finish()?;
    let id = id.ok_or_else(|| invalid("id must be given"))?;
    blocking(server, connection, true, move |server| {
        let found = server.node.complaints()?.show(&id)?;
        Ok(reply::json(StatusCode::OK, &found))
    })
    .await
}

async fn say(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: ComplaintRequest = body(server, request).await?;
    let reason = stated(&request.reason)?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let desk = server.node.complaints()?;
        let outcome = desk.say(&request.id, &request.say, &reason, &by);
        let action = request.say.as_str();
        let arguments = serde_json::json!({ "id": request.id, "say": request.say });
        record(server, by, action, &arguments, Some(reason), said(&outcome));
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

/// What the audit log says of it.
fn said(outcome: &Result<ComplaintOutcome, NodeError>) -> Result<String, String> {
    match outcome {
        Ok(outcome) => {
            let whom = outcome.tenant.as_deref().unwrap_or("nobody");
            let (id, state) = (&outcome.id, outcome.state.as_str());
            Ok(format!("{id}: {state}, about {whom}: {}", outcome.why))
        }
        Err(error) => Err(error.to_string()),
    }
}

impl Client {
    /// Hands a report of abuse in, as it came.
    ///
    /// # Errors
    /// [`ClientError`]. What is wrong with the report is in the outcome.
    pub async fn hand_in(&self, report: Vec<u8>) -> Result<ComplaintOutcome, ClientError> {
        let answer = self.ask(Method::POST, COMPLAINTS, "", Some(report)).await?;
        self.read(answer).await
    }

    /// Reports of abuse, newest first; `state` is a word, or `waiting`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn complaints(
        &self,
        state: Option<&str>,
        tenant: Option<&str>,
    ) -> Result<Vec<ComplaintSummary>, ClientError> {
        let query = query::write(&[("state", state), ("tenant", tenant)]);
        self.get(COMPLAINTS, &query).await
    }

    /// A report of abuse.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn complaint(&self, id: &str) -> Result<ComplaintDetails, ClientError> {
        self.get(COMPLAINT, &query::write(&[("id", Some(id))]))
            .await
    }

    /// Says something of a report of abuse.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn say_of_complaint(
        &self,
        request: &ComplaintRequest,
    ) -> Result<ComplaintOutcome, ClientError> {
        self.post(COMPLAINT_SAY, request).await
    }
}
