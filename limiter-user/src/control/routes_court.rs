//! The paths by which people speak to the court, and look at its records.

use std::{str::FromStr, time::Duration};

use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use limiter_common::abi::MAX_TENANT_NAME;
use serde::{Deserialize, Serialize};

use super::{
    node::NodeError,
    peer::Peer,
    query::{Query, invalid},
    reply::{self, Body},
    routes::{Answer, blocking, body, record, stated},
    server::{Connection, Server},
};
use crate::{
    inspect::record::CaseName,
    offence::{Sanction, Severity},
    report::case::HeardOutcome,
};

/// `GET`: [`CaseSummary`](crate::report::case::CaseSummary)s. Parameters: `tenant`, `all` (`true`:
/// closed ones too). `POST` a [`CaseRequest`]: [`HeardOutcome`], of a note
/// [`NoteOutcome`](crate::report::case::NoteOutcome).
pub const CASES: &str = "/v1/cases";
/// `GET`: [`CaseDetails`](crate::report::case::CaseDetails). Parameters: `tenant`, `case`.
pub const CASE: &str = "/v1/case";
/// `POST` a [`WordRequest`]: [`HeardOutcome`].
pub const WORDS: &str = "/v1/words";
/// `POST` an [`OffenceRequest`]: [`HeardOutcome`].
pub const OFFENCES: &str = "/v1/offences";
/// `POST` a [`SettleRequest`]: `{}`.
pub const SETTLE: &str = "/v1/settle";
/// `GET`: [`Dossier`](crate::report::dossier::Dossier). Parameters: `tenant`, `for` (seconds back
/// from now).
pub const REPORT: &str = "/v1/report";

/// The longest text that a person may hand in, in bytes.
const LONGEST_TEXT: usize = 4_096;
/// What a report tells of unless it is asked for more.
pub const USUAL_REPORT: Duration = Duration::from_secs(30 * 86_400);
/// The most bounces that are handed in at once.
const MOST_BOUNCES: u64 = 1_000_000_000;

/// What is said about a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The owner was spoken to.
    Contact,
    /// The owner acknowledged what must be done.
    Acknowledgement,
    /// Everything is lifted, and was wrong: what is open never counts.
    Acquit,
}

impl Said {
    /// The word in JSON and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Acknowledgement => "acknowledgement",
            Self::Acquit => "acquit",
        }
    }
}

/// What `contact` and `acknowledge` send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordRequest {
    /// About whom.
    pub tenant: String,
    /// What.
    pub word: Said,
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// What an operator adds to a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Added {
    /// An offence, so grave.
    Severity(Severity),
    /// An address of the provider was blacklisted.
    Listing {
        /// The list.
        list: String,
        /// The address.
        address: std::net::IpAddr,
        /// What tells it from an earlier listing of the same address: a date, a ticket.
        #[serde(default)]
        incident: Option<String>,
        /// Also an address of which this node does not know that it is a tenant's or its own.
        #[serde(default)]
        force: bool,
    },
    /// Mail came back.
    Bounces {
        /// Permanent failures.
        #[serde(default)]
        hard: u64,
        /// Others.
        #[serde(default)]
        soft: u64,
    },
}

/// What `offence add` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffenceRequest {
    /// Whose.
    pub tenant: String,
    /// What.
    pub added: Added,
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// What is done to a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CaseAction {
    /// The reason is written down beside it, nothing else.
    Note,
    /// What waits is carried out.
    Confirm(Option<Sanction>),
    /// What waits is not carried out.
    Reject(Option<Sanction>),
    /// It is ended.
    Close {
        /// How.
        how: Closing,
        /// Also what else the word holds for: the tenant's other open cases, and operators' own
        /// sanctions.
        #[serde(default)]
        others: bool,
    },
}

/// How a case is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// It was looked at and is in order: what its rules let a review lift is lifted. It counts.
    Review,
    /// Everything is lifted, against its rules if need be. It counts.
    Override,
    /// It was wrong: everything is lifted, and it never counts.
    Acquit,
}

