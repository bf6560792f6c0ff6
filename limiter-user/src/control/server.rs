//! The agent's end of the control socket.
//!
//! One request a connection. Every step has a bound: how many connections, how long the head may
//! take and how large it may be, the same for the body, and how long the answer may take to be
//! made and read. Whoever is slow or hostile is dropped; nobody else waits.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncReadExt, net::UnixStream, sync::watch, task::JoinSet, time};

use super::{
    audit::Audit,
    gate::{Gate, Pass},
    node::Node,
    reply, routes,
    socket::ControlSocket,
};

pub use super::gate::GateLimits;

/// How long somebody for whom there is no place may take to ask.
const QUESTION_TIME: Duration = Duration::from_millis(500);

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request's head may take.
    pub head_time: Duration,
    /// How large it may be, bytes; at least 8192.
    pub head_bytes: usize,
    /// How many header fields it may have.
    pub head_fields: usize,
    /// How long a request's body may take.
    pub body_time: Duration,
    /// How large it may be, bytes.
    pub body_bytes: usize,
    /// How long a connection may last, but for a stream of events.
    pub total_time: Duration,
    /// How long a reader of events may keep the next ones waiting.
    pub stall_time: Duration,
    /// How long connections may go on when the agent stops.
    pub grace_time: Duration,
    /// How many connections there may be.
    pub gate: GateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_time: Duration::from_secs(5),
            head_bytes: 16 * 1024,
            head_fields: 32,
            body_time: Duration::from_secs(5),
            body_bytes: 64 * 1024,
            total_time: Duration::from_secs(120),
            stall_time: Duration::from_secs(30),
            grace_time: Duration::from_secs(1),
            gate: GateLimits {
                per_uid: 64,
                others: 128,
                heavy: 4,
            },
        }
    }
}

/// What all connections share.
#[derive(Clone)]
pub struct Server {
    pub(super) node: Arc<dyn Node>,
    pub(super) audit: Arc<Audit>,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: Limits,
}

/// What the handler of a request and its connection share.
#[derive(Clone)]
pub(super) struct Connection {
    /// The peer's uid, from the kernel.
    pub uid: u32,
    /// The peer's process, from the kernel.
    pub pid: Option<u32>,
    /// Held by whatever the request set going, even if the peer is gone.
    pub pass: Arc<Pass>,
    /// What the handler tells the connection.
    pub stage: watch::Sender<Stage>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A question, an answer: the deadline holds.
    Answering,
    /// A stream of events: no deadline, but the reader must keep reading.
    Streaming,
    /// It did not.
    Stalled,
}

impl Server {
    /// A server that asks `node`, and records what is changed in `audit`.
    #[must_use]
    pub fn new(node: Arc<dyn Node>, audit: Arc<Audit>, limits: Limits) -> Self {
        Self {
            node,
            audit,
            gate: Gate::new(limits.gate),
            limits,
        }
    }

    /// Answers until `stop` is done.
    pub async fn serve(self, socket: ControlSocket, stop: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = socket.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &mut connections),
                    Err(error) => {
                        // Out of descriptors, most likely: give the others time to end.
                        log::warn!("cannot accept a control connection: {error}");
                        time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        // The socket goes first: whoever asks from now on learns at once that nobody answers.
        drop(socket);
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = time::timeout(self.limits.grace_time, ended).await;
    }

    /// Starts a connection, or turns it away without waiting.
    fn admit(&self, stream: UnixStream, connections: &mut JoinSet<()>) {
        let Ok(credentials) = stream.peer_cred() else {
            return;
        };
        let Some(pass) = self.gate.enter(credentials.uid()) else {
            self.turn_away(stream, connections);
            return;
        };
        let (stage, watched) = watch::channel(Stage::Answering);
        let connection = Connection {
            uid: credentials.uid(),
            pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()),
            pass: Arc::new(pass),
            stage,
        };
        connections.spawn(self.clone().converse(stream, connection, watched));
    }

    /// Says that there is no place: after the question, as HTTP has it, as long as few are told.
    fn turn_away(&self, stream: UnixStream, connections: &mut JoinSet<()>) {
        // What does not fit into the socket's buffer at once is not sent.
        let tell = |stream: UnixStream| drop(stream.try_write(reply::BUSY));
        match self.gate.turning_away.clone().try_acquire_owned() {
            Ok(place) => drop(connections.spawn(async move {
                let mut stream = stream;
                let _ = time::timeout(QUESTION_TIME, stream.read(&mut [0; 4096])).await;
                tell(stream);
                drop(place);
            })),
            Err(_) => tell(stream),
        }
    }

    async fn converse(
        self,
        stream: UnixStream,
        connection: Connection,
        mut stage: watch::Receiver<Stage>,
    ) {
        let limits = self.limits;
        let answer = service_fn(move |request| {
            let (server, connection) = (self.clone(), connection.clone());
            async move { Ok::<_, Infallible>(routes::answer(&server, &connection, request).await) }
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head_bytes)
            .max_headers(limits.head_fields)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        let answering = stage.clone();
        let too_long = async move {
            time::sleep(limits.total_time).await;
            // A stream has no deadline, but a reader that stalls ends it.
            let streams = *answering.borrow() != Stage::Answering;
            if streams {
                std::future::pending::<()>().await;
            }
        };
        let stalled = async move {
            drop(stage.wait_for(|stage| *stage == Stage::Stalled).await);
        };
        tokio::select! {
            ended = conversation => {
                if let Err(error) = ended {
                    log::debug!("a control connection ended early: {error}");
                }
            }
            () = too_long => log::debug!("a control connection took too long"),
            () = stalled => log::debug!("a reader of events stalled"),
        }
    }
}
