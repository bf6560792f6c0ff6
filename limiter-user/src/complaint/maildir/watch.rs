//! Looking whenever something is delivered, and now and then anyway.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    time::{Duration, Instant, SystemTime},
};

use log::{info, warn};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch::Receiver,
    task::spawn_blocking,
    time::sleep,
};

use super::{Desk, folder::Folder, scan::Maildir};

/// How long until the next look if nobody says that something came.
const RESCAN: Duration = Duration::from_secs(30);
/// How often what is old is removed.
const PRUNE: Duration = Duration::from_secs(3_600);
/// How long after a delivery until the look: a burst is one.
const QUIET: Duration = Duration::from_millis(50);

/// Files that were moved in, linked in, or written to the end.
const DELIVERED: AddWatchFlags = AddWatchFlags::IN_MOVED_TO
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Inotify on `new/`, as tokio wants to see it, with the directory that it watches.
#[derive(Debug)]
struct Ear {
    inotify: Inotify,
    folder: Folder,
}

impl AsRawFd for Ear {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

/// Hands what is delivered into `maildir` to `desk` until `stop` becomes true or is dropped; then
/// gives the desk back. A Maildir that is missing or goes away is looked for again.
///
/// # Panics
/// Outside a tokio runtime with I/O and time.
pub async fn watch<D: Desk>(maildir: Maildir, mut desk: D, mut stop: Receiver<bool>) -> Option<D> {
    let mut ear = None;
    let mut pruned: Option<Instant> = None;
    while !*stop.borrow() {
        // Listening begins before the look, so that nothing falls between.
        if ear.as_ref().is_none_or(|ear: &AsyncFd<Ear>| {
            !ear.get_ref().folder.is_at(&maildir.path().join("new"))
        }) {
            ear = listen(&maildir);
        }
        let prune = pruned.is_none_or(|at| at.elapsed() >= PRUNE);
        if prune {
            pruned = Some(Instant::now());
        }
        let look = {
            let maildir = maildir.clone();
            spawn_blocking(move || {
                let result = maildir.look(&mut desk);
                if prune {
                    match maildir.prune(SystemTime::now()) {
                        Ok(0) => {}
                        Ok(removed) => info!("{removed} old files of reports were removed"),
                        Err(error) => warn!("old reports are kept: {error}"),
                    }
                }
                desk.health(result.as_ref().err());
                desk
            })
        };
        // A desk that panicked is gone: so is what it held.
        desk = look.await.ok()?;
        tokio::select! {
            () = heard(ear.as_ref()) => sleep(QUIET).await,
            () = sleep(RESCAN) => {}
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    Some(desk)
}

/// Begins to listen; `None` where that cannot be: the next look comes by the clock.
fn listen(maildir: &Maildir) -> Option<AsyncFd<Ear>> {
    let folder = maildir.new_folder().ok()?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    inotify
        .add_watch(folder.by_descriptor().as_str(), DELIVERED)
        .ok()?;
    // SAFETY: the inotify descriptor is owned by the ear, and so open, as long as it is registered.
    unsafe { AsyncFd::register_with_interest(Ear { inotify, folder }, Interest::READABLE) }.ok()
}

/// Waits for an event, and forgets those that came; for ever where nobody listens.
async fn heard(ear: Option<&AsyncFd<Ear>>) {
    let Some(ear) = ear else {
        return std::future::pending().await;
    };
    let Ok(mut ready) = ear.readable().await else {
        return std::future::pending().await;
    };
    while ear
        .get_ref()
        .inotify
        .read_events()
        .is_ok_and(|events| !events.is_empty())
    {}
    ready.clear_ready();
}
