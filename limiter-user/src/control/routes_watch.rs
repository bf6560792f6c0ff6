//! The path by which a command finds out whether mail programs ask.

use hyper::{Request, StatusCode, body::Incoming};
use serde::{Deserialize, Serialize};

use super::{
    reply,
    routes::{Answer, blocking, body},
    server::{Connection, Server},
};
use crate::service::watch::Asked;

/// `POST` a [`WatchRequest`]: [`WatchOutcome`].
pub const WATCH: &str = "/v1/mta/watch";

/// What to look out for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchRequest {
    /// A sign from an earlier answer: who asked with it? Null makes another one.
    pub sign: Option<String>,
    /// With the sign: it is not looked out for any more.
    pub end: bool,
    /// The account that somebody will log in to, instead of a sign that is made up.
    pub account: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchOutcome {
    /// What to put into the question: the local part of an address. It lasts half a minute.
    pub sign: String,
    /// Who asked so far. What is asked with a sign is let through, and not counted.
    pub seen: Vec<Asked>,
    /// Why nobody can ask at addresses where somebody should.
    pub shut: Vec<String>,
}

pub(super) async fn answer(
    server: &Server,
    connection: &Connection,
    request: Request<Incoming>,
) -> Answer {
    let request: WatchRequest = body(server, request).await?;
    blocking(server, connection, false, move |server| {
        let outcome = server.node.watch(&request)?;
        Ok(reply::json(StatusCode::OK, &outcome))
    })
    .await
}