/// What `case note | confirm | reject | close` send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// Whose.
    pub tenant: String,
    /// Which: `POLICY/N`.
    pub case: String,
    /// What.
    pub action: CaseAction,
    /// Why, in the person's words; of a note, the note. Not empty.
    pub reason: String,
}

/// What `settle-clock` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// Nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// The paths of the court.
pub(super) const ALL: [&str; 6] = [CASES, CASE, WORDS, OFFENCES, SETTLE, REPORT];

impl CaseAction {
    /// The command.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Note => "case note",
            Self::Confirm(_) => "case confirm",
            Self::Reject(_) => "case reject",
            Self::Close { .. } => "case close",
        }
    }
}

/// What may be done at a path of the court.
pub(super) fn methods(path: &str) -> Option<&'static [Method]> {
    match path {
        CASE | REPORT => Some(&[Method::GET]),
        CASES => Some(&[Method::GET, Method::POST]),
        WORDS | OFFENCES | SETTLE => Some(&[Method::POST]),
        _ => None,
    }
}

/// Answers one request at such a path.
pub(super) async fn answer(
    server: &Server,
    connection: &Connection,
    request: Request<Incoming>,
) -> Answer {
    let read = *request.method() == Method::GET;
    match request.uri().path() {
        CASES if read => list(server, connection, &request).await,
        CASES => act(server, connection, request).await,
        CASE => show(server, connection, &request).await,
        WORDS => word(server, connection, request).await,
        OFFENCES => offence(server, connection, request).await,
        SETTLE => settle(server, connection, request).await,
        _ => report(server, connection, &request).await,
    }
}

async fn list(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let tenant = query.tenant()?;
    let all = query.value("all")?.unwrap_or(false);
    query.finish()?;
    blocking(server, connection, true, move |server| {
        let cases = server.node.cases(tenant.as_deref(), all)?;
        Ok(reply::json(StatusCode::OK, &cases))
    })
    .await
}

async fn show(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let tenant = of_whom(query.tenant()?)?;
    let case = query.text("case").unwrap_or_default();
    query.finish()?;
    let case = named(&case)?;
    blocking(server, connection, true, move |server| {
        let details = server.node.case(&tenant, &case)?;
        Ok(reply::json(StatusCode::OK, &details))
    })
    .await
}

async fn report(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let tenant = of_whom(query.tenant()?)?;
    let seconds: Option<u64> = query.value("for")?;
    query.finish()?;
    let span = seconds.map_or(USUAL_REPORT, Duration::from_secs);
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, true, move |server| {
        let by = Peer::look(uid, pid);
        let dossier = server.node.dossier(&tenant, span, &by)?;
        Ok(reply::json(StatusCode::OK, &dossier))
    })
    .await
}

async fn word(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: WordRequest = body(server, request).await?;
    let reason = told(&request.reason)?;
    short("tenant", &request.tenant, MAX_TENANT_NAME)?;
    let arguments = serde_json::json!({"tenant": request.tenant});
    let action = match request.word {
        Said::Contact => "contact",
        Said::Acknowledgement => "acknowledge",
        Said::Acquit => "acquit",
    };
    heard(server, connection, action, arguments, reason, {
        move |server, reason, by| server.node.word(&request.tenant, request.word, reason, by)
    })
    .await
}

async fn offence(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: OffenceRequest = body(server, request).await?;
    let reason = told(&request.reason)?;
    short("tenant", &request.tenant, MAX_TENANT_NAME)?;
    match &request.added {
        Added::Listing { list, incident, .. } => {
            let list = list.trim();
            if list.is_empty() || list.chars().any(char::is_control) {
                return Err(invalid("list: the name of a blacklist, such as spamhaus"));
            }
            short("list", list, 256)?;
            short("incident", incident.as_deref().unwrap_or_default(), 256)?;
        }
        Added::Bounces { hard, soft } if hard.saturating_add(*soft) == 0 => {
            return Err(invalid("bounces: none of them would be nothing"));
        }
        Added::Bounces { hard, soft } if hard.max(soft) > &MOST_BOUNCES => {
            return Err(invalid(format!("bounces: at most {MOST_BOUNCES} at once")));
        }
        Added::Bounces { .. } | Added::Severity(_) => {}
    }
    let arguments = serde_json::json!({"tenant": request.tenant, "added": request.added});
    heard(server, connection, "offence add", arguments, reason, {
        move |server, reason, by| {
            server
                .node
                .offence(&request.tenant, &request.added, reason, by)
        }
    })
    .await
}

