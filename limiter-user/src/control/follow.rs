//! The stream of events: what is recorded, then what comes.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::channel::{Channel, Sender};
use hyper::Response;
use serde::Serialize;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task, time,
};

use super::{
    node::NodeError,
    reply::{self, Body},
    routes::blocking,
    server::{Connection, Server, Stage},
};
use crate::report::{
    event::EventRecord,
    store::{EventFilter, History},
};

/// How much is sent at once, bytes.
const CHUNK: usize = 32 * 1024;
/// How many of the last recorded events are remembered, so that none is told twice: those that
/// came between subscribing and reading. More than the agent's channel holds.
const REMEMBERED: usize = 16 * 1024;

/// A line between events, for a reader that was too slow.
#[derive(Serialize)]
struct Missed {
    missed: u64,
}

/// Answers with the events that `filter` lets through, and those to come if `follow` is set.
/// Whoever follows without saying since when gets only those to come.
pub async fn stream(
    server: &Server,
    connection: &Connection,
    filter: EventFilter,
    follow: bool,
) -> Result<Response<Body>, NodeError> {
    // Subscribed first, read then: nothing falls between.
    let live = if follow {
        Some(server.node.follow()?)
    } else {
        None
    };
    let wanted = filter.clone();
    let history = if follow && filter.since.is_none() {
        None
    } else {
        let opened = blocking(server, connection, true, move |server| {
            server.node.history(&wanted)
        });
        Some(opened.await?)
    };
    let (sender, body) = Channel::new(2);
    let pump = Pump {
        body: sender,
        server: server.clone(),
        stage: connection.stage.clone(),
        filter,
    };
    connection.stage.send_replace(Stage::Streaming);
    let connection = connection.clone();
    task::spawn(async move {
        let pass = connection.pass.clone();
        let stage = connection.stage.clone();
        drop(connection);
        // Ends with the connection, too: its receiver is the only one.
        tokio::select! {
            () = pump.run(history, live) => {}
            () = stage.closed() => {}
        }
        drop(pass);
    });
    Ok(reply::lines(body))
}

/// Moves events into a body.
struct Pump {
    body: Sender<Bytes>,
    server: Server,
    stage: watch::Sender<Stage>,
    filter: EventFilter,
}

/// The reader is gone, or does not read.
struct Gone;

impl Pump {
    async fn run(
        mut self,
        history: Option<History>,
        live: Option<broadcast::Receiver<Arc<EventRecord>>>,
    ) {
        let mut told = HashSet::new();
        if let Some(history) = history {
            match self.recorded(history, live.is_some()).await {
                Ok(last) => told.extend(last),
                Err(Gone) => return,
            }
        }
        if let Some(live) = live {
            // Ends when the reader is gone or the agent stops; both end the body.
            let _ = self.coming(live, told).await;
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        let patience = self.server.limits.stall_time;
        match time::timeout(patience, self.body.send_data(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                self.stage.send_replace(Stage::Stalled);
                Err(Gone)
            }
        }
    }

    /// Sends what is recorded; returns the last of it if it is to be remembered.
    async fn recorded(
        &mut self,
        history: History,
        remember: bool,
    ) -> Result<VecDeque<EventRecord>, Gone> {
        let Ok(turn) = self.server.gate.heavy.clone().acquire_owned().await else {
            return Err(Gone);
        };
        let (chunks, mut read) = mpsc::channel(2);
        let reader = task::spawn_blocking(move || {
            let _turn = turn;
            read_all(history, remember, &chunks)
        });
        while let Some(chunk) = read.recv().await {
            self.send(chunk).await?;
        }
        reader.await.map_err(|_| Gone)
    }

    async fn coming(
        &mut self,
        mut live: broadcast::Receiver<Arc<EventRecord>>,
        mut told: HashSet<EventRecord>,
    ) -> Result<(), Gone> {
        loop {
            let mut chunk = BytesMut::new();
            match live.recv().await {
                Ok(event) if told.remove(&*event) || !self.filter.admits(&event) => continue,
                Ok(event) => line(&mut chunk, &*event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    line(&mut chunk, &Missed { missed });
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
            self.send(chunk.freeze()).await?;
        }
    }
}

fn read_all(
    history: History,
    remember: bool,
    chunks: &mpsc::Sender<Bytes>,
) -> VecDeque<EventRecord> {
    let mut last = VecDeque::new();
    let mut chunk = BytesMut::with_capacity(CHUNK);
    for event in history {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                log::warn!("the history of events ends early: {error}");
                break;
            }
        };
        line(&mut chunk, &event);
        if remember {
            if last.len() == REMEMBERED {
                last.pop_front();
            }
            last.push_back(event);
        }
        if chunk.len() >= CHUNK && chunks.blocking_send(chunk.split().freeze()).is_err() {
            return last;
        }
    }
    if !chunk.is_empty() {
        // Whoever reads may be gone; then nobody misses it.
        let _ = chunks.blocking_send(chunk.freeze());
    }
    last
}

fn line<T: Serialize>(out: &mut BytesMut, value: &T) {
    if serde_json::to_writer(out.writer(), value).is_ok() {
        out.put_u8(b'\n');
    }
}
