//! The commands' end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{net::UnixStream, task, time};

use super::{
    query,
    reply::ErrorBody,
    routes::{self, ObserveRequest, ReinstateRequest, ReloadRequest, SanctionRequest},
    routes_court::{self, CaseRequest, Done, OffenceRequest, SettleRequest, WordRequest},
    routes_watch::{self, WatchOutcome, WatchRequest},
};
use crate::report::{
    case::{CaseDetails, CaseSummary, HeardOutcome, NoteOutcome},
    dossier::Dossier,
    explain::{ExplainQuery, Explanation},
    outcome::{ObserveOutcome, ReinstateOutcome, ReloadOutcome, SanctionOutcome},
    status::Status,
    store::EventFilter,
};

/// How long an agent may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long it may take to begin its answer; a reload of 100,000 tenants takes a while.
const ANSWER_TIME: Duration = Duration::from_secs(130);
/// A line of events is never longer.
const LONGEST_LINE: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no agent answers at {socket}", socket = socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// This user may not ask.
    #[error(
        "this user may not use {socket}; be root, or a member of the group `limiter`",
        socket = socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// An agent is there, and does not answer in time.
    #[error(
        "the agent at {socket} does not answer; is it stopped? (journalctl -u limiter)",
        socket = socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// The conversation broke off.
    #[error("lost the agent at {socket}: {why}", socket = socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// The agent answers with an error.
    #[error("{error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What went wrong.
        error: String,
        /// What to do.
        remedy: String,
    },
}

/// Asks an agent, one connection a question.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

