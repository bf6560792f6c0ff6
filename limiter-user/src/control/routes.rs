//! The paths of the control socket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{task, time};

use super::{
    audit::AuditRecord,
    follow,
    node::NodeError,
    peer::Peer,
    query::{Query, explain_from, invalid},
    reply::{self, Body},
    routes_clock::{self, CLOCK},
    routes_complaints, routes_court,
    routes_watch::{self, WATCH},
    server::{Connection, Server},
};
use crate::{
    offence::Sanction,
    report::{duration::Seconds, store::EventFilter, time::utc},
};

/// `GET`: [`Status`](crate::report::status::Status). Parameters: `tenant`.
pub const STATUS: &str = "/v1/status";
/// `GET`: [`EventRecord`](crate::report::event::EventRecord)s, one a line. Parameters: `since`
/// (RFC 3339), `tenant`, `follow` (`true`).
pub const EVENTS: &str = "/v1/events";
/// `GET`: [`Explanation`](crate::report::explain::Explanation). Parameters: one of `uid`, `pid`,
/// `cgroup`, `interface`, `from`; and `to`.
pub const EXPLAIN: &str = "/v1/explain";
/// `POST` a [`ReloadRequest`]: [`ReloadOutcome`](crate::report::outcome::ReloadOutcome).
pub const RELOAD: &str = "/v1/reload";
/// `POST` an [`ObserveRequest`]: [`ObserveOutcome`](crate::report::outcome::ObserveOutcome).
pub const OBSERVE: &str = "/v1/observe";

/// `POST` a [`SanctionRequest`]: [`SanctionOutcome`](crate::report::outcome::SanctionOutcome).
/// `DELETE` a [`ReinstateRequest`]: as [`REINSTATE`].
pub const SANCTIONS: &str = "/v1/sanctions";
/// `POST` a [`ReinstateRequest`]:
/// [`ReinstateOutcome`](crate::report::outcome::ReinstateOutcome).
pub const REINSTATE: &str = "/v1/reinstate";

/// The longest that `observe` may last.
pub const LONGEST_OBSERVE: Duration = Duration::from_secs(31 * 86_400);

/// What `reload` sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Why, in the person's words.
    pub reason: Option<String>,
}

/// What `observe` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveRequest {
    /// Whom; null is the whole node.
    pub tenant: Option<String>,
    /// For how long; 0 or null ends it now.
    #[serde(rename = "for")]
    pub duration: Option<Seconds>,
    /// Why, in the person's words.
    pub reason: Option<String>,
}

/// What `suspend` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SanctionRequest {
    /// Whom.
    pub tenant: String,
    /// What.
    pub sanction: Sanction,
    /// For how long; null is until it is taken back.
    #[serde(rename = "for")]
    pub duration: Option<Seconds>,
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// What `reinstate` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReinstateRequest {
    /// Whom.
    pub tenant: String,
    /// Which sanction; null is all.
    #[serde(default)]
    pub sanction: Option<Sanction>,
    /// Against the rules of the policies.
    #[serde(default, rename = "override")]
    pub overriding: bool,
    /// Why, in the person's words. Not empty.
    pub reason: String,
}

