//! The path by which a test puts the clocks forward. There is none where the agent goes by the
//! machine's.

use hyper::{Request, StatusCode, body::Incoming};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    peer::Peer,
    reply,
    routes::{Answer, blocking, body, record},
    server::{Connection, Server},
};
use crate::report::duration::Seconds;

/// `POST` a [`ClockRequest`]: [`ClockOutcome`]. Only in an agent with a simulated clock.
pub const CLOCK: &str = "/v1/clock";

/// How the clocks are to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockRequest {
    /// By how much all of them are put forward.
    pub advance: Option<Seconds>,
    /// By how many seconds the wall clock alone is set wrong, on top of what it is already.
    pub wall: i64,
    /// Whether the wall clock is known to be right from now on; null leaves it.
    pub trusted: Option<bool>,
}

/// What the clocks say now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOutcome {
    /// How far all clocks are ahead of the machine's.
    pub ahead: Seconds,
    /// The wall clock, as far as it is right.
    pub now: Timestamp,
}

pub(super) async fn answer(
    server: &Server,
    connection: &Connection,
    request: Request<Incoming>,
) -> Answer {
    let request: ClockRequest = body(server, request).await?;
    let (uid, pid) = (connection.uid, connection.pid);
    blocking(server, connection, false, move |server| {
        let by = Peer::look(uid, pid);
        let outcome = server.node.set_clock(&request);
        let said = match &outcome {
            Ok(outcome) => Ok(format!("it is {}", outcome.now)),
            Err(error) => Err(error.to_string()),
        };
        record(server, by, "clock", &request, None, said);
        Ok(reply::json(StatusCode::OK, &outcome?))
    })
    .await
}
