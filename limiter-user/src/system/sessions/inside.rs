//! Whose a connection is that comes from another network namespace of this node.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    net::SocketAddr,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, TryLockError},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use super::{
    Where,
    diag::Diag,
    namespaces::{Ns, Search},
    owner::{self, Owner},
};
use crate::system::interfaces::Ways;

/// Looking at all threads of the node for namespaces that are not known yet may take one part in so many
/// of the time.
const LOOK_SHARE: u32 = 20;

/// How long to wait while all is looked through for another.
const A_MOMENT: Duration = Duration::from_millis(20);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its owner.
    Owner(Owner),
    /// No program there holds such a socket, or not any more.
    Nobody,
    /// There is no such namespace as far as can be seen: one that no thread is in and that is mounted
    /// nowhere.
    Nowhere,
    /// Not looked for now, for it was just looked for others: ask again after so long.
    Later(Duration),
}

/// Finds the owners of sockets in other namespaces. Any number of threads may ask.
pub struct Inside {
    own: Ns,
    known: Mutex<Known>,
}

/// Where the namespaces are found again, by the kernel's numbers for them. None is held open: a network
/// namespace would live on with its interfaces when its container is gone.
#[derive(Default)]
struct Known {
    places: HashMap<i32, Place>,
    /// From when on it may be looked again.
    next: Option<Instant>,
}

#[derive(Clone)]
struct Place {
    path: PathBuf,
    inode: u64,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Inside {
    /// For whoever asks on behalf of the calling thread's network namespace.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            own: Ns::own()?,
            known: Mutex::default(),
        })
    }

    /// The owner of the socket whose own address is `local` and whose peer is `remote`, in the namespace
    /// that this one knows as `namespace`. Where addresses are translated on the way it is not found.
    ///
    /// # Errors
    /// The namespaces cannot be looked at.
    pub fn owner_of(
        &self,
        ways: &Ways,
        namespace: i32,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Found> {
        let file = match self.again(ways, namespace)? {
            Again::Found(file) => file,
            Again::Later => return Ok(Found::Later(A_MOMENT)),
            Again::No => match self.look(ways, namespace)? {
                Looked::Found(file) => file,
                Looked::Nowhere => return Ok(Found::Nowhere),
                Looked::Later(wait) => return Ok(Found::Later(wait)),
            },
        };
        let owner = thread::scope(|scope| {
            let there = thread::Builder::new()
                .name("limiter-netns".to_owned())
                .spawn_scoped(scope, || there(&file, local, remote))?;
            there
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(owner.map_or(Found::Nobody, Found::Owner))
    }

    /// The namespace where it was found before, if it is still that one.
    fn again(&self, ways: &Ways, namespace: i32) -> io::Result<Again> {
        let place = match self.known.try_lock() {
            Ok(known) => known.places.get(&namespace).cloned(),
            Err(TryLockError::Poisoned(known)) => {
                known.into_inner().places.get(&namespace).cloned()
            }
            // Somebody is looking through all: nobody waits for that.
            Err(TryLockError::WouldBlock) => return Ok(Again::Later),
        };
        let Some(Place { path, inode }) = place else {
            return Ok(Again::No);
        };
        let Ok(file) = File::open(path) else {
            return Ok(Again::No);
        };
        // Numbers and inodes are given anew when a namespace goes.
        let same = file.metadata().is_ok_and(|it| it.ino() == inode)
            && ways.namespace_id(&file)? == Some(namespace);
        Ok(if same { Again::Found(file) } else { Again::No })
    }

    /// Looks for all there are. One at a time, and not too often: whoever starts a container a second
    /// does not keep the agent busy.
    fn look(&self, ways: &Ways, namespace: i32) -> io::Result<Looked> {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Looked::Later(A_MOMENT)),
        };
        let start = Instant::now();
        let wait = known.next.map(|next| next.duration_since(start));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Ok(Looked::Later(wait));
        }
        known.places.clear();
        let mut wanted = None;
        let mut failed = None;
        let mut found = |ns: Ns, path: &Path, file: File| match ways.namespace_id(&file) {
            Ok(Some(number)) => {
                let path = path.to_owned();
                let inode = ns.inode;
                known.places.insert(number, Place { path, inode });
                if number == namespace {
                    wanted = Some(file);
                }
            }
            Ok(None) => {}
            Err(error) => failed = Some(error),
        };
        Search::new(self.own, &mut found).run(Where::All)?;
        let now = Instant::now();
        known.next = Some(now + now.duration_since(start) * LOOK_SHARE);
        drop(known);
        match (wanted, failed) {
            (Some(file), _) => Ok(Looked::Found(file)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Looked::Nowhere),
        }
    }
}

enum Again {
    Found(File),
    No,
    Later,
}

enum Looked {
    Found(File),
    Nowhere,
    Later(Duration),
}

/// Moves the calling thread into the namespace and asks there.
fn there(namespace: &File, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Owner>> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let mut diag = Diag::open()?;
    owner::find(&mut diag, local, remote)
}