/// Answers one request.
pub(super) async fn answer(
    server: &Server,
    connection: &Connection,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let allowed: &[Method] = match path.as_str() {
        STATUS | EVENTS | EXPLAIN => &[Method::GET],
        RELOAD | OBSERVE | REINSTATE => &[Method::POST],
        SANCTIONS => &[Method::POST, Method::DELETE],
        WATCH => &[Method::POST],
        CLOCK if server.node.simulates_clock() => &[Method::POST],
        path => match routes_court::methods(path).or_else(|| routes_complaints::methods(path)) {
            Some(methods) => methods,
            None => {
                return reply::refuse(
                    StatusCode::NOT_FOUND,
                    format!("there is no {path:?}"),
                    format!(
                        "paths: {STATUS}, {EVENTS}, {EXPLAIN}, {RELOAD}, {OBSERVE}, {SANCTIONS}, \
                         {REINSTATE}, {WATCH}, {}, {}, {}, {}",
                        routes_court::ALL.join(", "),
                        routes_complaints::COMPLAINTS,
                        routes_complaints::COMPLAINT,
                        routes_complaints::COMPLAINT_SAY
                    ),
                );
            }
        },
    };
    if !allowed.contains(request.method()) {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        return reply::refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} is not for {path}", request.method()),
            format!("use {}", allowed.join(" or ")),
        );
    }
    let outcome = match path.as_str() {
        STATUS => status(server, connection, &request).await,
        EVENTS => events(server, connection, &request).await,
        EXPLAIN => explain(server, connection, &request).await,
        RELOAD => reload(server, connection, request).await,
        SANCTIONS if *request.method() == Method::POST => {
            sanction(server, connection, request).await
        }
        SANCTIONS | REINSTATE => reinstate(server, connection, request).await,
        WATCH => routes_watch::answer(server, connection, request).await,
        CLOCK => routes_clock::answer(server, connection, request).await,
        path if routes_court::methods(path).is_some() => {
            routes_court::answer(server, connection, request).await
        }
        path if routes_complaints::methods(path).is_some() => {
            routes_complaints::answer(server, connection, request).await
        }
        _ => observe(server, connection, request).await,
    };
    outcome.unwrap_or_else(|error| reply::error(&error))
}

pub(super) type Answer = Result<Response<Body>, NodeError>;

async fn status(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let tenant = query.tenant()?;
    query.finish()?;
    blocking(server, connection, true, move |server| {
        let status = server.node.status(tenant.as_deref())?;
        Ok(reply::json(StatusCode::OK, &status))
    })
    .await
}

async fn explain(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let question = explain_from(&mut query)?;
    query.finish()?;
    blocking(server, connection, true, move |server| {
        let answer = server.node.explain(&question)?;
        Ok(reply::json(StatusCode::OK, &answer))
    })
    .await
}

async fn events(server: &Server, connection: &Connection, request: &Request<Incoming>) -> Answer {
    let mut query = Query::parse(request.uri().query())?;
    let filter = EventFilter {
        since: query.value("since")?,
        tenant: query.tenant()?,
    };
    let follow = query.value("follow")?.unwrap_or(false);
    query.finish()?;
    follow::stream(server, connection, filter, follow).await
}

