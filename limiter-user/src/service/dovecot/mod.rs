//! Dovecot's authentication policy: how often each mail account may be logged in to.
//!
//! Dovecot asks over HTTP (`auth_policy_server_url`) before it lets somebody in, with the name, the client's
//! address and more as JSON; the answer's `status` is 0 to let it go on and -1 to refuse. What counts is logins
//! by IMAP and POP3 that are let in: who has the wrong password fails at Dovecot, and one who was let in
//! may not be later. Names are not tenants: an account is a mailbox.
//!
//! Once an account is over its limit, it is locked for a while: every login is refused, and the addresses from
//! which it is tried are handed on to be locked for as long as the account is.

mod logins;
mod question;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};

pub use self::logins::KeptLogins;
use self::{
    logins::{Heard, Logins, Verdict},
    question::Question,
};
use super::{listen::Caller, watch::Watch};
use crate::policy::model::{LoginLimit, Mode};

/// Dovecot's questions are of a few hundred bytes.
const MOST_BYTES: usize = 16 << 10;
/// The least that the HTTP reader can be bounded to.
const HEAD_BYTES: usize = 8 << 10;
/// How long a connection may be idle, and a question's head take: Dovecot keeps one for 10 s.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long the rest of a question may take.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Connections are not kept for longer, and have so long to end then.
const CONNECTION_TIME: Duration = Duration::from_secs(3_600);
const GRACE: Duration = Duration::from_secs(5);

/// Locks clients out.
pub trait Locks: Send + Sync {
    /// No mailbox is to be reached from `address` for so long; a lock that lasts longer stays. Never a
    /// loopback address. Whoever implements this leaves out what must stay reachable: the node's own
    /// addresses, proxies and webmail servers that log in for many.
    fn lock(&self, address: IpAddr, lock: Duration);

    /// Whether nobody may log in to this account, in lower case: its tenant is under a sanction.
    fn is_suspended(&self, account: &str) -> bool {
        let _ = account;
        false
    }
}

