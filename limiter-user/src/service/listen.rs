//! Where mail programs knock, and who is let in.
//!
//! A UNIX socket lets only those connect who may ask ([`access`](super::access)), and the kernel says
//! who did. At a loopback address anybody can knock; who it is, is looked up by the connection's
//! addresses, and whoever may not ask learns nothing but that the connection is closed. Nobody answers
//! there in the agent's place while it is away, where only root can listen: at a UNIX socket in a directory
//! of root's, or at a privileged port.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time,
};

use super::{access, callers::Callers};
use crate::{
    policy::services::ServiceAddress,
    system::{
        sessions::Owners,
        socket_file::{SocketError, SocketFile},
    },
};

/// How many connections may wait to be let in.
const BACKLOG: u32 = 1024;
/// How often who may use a UNIX socket is compared with who may ask.
const LOOK: Duration = Duration::from_secs(2);
/// How often whoever is turned away is told of.
const GRUMBLE: Duration = Duration::from_secs(60);
/// How long a failure to accept is waited out.
const RECOVER: Duration = Duration::from_millis(100);

/// Either end of a conversation.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The uid, from the kernel.
    pub uid: u32,
    /// The number of the connection; no other of this process has it.
    pub connection: u64,
    /// Where it knocked, as the configuration writes it.
    pub door: Arc<str>,
}

impl Caller {
    /// This user, by this connection, at this address.
    #[must_use]
    pub fn new(uid: u32, connection: u64, door: &str) -> Self {
        Self {
            uid,
            connection,
            door: Arc::from(door),
        }
    }
}

