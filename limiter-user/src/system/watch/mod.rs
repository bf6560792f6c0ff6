//! Says when the users, the cgroups or the addresses of this machine change.
//!
//! What is watched: the directories of the files of users (editors and `useradd` rename a new file
//! over the old one), exactly those cgroup directories whose children can match a pattern, and the
//! kernel's messages about addresses. Users whom only the name service knows cannot be watched.

mod addresses;
mod directories;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep_until};

use self::{addresses::AddressMessages, directories::Directories};
use super::{Sources, cgroup_patterns};
use crate::policy::model::Policy;

/// After the last event of a burst it takes this long until the change is reported.
const QUIET: Duration = Duration::from_millis(5);
/// However long a burst lasts, its change is reported this long after its first event. With what
/// the scheduler adds it stays below a tenth of a second.
const LONGEST: Duration = Duration::from_millis(50);

/// What may have changed since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Users or their sub-uid ranges.
    pub users: bool,
    /// Cgroups that match a pattern, or lead to one.
    pub cgroups: bool,
    /// Addresses of interfaces.
    pub addresses: bool,
}

impl Changes {
    /// Everything: what is reported when events were lost.
    pub const ALL: Self = Self {
        users: true,
        cgroups: true,
        addresses: true,
    };

    /// Whether anything changed.
    #[must_use]
    pub const fn any(self) -> bool {
        let Self {
            users,
            cgroups,
            addresses,
        } = self;
        users || cgroups || addresses
    }

    /// Both together.
    const fn add(&mut self, other: Self) {
        let Self {
            users,
            cgroups,
            addresses,
        } = other;
        self.users |= users;
        self.cgroups |= cgroups;
        self.addresses |= addresses;
    }
}

/// Why changes can no longer be told. The watcher is of no use then: start a new one, and look at
/// everything again.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A watcher could not be opened.
    #[error(
        "cannot watch for changes ({call}): {source}{}",
        instances_hint(source)
    )]
    Open {
        /// The system call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A directory could not be watched.
    #[error("cannot watch {} for changes: {source}{}", path.display(), watches_hint(source))]
    Directory {
        /// The directory, or the root of those to be watched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory that is always there was removed, renamed or unmounted.
    #[error("{} is gone or was replaced: changes below it are no longer seen", path.display())]
    Lost {
        /// The directory.
        path: PathBuf,
    },
    /// Events could not be read.
    #[error("cannot read the {what} of this machine any more: {source}")]
    Read {
        /// Which events.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do when the system has no room for another watcher.
fn instances_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the sysctl fs.inotify.max_user_instances or the file limit",
        _ => "",
    }
}

/// What to do when the system has no room for another watch.
fn watches_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "; raise the sysctl fs.inotify.max_user_watches",
        _ => "",
    }
}

/// Watches this machine. It must live in a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct Watcher {
    directories: Directories,
    addresses: AddressMessages,
    pending: Changes,
    /// When the first and the last event came that are in `pending`.
    burst: Option<(Instant, Instant)>,
}

impl Watcher {
    /// Starts to watch the users, the addresses of the calling thread's network namespace, and the
    /// cgroups that `policy` asks for.
    ///
    /// # Errors
    /// When the system cannot watch, or has no room for more watches.
    pub fn start(policy: &Policy, sources: &Sources) -> Result<Self, WatchError> {
        let mut directories = Directories::open(sources)?;
        directories.follow_cgroups(cgroup_patterns(policy))?;
        Ok(Self {
            directories,
            addresses: AddressMessages::open()?,
            pending: Changes::default(),
            burst: None,
        })
    }

    /// Watches the cgroups that `policy` asks for, in place of those watched until now. Events that
    /// were not reported yet are kept.
    ///
    /// # Errors
    /// When the system has no room for more watches. The watcher is of no use then.
    pub fn follow(&mut self, policy: &Policy) -> Result<(), WatchError> {
        self.directories.follow_cgroups(cgroup_patterns(policy))
    }

    /// Waits for the next changes: a burst of events is one change, reported some milliseconds
    /// after its last event and never a tenth of a second after its first.
    ///
    /// Nothing is lost when the returned future is dropped before it is done.
    ///
    /// # Errors
    /// When changes can no longer be told.
    pub async fn changes(&mut self) -> Result<Changes, WatchError> {
        loop {
            let due = self
                .burst
                .map(|(first, last)| (last + QUIET).min(first + LONGEST));
            if due.is_some_and(|due| due <= Instant::now()) {
                self.burst = None;
                return Ok(std::mem::take(&mut self.pending));
            }
            let seen = tokio::select! {
                events = self.directories.read() => self.directories.judge(&events?)?,
                message = self.addresses.read() => message?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
            };
            if seen.any() {
                self.pending.add(seen);
                let now = Instant::now();
                self.burst = Some((self.burst.map_or(now, |(first, _)| first), now));
            }
        }
    }
}