/// Why a connection was ended early.
#[derive(Debug, thiserror::Error)]
#[error("dovecot: {0}")]
pub struct DovecotError(#[from] hyper::Error);

/// Answers Dovecot. Any number of connections may be served at once.
pub struct Dovecot {
    locks: Arc<dyn Locks>,
    clock: fn() -> u64,
    state: Mutex<State>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct State {
    limit: Option<LoginLimit>,
    mode: Mode,
    logins: Logins,
}

impl Dovecot {
    /// Nothing is limited before [`set`](Self::set). `clock` never goes back, ns.
    #[must_use]
    pub fn new(locks: Arc<dyn Locks>, clock: fn() -> u64) -> Self {
        Self {
            locks,
            clock,
            state: Mutex::new(State {
                limit: None,
                mode: Mode::Observe,
                logins: Logins::default(),
            }),
            watch: Arc::default(),
        }
    }

    /// The same, that tells who asks with a sign.
    #[must_use]
    pub fn watched(self, watch: Arc<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Goes by another limit from now on, or by none. What was counted stays. While it is only observed,
    /// nobody is refused, and the log says who would be.
    pub fn set(&self, limit: Option<LoginLimit>, mode: Mode) {
        let now = (self.clock)();
        let mut state = self.state();
        match (state.limit, limit) {
            (Some(old), Some(new)) => state.logins.reshape(&old, &new, now),
            (_, None) => state.logins = Logins::default(),
            (None, Some(_)) => {}
        }
        state.limit = limit;
        state.mode = mode;
    }

    /// The accounts that are locked, in lower case and in their order, each with how much longer.
    #[must_use]
    pub fn locked(&self) -> Vec<(String, Duration)> {
        self.state().logins.locked((self.clock)())
    }

    /// What is to be kept of it for the next agent; none where nothing is limited.
    #[must_use]
    pub fn keep(&self) -> Option<KeptLogins> {
        let state = self.state();
        let limit = state.limit?;
        Some(state.logins.keep(&limit, (self.clock)()))
    }

    /// Goes on from what was kept so long ago, at least. Where nothing is limited it is forgotten.
    pub fn restore(&self, kept: KeptLogins, elapsed: Duration) {
        let now = (self.clock)();
        let mut state = self.state();
        if let Some(limit) = state.limit {
            state.logins.restore(kept, elapsed, &limit, now);
        }
    }

    /// Ends the lock of an account, and begins counting anew; whether it was locked. Addresses stay locked.
    pub fn release(&self, account: &str) -> bool {
        let account = account.to_lowercase();
        self.state().logins.release(&account, (self.clock)())
    }

    /// Answers one connection until it ends. Who is at its other end is known to whoever accepted it:
    /// everything said there is believed.
    ///
    /// # Errors
    /// The connection broke, or what came is not HTTP.
    pub async fn serve(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        caller: &Caller,
    ) -> Result<(), DovecotError> {
        let answer = service_fn(|request| async {
            let (status, text) = self.answer(request, caller).await;
            Ok::<_, Infallible>(response(status, text))
        });
        let mut conversation = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .half_close(true)
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES)
                .max_headers(32)
                .serve_connection(TokioIo::new(stream), answer)
        );
        if let Ok(ended) = time::timeout(CONNECTION_TIME, conversation.as_mut()).await {
            return Ok(ended?);
        }
        conversation.as_mut().graceful_shutdown();
        match time::timeout(GRACE, conversation).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Ok(()),
        }
    }

    async fn answer(&self, request: Request<Incoming>, caller: &Caller) -> (StatusCode, String) {
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST");
        }
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let command = form_urlencoded::parse(query)
            .find_map(|(name, value)| (name == "command").then(|| value.into_owned()));
        let reports = match command.as_deref() {
            Some("allow") => false,
            Some("report") => true,
            _ => return refuse(StatusCode::NOT_FOUND, "?command=allow or ?command=report"),
        };
        let body = Limited::new(request.into_body(), MOST_BYTES).collect();
        let body = match time::timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "too slow"),
        };
        let question = match Question::read(&body) {
            Ok(question) => question,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let account = &question.account;
        if self.watch.is_sign(account, "dovecot", "Dovecot", caller) {
            return (StatusCode::OK, ALLOW.to_owned());
        }
        if reports {
            self.hear(&question);
            (StatusCode::OK, ALLOW.to_owned())
        } else {
            (StatusCode::OK, self.decide(&question))
        }
    }

    fn decide(&self, question: &Question) -> String {
        if question.is_mailbox && self.locks.is_suspended(&question.account) {
            return SUSPENDED.to_owned();
        }
        let now = (self.clock)();
        let mut state = self.state();
        let (Some(limit), true) = (state.limit, question.is_mailbox) else {
            return ALLOW.to_owned();
        };
        let verdict = state.logins.ask(question, &limit, now);
        let enforced = state.mode == Mode::Enforce;
        drop(state);
        let (left, first) = match verdict {
            Verdict::Allow => return ALLOW.to_owned(),
            Verdict::Lock(lock) => (lock, true),
            Verdict::Locked(left) => (left, false),
        };
        if first {
            let (account, client) = (question.account.escape_debug(), question.client);
            let client = client.map_or_else(|| "an unknown client".to_owned(), |it| it.to_string());
            let LoginLimit { max, window, lock } = limit;
            let done = if enforced {
                "locked"
            } else {
                "would be locked"
            };
            log::warn!(
                "mailbox {account}: more than {max} logins in {} s, the last from {client}: {done} for {} s",
                window.as_secs(),
                lock.as_secs()
            );
        }
        if !enforced {
            return ALLOW.to_owned();
        }
        if let Some(client) = question.client.filter(|client| !client.is_loopback()) {
            self.locks.lock(client, left);
        }
        let minutes = left.as_secs().div_ceil(60).max(1);
        format!("{{\"status\":-1,\"msg\":\"too many logins; try again in {minutes} minutes\"}}")
    }

    fn hear(&self, question: &Question) {
        let now = (self.clock)();
        let mut state = self.state();
        let (Some(limit), true) = (state.limit, question.is_mailbox) else {
            return;
        };
        if state.logins.report(question, &limit, now) == Heard::AsksBefore {
            log::warn!(
                "dovecot asks before it looks at passwords: logins at the same moment may exceed \
                 mailbox.per_account; set auth_policy_check_before_auth = no there, and \
                 reload here"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SUSPENDED: &str =
    "{\"status\":-1,\"msg\":\"the mail of this account is suspended; ask the administrator\"}";
const ALLOW: &str = "{\"status\":0,\"msg\":\"\"}";

fn refuse(status: StatusCode, text: &str) -> (StatusCode, String) {
    log::debug!("dovecot: {status}: {text}");
    (status, text.to_owned())
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = if status == StatusCode::OK {
        "application/json"
    } else {
        "text/plain"
    };
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