async fn reload(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: ReloadRequest = body(server, request).await?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = server.node.reload(&by);
        let said = match &outcome {
            Ok(outcome) if outcome.loaded => Ok(outcome.summary.clone()),
            Ok(outcome) => Err(format!(
                "refused: {}",
                crate::report::faults::tally(&outcome.faults)
            )),
            Err(error) => Err(error.to_string()),
        };
        record(server, by, "reload", &(), request.reason, said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

async fn observe(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: ObserveRequest = body(server, request).await?;
    let duration = request.duration.map(|Seconds(duration)| duration);
    let duration = duration.filter(|duration| !duration.is_zero());
    if let Some(duration) = duration
        && !(Duration::from_secs(1)..=LONGEST_OBSERVE).contains(&duration)
    {
        return Err(invalid("for: from 1 second to 31 days"));
    }
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = server
            .node
            .observe(request.tenant.as_deref(), duration, &by);
        let said = match &outcome {
            Ok(outcome) => Ok(outcome.until.map_or_else(
                || "ended".to_owned(),
                |until| format!("nothing is refused until {}", utc(until)),
            )),
            Err(error) => Err(error.to_string()),
        };
        let reason = request.reason.clone();
        let arguments = ObserveRequest {
            reason: None,
            ..request
        };
        record(server, by, "observe", &arguments, reason, said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

async fn sanction(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: SanctionRequest = body(server, request).await?;
    let reason = stated(&request.reason)?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let duration = request.duration.map(|Seconds(duration)| duration);
        let outcome =
            server
                .node
                .sanction(&request.tenant, request.sanction, duration, &reason, &by);
        let said = match &outcome {
            Ok(outcome) => Ok(match outcome.until {
                Some(until) => format!("in force until {}", utc(until)),
                None => "in force without end".to_owned(),
            }),
            Err(error) => Err(error.to_string()),
        };
        let arguments = serde_json::json!({
            "tenant": request.tenant, "sanction": request.sanction.as_str(),
            "for": request.duration,
        });
        record(server, by, "suspend", &arguments, Some(reason), said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

async fn reinstate(server: &Server, connection: &Connection, request: Request<Incoming>) -> Answer {
    let request: ReinstateRequest = body(server, request).await?;
    let reason = stated(&request.reason)?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = server.node.reinstate(
            &request.tenant,
            request.sanction,
            request.overriding,
            &reason,
            &by,
        );
        let said = match &outcome {
            Ok(outcome) if outcome.lifted.is_empty() => Ok("there was nothing to lift".to_owned()),
            Ok(outcome) => {
                let lifted: Vec<&str> = outcome.lifted.iter().map(|it| it.as_str()).collect();
                Ok(format!("lifted {}", lifted.join(", ")))
            }
            Err(error) => Err(error.to_string()),
        };
        let arguments = serde_json::json!({
            "tenant": request.tenant, "sanction": request.sanction.map(Sanction::as_str),
            "override": request.overriding,
        });
        record(server, by, "reinstate", &arguments, Some(reason), said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}

/// A reason that somebody will read when the customer calls.
pub(super) fn stated(reason: &str) -> Result<String, NodeError> {
    match reason.trim() {
        "" => Err(invalid("reason: say why; it is kept for whoever asks")),
        reason => Ok(reason.to_owned()),
    }
}

/// Records what a person changed, or tried to.
pub(super) fn record<A: Serialize>(
    server: &Server,
    by: Peer,
    action: &str,
    arguments: &A,
    reason: Option<String>,
    said: Result<String, String>,
) {
    server.audit.record(&AuditRecord {
        time: Timestamp::now(),
        by,
        action: action.to_owned(),
        arguments: serde_json::to_value(arguments).unwrap_or_default(),
        reason,
        done: said.is_ok(),
        outcome: said.unwrap_or_else(|error| error),
    });
}

/// Asks the node where blocking hurts nobody. The connection's place stays taken until it has
/// answered, even if the peer is gone; what was begun is finished, and recorded.
pub(super) async fn blocking<T: Send + 'static>(
    server: &Server,
    connection: &Connection,
    heavy: bool,
    ask: impl FnOnce(&Server) -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    let turn = if heavy {
        let turn = server.gate.heavy.clone().acquire_owned().await;
        Some(turn.map_err(|_| failed("the agent is stopping"))?)
    } else {
        None
    };
    let (server, pass) = (server.clone(), connection.pass.clone());
    let asked = task::spawn_blocking(move || {
        let _held = (turn, pass);
        ask(&server)
    });
    asked
        .await
        .unwrap_or_else(|error| Err(failed(&format!("the agent failed to answer: {error}"))))
}

fn failed(what: &str) -> NodeError {
    NodeError::Failed {
        what: what.to_owned(),
        remedy: "look at the agent's log: journalctl -u limiter".to_owned(),
    }
}

/// Reads a JSON body within its bounds; an empty one is `{}`.
pub(super) async fn body<T: DeserializeOwned>(
    server: &Server,
    request: Request<Incoming>,
) -> Result<T, NodeError> {
    let limits = server.limits;
    let read = Limited::new(request.into_body(), limits.body_bytes).collect();
    let collected = time::timeout(limits.body_time, read)
        .await
        .map_err(|_| invalid("the body took too long"))?
        .map_err(|error| invalid(format!("body: {error}")))?;
    let bytes: Bytes = collected.to_bytes();
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("body: {error}")))
}