/// Why nobody can knock at an address.
#[derive(Debug, Error)]
pub enum DoorError {
    /// The UNIX socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The loopback address cannot be had.
    #[error(
        "cannot listen at {address} (`{key}`): {source}; if another program has it, `ss -tlnp` names it"
    )]
    Inet {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration that names it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Owners of connections cannot be looked up.
    #[error("cannot look up who connects to {address} (`{key}`): {source}")]
    Owners {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration that names it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// What happened at a door.
#[derive(Debug, Default)]
pub struct Visits {
    /// Connections that were let in.
    pub admitted: AtomicU64,
    /// Connections of users who may not ask.
    pub strangers: AtomicU64,
    /// Connections for which there was no room.
    pub crowded: AtomicU64,
    /// Connections that are open.
    pub open: AtomicU64,
}

/// Where mail programs knock.
#[derive(Debug)]
pub struct Door {
    address: ServiceAddress,
    listener: Listener,
    callers: Arc<Callers>,
    visits: Arc<Visits>,
    /// Who may use the UNIX socket now.
    granted: Arc<BTreeSet<u32>>,
    grumbled: Option<Instant>,
    room: usize,
}

#[derive(Debug)]
enum Listener {
    Unix(SocketFile),
    Inet(TcpListener, Owners),
}

/// A connection, and whose it is; `None`: nobody's any more.
type Knock = (Box<dyn Stream>, Option<u32>);

impl Door {
    /// How many connections there may be at one door, unless told otherwise. Postfix has 100 processes that
    /// ask, unless it is told otherwise.
    pub const ROOM: usize = 1_000;

    /// Opens one, where `key` of the configuration says. Must be called in a tokio runtime, by a thread that
    /// is in the node's network namespace.
    ///
    /// # Errors
    /// The address is taken, or the system refuses.
    pub fn open(
        address: &ServiceAddress,
        key: &'static str,
        callers: Arc<Callers>,
    ) -> Result<Self, DoorError> {
        let granted = callers.all();
        let listener = match address {
            ServiceAddress::Unix(path) => Listener::Unix(SocketFile::bind(path, key, |socket| {
                access::admit(socket, &granted)
            })?),
            ServiceAddress::Inet(address) => {
                let listener = listen(*address).map_err(|source| DoorError::Inet {
                    address: *address,
                    key,
                    source,
                })?;
                let owners = Owners::open().map_err(|source| DoorError::Owners {
                    address: *address,
                    key,
                    source,
                })?;
                Listener::Inet(listener, owners)
            }
        };
        Ok(Self {
            address: address.clone(),
            listener,
            callers,
            visits: Arc::default(),
            granted,
            grumbled: None,
            room: Self::ROOM,
        })
    }

    /// With room for so many connections.
    #[must_use]
    pub fn with_room(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    /// What happens here, to be looked at while it is served.
    #[must_use]
    pub fn visits(&self) -> Arc<Visits> {
        Arc::clone(&self.visits)
    }

    /// Lets in whoever may ask, and has `converse` talk with them, until `stop` is done. Conversations end
    /// with it.
    pub async fn serve<C, F>(mut self, converse: C, stop: impl Future<Output = ()> + Send)
    where
        C: Fn(Box<dyn Stream>, Caller) -> F + Send,
        F: Future<Output = ()> + Send + 'static,
    {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let mut conversations = JoinSet::new();
        let mut look = time::interval(LOOK);
        let name: Arc<str> = Arc::from(self.address.to_string());
        let mut stop = std::pin::pin!(stop);
        loop {
            let knock = tokio::select! {
                () = &mut stop => return,
                Some(_) = conversations.join_next() => {
                    self.visits.open.store(count(conversations.len()), Ordering::Relaxed);
                    continue;
                }
                _ = look.tick() => {
                    self.look();
                    continue;
                }
                knock = self.listener.knock() => knock,
            };
            let (stream, uid) = match knock {
                Ok(knock) => knock,
                Err(error) => {
                    // Out of descriptors, most likely: give the others time to end.
                    log::warn!("cannot accept a connection at {}: {error}", self.address);
                    time::sleep(RECOVER).await;
                    continue;
                }
            };
            let Some(uid) = uid.filter(|uid| self.callers.may(*uid)) else {
                self.visits.strangers.fetch_add(1, Ordering::Relaxed);
                self.grumble(&match uid {
                    Some(uid) => format!("uid {uid} may not ask (`services.allowed_users`)"),
                    None => "somebody who was gone at once".to_owned(),
                });
                continue;
            };
            if conversations.len() >= self.room {
                self.visits.crowded.fetch_add(1, Ordering::Relaxed);
                self.grumble(&format!("there are {} connections already", self.room));
                continue;
            }
            self.visits.admitted.fetch_add(1, Ordering::Relaxed);
            let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let caller = Caller {
                uid,
                connection,
                door: Arc::clone(&name),
            };
            conversations.spawn(converse(stream, caller));
            self.visits
                .open
                .store(count(conversations.len()), Ordering::Relaxed);
        }
    }

    /// Has the file system agree with who may ask.
    fn look(&mut self) {
        let Listener::Unix(socket) = &self.listener else {
            return;
        };
        let callers = self.callers.all();
        if callers == self.granted {
            return;
        }
        match access::admit(socket.path(), &callers) {
            Ok(()) => self.granted = callers,
            Err(error) => {
                let path: &Path = socket.path();
                self.grumble(&format!(
                    "cannot change who may use {}: {error}",
                    path.display()
                ));
            }
        }
    }

    /// Tells of who was turned away, now and then.
    fn grumble(&mut self, why: &str) {
        let now = Instant::now();
        if self.grumbled.is_some_and(|last| now - last < GRUMBLE) {
            return;
        }
        self.grumbled = Some(now);
        let Visits {
            strangers, crowded, ..
        } = &*self.visits;
        log::warn!(
            "turned away at {}: {why} (strangers so far: {}, without room: {})",
            self.address,
            strangers.load(Ordering::Relaxed),
            crowded.load(Ordering::Relaxed)
        );
    }
}

impl Listener {
    async fn knock(&self) -> io::Result<Knock> {
        match self {
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Box::new(stream), uid))
            }
            Self::Inet(listener, owners) => {
                let (stream, peer) = listener.accept().await?;
                // Small questions and answers, one at a time.
                let _ = stream.set_nodelay(true);
                let own = stream.local_addr()?;
                let uid = match owners.owner_of(peer, own) {
                    Ok(owner) => owner.map(|owner| owner.uid),
                    Err(error) => {
                        log::warn!("cannot look up who connected to {own}: {error}");
                        None
                    }
                };
                Ok((Box::new(stream), uid))
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // What an earlier agent's connections left behind is no listener.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn count(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