impl Client {
    /// Asks at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            patience: ANSWER_TIME,
        }
    }

    /// Waits at most so long for an answer to begin, and as long again for it to end.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The node, with all tenants or one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self, tenant: Option<&str>) -> Result<Status, ClientError> {
        let query = query::write(&[("tenant", tenant)]);
        self.get(routes::STATUS, &query).await
    }

    /// What would become of a connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, question: &ExplainQuery) -> Result<Explanation, ClientError> {
        self.get(routes::EXPLAIN, &query::explain_to(question))
            .await
    }

    /// Has the files read again.
    ///
    /// # Errors
    /// [`ClientError`]. Faults of the files are in the outcome.
    pub async fn reload(&self, request: &ReloadRequest) -> Result<ReloadOutcome, ClientError> {
        self.post(routes::RELOAD, request).await
    }

    /// Has the agent look out for whether mail programs ask, or say who did.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, request: &WatchRequest) -> Result<WatchOutcome, ClientError> {
        self.post(routes_watch::WATCH, request).await
    }

    /// Has nothing refused for a while, or ends that.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn observe(&self, request: &ObserveRequest) -> Result<ObserveOutcome, ClientError> {
        self.post(routes::OBSERVE, request).await
    }

    /// Has a tenant put under a sanction.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sanction(
        &self,
        request: &SanctionRequest,
    ) -> Result<SanctionOutcome, ClientError> {
        self.post(routes::SANCTIONS, request).await
    }

    /// Has a tenant's sanctions taken back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reinstate(
        &self,
        request: &ReinstateRequest,
    ) -> Result<ReinstateOutcome, ClientError> {
        self.post(routes::REINSTATE, request).await
    }

    /// Says a word about a tenant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn word(&self, request: &WordRequest) -> Result<HeardOutcome, ClientError> {
        self.post(routes_court::WORDS, request).await
    }

    /// Adds to a tenant's record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offence(&self, request: &OffenceRequest) -> Result<HeardOutcome, ClientError> {
        self.post(routes_court::OFFENCES, request).await
    }

    /// Declares the wall clock right.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn settle(&self, request: &SettleRequest) -> Result<Done, ClientError> {
        self.post(routes_court::SETTLE, request).await
    }

    /// Cases.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cases(
        &self,
        tenant: Option<&str>,
        all: bool,
    ) -> Result<Vec<CaseSummary>, ClientError> {
        let query = query::write(&[("tenant", tenant), ("all", all.then_some("true"))]);
        self.get(routes_court::CASES, &query).await
    }

    /// One case.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn case(&self, tenant: &str, case: &str) -> Result<CaseDetails, ClientError> {
        let query = query::write(&[("tenant", Some(tenant)), ("case", Some(case))]);
        self.get(routes_court::CASE, &query).await
    }

    /// Writes a note beside a case: a request with [`CaseAction::Note`](routes_court::CaseAction).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn note(&self, request: &CaseRequest) -> Result<NoteOutcome, ClientError> {
        self.post(routes_court::CASES, request).await
    }

    /// Confirms, rejects or closes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn act(&self, request: &CaseRequest) -> Result<HeardOutcome, ClientError> {
        self.post(routes_court::CASES, request).await
    }

    /// The evidence report of a tenant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dossier(&self, tenant: &str, span: Duration) -> Result<Dossier, ClientError> {
        let span = span.as_secs().to_string();
        let query = query::write(&[("tenant", Some(tenant)), ("for", Some(&span))]);
        self.get(routes_court::REPORT, &query).await
    }

    /// The recorded events, and those to come if `follow` is set.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, filter: &EventFilter, follow: bool) -> Result<Lines, ClientError> {
        let since = filter.since.map(|since| since.to_string());
        let query = query::write(&[
            ("since", since.as_deref()),
            ("tenant", filter.tenant.as_deref()),
            ("follow", follow.then_some("true")),
        ]);
        let answer = self.ask(Method::GET, routes::EVENTS, &query, None).await?;
        Ok(Lines {
            socket: self.socket.clone(),
            body: answer.into_body(),
            rest: BytesMut::new(),
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &str,
    ) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, path, query, None).await?;
        self.read(answer).await
    }

    pub(super) async fn post<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        let answer = self.ask(Method::POST, path, "", Some(body)).await?;
        self.read(answer).await
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // An error of the connection is the error of the request, too.
        task::spawn(async move { drop(connection.await) });
        let uri = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "limiter")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| self.broken(&error))?;
        let answer = time::timeout(self.patience, requests.send_request(request))
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.broken(&error))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let bytes = self.collect(answer).await?;
        let ErrorBody { error, remedy } =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| ErrorBody {
                error: format!("the agent answers with HTTP status {status}"),
                remedy: "is it an agent of this version? (limiter --version)".to_owned(),
            });
        Err(ClientError::Refused {
            status,
            error,
            remedy,
        })
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connected = time::timeout(CONNECT_TIME, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| self.silent())?;
        let socket = self.socket.clone();
        connected.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
            // The queue of the socket is full: somebody is there and accepts nothing.
            io::ErrorKind::WouldBlock => ClientError::Silent { socket },
            _ => self.broken(&error),
        })
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        answer: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let bytes = self.collect(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.broken(&error))
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let collected = time::timeout(self.patience, answer.into_body().collect())
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.broken(&error))?;
        Ok(collected.to_bytes())
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent {
            socket: self.socket.clone(),
        }
    }

    fn broken(&self, why: &dyn std::error::Error) -> ClientError {
        broken(&self.socket, why)
    }
}

/// The whole chain of causes: what hyper says first is rarely what happened.
fn broken(socket: &Path, why: &dyn std::error::Error) -> ClientError {
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    ClientError::Broken {
        socket: socket.to_owned(),
        why: text,
    }
}

/// A stream of JSON lines.
#[derive(Debug)]
pub struct Lines {
    socket: PathBuf,
    body: Incoming,
    rest: BytesMut,
}

impl Lines {
    /// The next line without its newline; `None` at the end.
    ///
    /// # Errors
    /// An agent that is lost half-way, and a line longer than a MiB.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(at + 1);
                return Ok(Some(line.freeze().slice(..at)));
            }
            if self.rest.len() > LONGEST_LINE {
                return Err(broken(&self.socket, &io::Error::other("an endless line")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(broken(&self.socket, &error)),
                None => return Ok(None),
            }
        }
    }
}
