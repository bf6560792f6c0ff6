//! Directories in which something that matters comes and goes (inotify(7)).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::io::unix::AsyncFd;

use super::{Changes, WatchError};
use crate::system::{
    Sources,
    pattern::{PatternSet, Place, vanished},
};

/// What is asked of the directories of files: written in place, renamed over, made, removed.
const FILES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// What is asked of cgroups: a v2 cgroup is made and removed, never renamed.
const CGROUPS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::IN_DONT_FOLLOW);

/// The watched directories.
#[derive(Debug)]
pub(super) struct Directories {
    inotify: AsyncFd<Descriptor>,
    watched: HashMap<WatchDescriptor, Watched>,
    patterns: PatternSet,
    sources: Sources,
}

/// Inotify, as tokio wants to see it.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Why a directory is watched.
#[derive(Debug)]
enum Watched {
    /// It holds files of users.
    Users {
        path: PathBuf,
        names: HashSet<OsString>,
    },
    /// Cgroups below it can match.
    Cgroups { path: PathBuf, places: Vec<Place> },
}

impl Directories {
    /// Watches the files of users; cgroups follow with [`Self::follow_cgroups`].
    pub(super) fn open(sources: &Sources) -> Result<Self, WatchError> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|error| {
                WatchError::Open {
                    call: "inotify_init1",
                    source: error.into(),
                }
            })?;
        let inotify = AsyncFd::new(Descriptor(inotify)).map_err(|source| WatchError::Open {
            call: "epoll inotify",
            source,
        })?;
        let mut directories = Self {
            inotify,
            watched: HashMap::new(),
            patterns: PatternSet::new(std::iter::empty()),
            sources: sources.clone(),
        };
        directories.watch_users()?;
        Ok(directories)
    }

    /// Watches the directories of the files of users, and where the files are links, of what they
    /// lead to.
    fn watch_users(&mut self) -> Result<(), WatchError> {
        let mut names: BTreeMap<PathBuf, HashSet<OsString>> = BTreeMap::new();
        for file in [&self.sources.passwd, &self.sources.subuid] {
            for file in [Some(file.clone()), fs::canonicalize(file).ok()]
                .into_iter()
                .flatten()
            {
                if let (Some(directory), Some(name)) = (file.parent(), file.file_name()) {
                    names
                        .entry(directory.to_owned())
                        .or_default()
                        .insert(name.to_owned());
                }
            }
        }
        let old: Vec<WatchDescriptor> = self
            .watched
            .extract_if(|_, watched| matches!(watched, Watched::Users { .. }))
            .map(|(watch, _)| watch)
            .collect();
        for (path, names) in names {
            let watch = add_watch(self.inotify.get_ref(), &path, FILES).map_err(|source| {
                WatchError::Directory {
                    path: path.clone(),
                    source,
                }
            })?;
            // Two names of one directory share a watch.
            match self.watched.get_mut(&watch) {
                Some(Watched::Users { names: known, .. }) => known.extend(names),
                _ => {
                    self.watched.insert(watch, Watched::Users { path, names });
                }
            }
        }
        for watch in old {
            if !self.watched.contains_key(&watch) {
                self.remove_watch(watch);
            }
        }
        Ok(())
    }

    /// Watches exactly the cgroups below which `patterns` can match, as far as they exist.
    pub(super) fn follow_cgroups<'a>(
        &mut self,
        patterns: impl Iterator<Item = &'a str>,
    ) -> Result<(), WatchError> {
        self.patterns = PatternSet::new(patterns);
        self.watch_all_cgroups()
    }

    fn watch_all_cgroups(&mut self) -> Result<(), WatchError> {
        let mount = self.sources.cgroup_mount.clone();
        fs::metadata(&mount).map_err(|source| WatchError::Directory {
            path: mount.clone(),
            source,
        })?;
        let used = self.watch_cgroups(&mount, &[Place::ROOT])?;
        let unused: Vec<WatchDescriptor> = self
            .watched
            .extract_if(|watch, watched| {
                matches!(watched, Watched::Cgroups { .. }) && !used.contains(watch)
            })
            .map(|(watch, _)| watch)
            .collect();
        for watch in unused {
            self.remove_watch(watch);
        }
        Ok(())
    }

    /// Gives up a watch.
    fn remove_watch(&self, watch: WatchDescriptor) {
        // It fails where the directory is gone, and the watch with it: that is as good.
        let _gone = self.inotify.get_ref().0.rm_watch(watch);
    }

    /// Watches a cgroup that is at `places` in the tree of patterns, and those below it, as far as
    /// more can match there. Returns the watches.
    fn watch_cgroups(
        &mut self,
        top: &Path,
        places: &[Place],
    ) -> Result<HashSet<WatchDescriptor>, WatchError> {
        let Self {
            inotify,
            watched,
            patterns,
            sources: _,
        } = self;
        let mut used = HashSet::new();
        patterns
            .walk(top, places, &mut |path, places| {
                if !patterns.goes_on(places) {
                    return Ok(());
                }
                match add_watch(inotify.get_ref(), path, CGROUPS) {
                    Ok(watch) => {
                        used.insert(watch);
                        let (path, places) = (path.to_owned(), places.to_vec());
                        watched.insert(watch, Watched::Cgroups { path, places });
                        Ok(())
                    }
                    Err(error) if vanished(&error) => Ok(()),
                    Err(error) => Err(error),
                }
            })
            .map_err(|source| WatchError::Directory {
                path: top.to_owned(),
                source,
            })?;
        Ok(used)
    }

    /// Waits for events.
    pub(super) async fn read(&self) -> Result<Vec<InotifyEvent>, WatchError> {
        let failed = |source| WatchError::Read {
            what: "changes of files and cgroups",
            source,
        };
        loop {
            let mut ready = self.inotify.readable().await.map_err(failed)?;
            match ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(events) => return events.map_err(failed),
                Err(_would_block) => {}
            }
        }
    }

    /// What `events` mean. Directories that appeared are watched before their change is reported.
    pub(super) fn judge(&mut self, events: &[InotifyEvent]) -> Result<Changes, WatchError> {
        let mut changes = Changes::default();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // Whatever is in the rest of the queue is seen by looking at everything again.
                self.watch_users()?;
                self.watch_all_cgroups()?;
                return Ok(Changes::ALL);
            }
            let Some(watched) = self.watched.get(&event.wd) else {
                continue; // A watch that was given up while the event was in the queue.
            };
            match watched {
                Watched::Users { path, names } => {
                    if gone(event.mask) {
                        return Err(WatchError::Lost { path: path.clone() });
                    }
                    if event.name.as_ref().is_some_and(|name| names.contains(name)) {
                        changes.users = true;
                    }
                }
                Watched::Cgroups { path, places } => {
                    if gone(event.mask) {
                        if *path == self.sources.cgroup_mount {
                            return Err(WatchError::Lost { path: path.clone() });
                        }
                        self.watched.remove(&event.wd);
                        continue;
                    }
                    let name = event.name.as_deref().unwrap_or(OsStr::new(""));
                    let children = self.patterns.child(places, &name.to_string_lossy());
                    if !children.is_empty() && event.mask.contains(AddWatchFlags::IN_ISDIR) {
                        changes.cgroups = true;
                        let child = path.join(name);
                        if event.mask.contains(AddWatchFlags::IN_CREATE) {
                            self.watch_cgroups(&child, &children)?;
                        }
                    }
                }
            }
        }
        if changes.users {
            // Where a file is a link, it may lead somewhere else now.
            self.watch_users()?;
        }
        Ok(changes)
    }

    /// How many directories are watched.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.watched.len()
    }
}

/// Watches a directory.
fn add_watch(
    inotify: &Descriptor,
    path: &Path,
    what: AddWatchFlags,
) -> io::Result<WatchDescriptor> {
    inotify
        .0
        .add_watch(path, what)
        .map_err(|error: Errno| error.into())
}

/// Whether an event says that the watched directory itself is no longer there.
fn gone(mask: AddWatchFlags) -> bool {
    mask.intersects(
        AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_UNMOUNT | AddWatchFlags::IN_MOVE_SELF,
    )
}