async fn settle(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: SettleRequest = body(server, request).await?;
    let reason = told(&request.reason)?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = server.node.settle(&reason, &by);
        let said = match &outcome {
            Ok(()) => Ok("the wall clock is right".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        record(server, by, "settle-clock", &(), Some(reason), said);
        outcome?;
        Ok(reply::json(StatusCode::OK, &Done {}))
    })
    .await
}

async fn act(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: CaseRequest = body(server, request).await?;
    let reason = told(&request.reason)?;
    short("tenant", &request.tenant, MAX_TENANT_NAME)?;
    let case = named(&request.case)?;
    let arguments = serde_json::json!({
        "tenant": request.tenant, "case": request.case, "action": request.action,
    });
    let action = request.action.as_str();
    if request.action == CaseAction::Note {
        let (uid, pid) = (connection.uid, connection.pid);
        return blocking(server, connection, false, move |server| {
            let by = Peer::look(uid, pid);
            let outcome = server.node.note(&request.tenant, &case, &reason, &by);
            let said = match &outcome {
                Ok(_) => Ok("noted".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            record(server, by, action, &arguments, Some(reason), said);
            Ok(reply::json(StatusCode::OK, &outcome?))
        })
        .await;
    }
    heard(server, connection, action, arguments, reason, {
        move |server, reason, by| {
            server
                .node
                .act(&request.tenant, &case, &request.action, reason, by)
        }
    })
    .await
}

/// Has something brought before the court, and records that a person did it, or tried to.
async fn heard(
    server: &Server,
    connection: &Connection,
    action: &'static str,
    arguments: serde_json::Value,
    reason: String,
    bring: impl FnOnce(&Server, &str, &Peer) -> Result<HeardOutcome, NodeError> + Send + 'static,
) -> Result<Response<Body>, NodeError> {
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = bring(server, &reason, &by);
        let said = match &outcome {
            Ok(outcome) => Ok(in_short(outcome)),
            Err(error) => Err(error.to_string()),
        };
        record(server, by, action, &arguments, Some(reason), said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

/// What became of something, for the audit log.
fn in_short(outcome: &HeardOutcome) -> String {
    let mut said = Vec::new();
    if outcome.duplicate {
        said.push("heard before".to_owned());
    }
    if outcome.no_policy {
        said.push("no policy speaks of it".to_owned());
    }
    let names = |sanctions: &[Sanction]| {
        let names: Vec<&str> = sanctions.iter().map(|it| it.as_str()).collect();
        names.join(", ")
    };
    for (what, cases) in [("opened", &outcome.opened), ("closed", &outcome.closed)] {
        said.extend(cases.iter().map(|case| format!("{case} {what}")));
    }
    for (what, sanctions) in [
        ("in force", &outcome.applied),
        ("lifted", &outcome.lifted),
        ("not in force yet", &outcome.owed),
    ] {
        if !sanctions.is_empty() {
            said.push(format!("{} {what}", names(sanctions)));
        }
    }
    if said.is_empty() {
        return "recorded".to_owned();
    }
    said.join("; ")
}

fn of_whom(tenant: Option<String>) -> Result<String, NodeError> {
    tenant.ok_or_else(|| invalid("tenant must be given"))
}

fn named(case: &str) -> Result<CaseName, NodeError> {
    CaseName::from_str(case).map_err(|error| invalid(format!("case: {error}")))
}

/// A reason that somebody will read, and that fits the record.
fn told(reason: &str) -> Result<String, NodeError> {
    let reason = stated(reason)?;
    short("reason", &reason, LONGEST_TEXT)?;
    Ok(reason)
}

fn short(what: &str, text: &str, most: usize) -> Result<(), NodeError> {
    if text.len() > most {
        return Err(invalid(format!("{what}: longer than {most} bytes")));
    }
    Ok(())
}
